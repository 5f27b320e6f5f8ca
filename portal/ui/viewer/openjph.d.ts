// What this viewer uses of OpenJPH's JavaScript.
declare module "@cornerstonejs/codec-openjph/wasmjs" {
  interface Decoder {
    getEncodedBuffer(length: number): Uint8Array;
    decode(): void;
    getFrameInfo(): { bitsPerSample: number; componentCount: number };
    getDecodedBuffer(): Uint8Array;
  }
  const open: (options: { locateFile: (name: string) => string }) => Promise<{ HTJ2KDecoder: new () => Decoder }>;
  export default open;
}
declare module "@cornerstonejs/codec-openjph/wasm?url" {
  const url: string;
  export default url;
}
