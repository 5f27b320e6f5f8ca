// The decoder's end in the page: made when the first compressed frame comes, one worker for all series.

export interface Asked {
  id: number;
  bytes: ArrayBuffer;
  bitsAllocated: number;
  count: number; // pixels
}

export interface Answered {
  id: number;
  words: ArrayBuffer | null; // null: it cannot be decoded
}

export interface Decoder {
  /** The words of a frame. Rejects when they cannot be had here. */
  decode: (bytes: ArrayBuffer, bitsAllocated: number, count: number) => Promise<ArrayBuffer>;
  close: () => void;
}

export const canDecode = (): boolean => typeof Worker === "function" && typeof WebAssembly === "object";

export function newDecoder(): Decoder {
  let worker: Worker | null = null;
  let last = 0;
  const waiting = new Map<number, { done: (words: ArrayBuffer) => void; failed: (why: Error) => void }>();
  const fail = (): void => {
    for (const { failed } of waiting.values()) failed(new Error("the decoder cannot start"));
    waiting.clear();
  };
  function start(): Worker {
    const made = new Worker(new URL("./decode_worker.ts", import.meta.url), { type: "module" });
    made.addEventListener("message", ({ data }: MessageEvent<Answered>) => {
      const who = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.words) who?.done(data.words);
      else who?.failed(new Error("the frame cannot be decoded"));
    });
    made.addEventListener("error", fail);
    return made;
  }
  return {
    decode: (bytes, bitsAllocated, count) =>
      new Promise((done, failed) => {
        worker ??= start();
        const id = ++last;
        waiting.set(id, { done, failed });
        worker.postMessage({ id, bytes, bitsAllocated, count } satisfies Asked, [bytes]);
      }),
    close: () => {
      worker?.terminate();
      fail();
    },
  };
}
