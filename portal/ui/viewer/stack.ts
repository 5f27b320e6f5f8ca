// One series as a stack of frames: its metadata, its pixels and its previews, fetched before they are asked for.

import { canDecode, type Decoder } from "./decoder";
import { frameOf, type DataSet, type Frame } from "./frame";

const EXPLICIT_LITTLE = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
const HTJ2K = "image/jphc; transfer-syntax=1.2.840.10008.1.2.4.201";
const AT_ONCE = 4; // requests for pixels that run beside each other
const AHEAD = 16; // frames fetched to either side of the shown one: looking at one image must not cost a whole series
const KEPT_BYTES = 48 * 1024 * 1024 * Math.max(1, Math.min(6, (navigator as { deviceMemory?: number }).deviceMemory ?? 2));

export type Words = Uint8Array | Uint16Array;

/** The server answered 401: the share has ended. */
export class Ended extends Error {}

export async function askJson<T>(url: string, signal: AbortSignal, accept = "application/dicom+json"): Promise<T> {
  const answer = await asked(url, accept, signal);
  return (answer.status === 204 ? [] : await answer.json()) as T;
}

async function asked(url: string, accept: string, signal: AbortSignal): Promise<Response> {
  const answer = await fetch(url, { headers: { Accept: accept }, credentials: "same-origin", referrerPolicy: "no-referrer", signal });
  if (answer.status === 401) throw new Ended();
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer;
}

export interface Place {
  baseUrl: string;
  previewUrl: string; // of this study
  study: string;
  series: string;
}

export interface Stack {
  place: Place;
  frames: Frame[];
  /** The stored words of a frame when they are here. */
  words: (at: number) => Words | undefined;
  /** How they came: `htj2k` or `raw`. */
  form: (at: number) => string;
  /** Let these be fetched next: the frame that is shown, then the nearest. */
  want: (at: number) => void;
  /** Whether those around the shown frame are fetched too; at first they are. */
  fetchAround: (wanted: boolean) => void;
  /** The words of a frame, fetched now, not kept. */
  fetch: (at: number) => Promise<Words>;
  /** The address of the server's picture of a frame. */
  preview: (at: number, side: number) => string;
}

/** A series of a study; `sort` puts its frames in order. */
export async function openStack(
  place: Place,
  sort: (frames: Frame[]) => Frame[],
  arrived: (at: number) => void,
  ended: () => void,
  decoder: Decoder,
  signal: AbortSignal,
): Promise<Stack> {
  const root = `${place.baseUrl}/studies/${place.study}/series/${place.series}`;
  const sets = await askJson<DataSet[]>(`${root}/metadata`, signal);
  const frames = sort(
    sets.flatMap((set) =>
      Array.from({ length: Number(set["00280008"]?.Value?.[0] ?? 1) }, (_, at) => frameOf(set, at + 1)),
    ),
  );
  const held = new Map<number, { words: Words; form: string }>();
  const asking = new Set<number>();
  const refused = new Set<number>();
  let mayDecode = canDecode();
  let heldBytes = 0;
  let middle = 0;
  let around = true;

  /** The nearest frame that is neither here nor asked for, as long as there is room for it. */
  function next(): number | undefined {
    const size = (frames[middle]?.rows ?? 1) * (frames[middle]?.columns ?? 1) * 2;
    const room = Math.max(1, Math.min(AHEAD, Math.floor(KEPT_BYTES / size / 2)));
    for (let step = 0; step <= (around ? Math.min(room, frames.length) : 0); step++) {
      for (const at of step ? [middle + step, middle - step] : [middle]) {
        if (frames[at]?.isGrey && !held.has(at) && !asking.has(at) && !refused.has(at)) return at;
      }
    }
    return undefined;
  }

  async function load(at: number): Promise<{ words: Words; form: string }> {
    const frame = frames[at] as Frame;
    const { bitsAllocated, bitsStored, highBit } = frame.stored;
    const count = frame.rows * frame.columns;
    const inWords = (buffer: ArrayBuffer): Words =>
      bitsAllocated === 8 ? new Uint8Array(buffer, 0, count) : new Uint16Array(buffer, 0, count);
    // The codec has no bits beside those of a sample: where the words hold others, they come as they are.
    const compressed = mayDecode && highBit === bitsStored - 1;
    const url = `${root}/instances/${frame.instance}/frames/${frame.number}`;
    const answer = await asked(url, compressed ? `${HTJ2K}, ${EXPLICIT_LITTLE}` : EXPLICIT_LITTLE, signal);
    const bytes = await answer.arrayBuffer();
    if (!answer.headers.get("Content-Type")?.startsWith("image/jphc")) return { words: inWords(bytes), form: "raw" };
    try {
      return { words: inWords(await decoder.decode(bytes, bitsAllocated, count)), form: "htj2k" };
    } catch {
      mayDecode = false; // a browser without what the codec needs: from now on as they are
      return load(at);
    }
  }

  async function fetchOne(at: number): Promise<void> {
    asking.add(at);
    try {
      const loaded = await load(at);
      held.set(at, loaded);
      heldBytes += loaded.words.byteLength;
      forget();
      arrived(at);
    } catch (failure) {
      if (failure instanceof Ended) ended();
      refused.add(at); // the server's picture stays
    } finally {
      asking.delete(at);
      if (!signal.aborted) pump();
    }
  }

  /** The farthest go first. */
  function forget(): void {
    while (heldBytes > KEPT_BYTES && held.size > 1) {
      const far = [...held.keys()].reduce((one, other) => (Math.abs(other - middle) > Math.abs(one - middle) ? other : one));
      heldBytes -= held.get(far)?.words.byteLength ?? 0;
      held.delete(far);
    }
  }

  function pump(): void {
    while (asking.size < AT_ONCE) {
      const at = next();
      if (at === undefined) return;
      void fetchOne(at);
    }
  }

  return {
    place,
    frames,
    words: (at) => held.get(at)?.words,
    form: (at) => held.get(at)?.form ?? "",
    want: (at) => {
      middle = at;
      pump();
    },
    fetchAround: (wanted) => {
      around = wanted;
      pump();
    },
    fetch: async (at) => held.get(at)?.words ?? (await load(at)).words,
    preview: (at, side) =>
      `${place.previewUrl}/${place.series}/${frames[at]?.instance ?? ""}/${frames[at]?.number ?? 1}?side=${side}`,
  };
}
