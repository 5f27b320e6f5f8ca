// Decodes HTJ2K beside the page, so that no drag waits for it. OpenJPH, as WebAssembly.

import openjph from "@cornerstonejs/codec-openjph/wasmjs";
import wasm from "@cornerstonejs/codec-openjph/wasm?url";
import type { Asked, Answered } from "./decoder";

const codec = openjph({ locateFile: () => wasm }).then((made) => ({ made, decoder: new made.HTJ2KDecoder() }));

self.addEventListener("message", ({ data }: MessageEvent<Asked>) => {
  void decode(data).then(
    (answer) => self.postMessage(answer, { transfer: answer.words ? [answer.words] : [] }),
    () => self.postMessage({ id: data.id, words: null } satisfies Answered),
  );
});

async function decode({ id, bytes, bitsAllocated, count }: Asked): Promise<Answered> {
  const { decoder } = await codec;
  decoder.getEncodedBuffer(bytes.byteLength).set(new Uint8Array(bytes));
  decoder.decode();
  const { bitsPerSample, componentCount } = decoder.getFrameInfo();
  const decoded = decoder.getDecodedBuffer(); // in the codec's own memory: to be copied
  const isWide = bitsPerSample > 8;
  if (componentCount !== 1 || decoded.byteLength !== count * (isWide ? 2 : 1)) throw new Error("another image");
  if (isWide === (bitsAllocated === 16)) return { id, words: decoded.slice().buffer };
  if (isWide) throw new Error("another image");
  return { id, words: Uint16Array.from(decoded).buffer }; // few bits in words of 16
}
