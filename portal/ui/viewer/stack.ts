// One series as a stack of frames: its metadata, its pixels and its previews, fetched before they are asked for.

import { frameOf, type DataSet, type Frame } from "./frame";

const EXPLICIT_LITTLE = "1.2.840.10008.1.2.1";
const AT_ONCE = 4; // requests for pixels that run beside each other
const KEPT_BYTES = 48 * 1024 * 1024 * Math.max(1, Math.min(6, (navigator as { deviceMemory?: number }).deviceMemory ?? 2));

export type Words = Uint8Array | Uint16Array;

/** The server answered 401: the share has ended. */
export class Ended extends Error {}

export async function askJson<T>(url: string, signal: AbortSignal): Promise<T> {
  const answer = await asked(url, "application/dicom+json", signal);
  return (answer.status === 204 ? [] : await answer.json()) as T;
}

async function asked(url: string, accept: string, signal: AbortSignal): Promise<Response> {
  const answer = await fetch(url, { headers: { Accept: accept }, credentials: "same-origin", referrerPolicy: "no-referrer", signal });
  if (answer.status === 401) throw new Ended();
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer;
}

export interface Stack {
  frames: Frame[];
  /** The stored words of a frame when they are here. */
  words: (at: number) => Words | undefined;
  /** Let these be fetched next: the frame that is shown, then the nearest. */
  want: (at: number) => void;
  /** The address of the server's picture of a frame. */
  preview: (at: number, side: number) => string;
}

/** Frames in the order that `order` (`instance/frames`) lists them; else by their place along the normal. */
export async function openStack(
  place: { baseUrl: string; previewUrl: string; study: string; series: string },
  sort: (frames: Frame[]) => Frame[],
  arrived: (at: number) => void,
  ended: () => void,
  signal: AbortSignal,
): Promise<Stack> {
  const root = `${place.baseUrl}/studies/${place.study}/series/${place.series}`;
  const sets = await askJson<DataSet[]>(`${root}/metadata`, signal);
  const frames = sort(
    sets.flatMap((set) =>
      Array.from({ length: Number(set["00280008"]?.Value?.[0] ?? 1) }, (_, at) => frameOf(set, at + 1)),
    ),
  );
  const held = new Map<number, Words>();
  const asking = new Set<number>();
  const refused = new Set<number>();
  let heldBytes = 0;
  let middle = 0;

  /** The nearest frame that is neither here nor asked for, as long as there is room for it. */
  function next(): number | undefined {
    const size = (frames[middle]?.rows ?? 1) * (frames[middle]?.columns ?? 1) * 2;
    const room = Math.max(1, Math.floor(KEPT_BYTES / size / 2));
    for (let step = 0; step <= Math.min(room, frames.length); step++) {
      for (const at of step ? [middle + step, middle - step] : [middle]) {
        if (frames[at]?.isGrey && !held.has(at) && !asking.has(at) && !refused.has(at)) return at;
      }
    }
    return undefined;
  }

  async function fetchOne(at: number): Promise<void> {
    const frame = frames[at] as Frame;
    asking.add(at);
    try {
      const accept = `application/octet-stream; transfer-syntax=${EXPLICIT_LITTLE}`;
      const answer = await asked(`${root}/instances/${frame.instance}/frames/${frame.number}`, accept, signal);
      const bytes = await answer.arrayBuffer();
      const count = frame.rows * frame.columns;
      const words = frame.stored.bitsAllocated === 8 ? new Uint8Array(bytes, 0, count) : new Uint16Array(bytes, 0, count);
      held.set(at, words);
      heldBytes += words.byteLength;
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
      heldBytes -= held.get(far)?.byteLength ?? 0;
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
    frames,
    words: (at) => held.get(at),
    want: (at) => {
      middle = at;
      pump();
    },
    preview: (at, side) =>
      `${place.previewUrl}/${place.series}/${frames[at]?.instance ?? ""}/${frames[at]?.number ?? 1}?side=${side}`,
  };
}
