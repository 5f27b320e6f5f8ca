// Which image of another series belongs to the one that is shown: pure functions.
//
// In one frame of reference, the one at the same place (PS3.3 C.7.4.1). Of another examination the patient lay
// differently: there the pair that was shown when the series were linked says how far apart they are, in
// millimetres where both lie in parallel slices, else in numbers of images.

import { alongNormal, isParallel } from "./geometry";
import type { Frame } from "./frame";

export type Link = "position" | "distance" | "number";

export interface Pair {
  at: number;
  other: number;
}

export function linkOf(frames: readonly Frame[], others: readonly Frame[]): Link {
  const [one, other] = [frames[0], others[0]];
  const isPlaced = (each: Frame): boolean => each.position.length === 3;
  if (!one || !other || !isParallel(one.orientation, other.orientation)) return "number";
  if (![...frames, ...others].every(isPlaced)) return "number";
  return one.frameOfReference && one.frameOfReference === other.frameOfReference ? "position" : "distance";
}

/** The image of the other series that belongs to image `at`. */
export function partnerOf(frames: readonly Frame[], others: readonly Frame[], at: number, pair: Pair, link: Link): number {
  const last = others.length - 1;
  if (link === "number") return Math.max(0, Math.min(last, pair.other + at - pair.at));
  const normal = frames[0]?.orientation ?? [];
  const place = (frame: Frame | undefined): number => alongNormal(frame?.position ?? [], normal);
  const apart = link === "position" ? 0 : place(others[pair.other]) - place(frames[pair.at]);
  const wanted = place(frames[at]) + apart;
  let nearest = 0;
  others.forEach((each, index) => {
    if (Math.abs(place(each) - wanted) < Math.abs(place(others[nearest]) - wanted)) nearest = index;
  });
  return nearest;
}

/** The pair to begin with: the same part of the way through both. */
export function firstPair(frames: readonly Frame[], others: readonly Frame[], at: number): Pair {
  const part = frames.length > 1 ? at / (frames.length - 1) : 0.5;
  return { at, other: Math.round(part * (others.length - 1)) };
}

/** In the order of their places; of those without, as the series numbers them. */
export function inOrder(frames: readonly Frame[]): Frame[] {
  const normal = frames[0]?.orientation ?? [];
  if (!frames.every((each) => each.position.length === 3 && isParallel(each.orientation, normal))) {
    return [...frames].sort((one, other) => one.instanceNumber - other.instanceNumber || one.number - other.number);
  }
  return [...frames].sort((one, other) => alongNormal(one.position, normal) - alongNormal(other.position, normal));
}
