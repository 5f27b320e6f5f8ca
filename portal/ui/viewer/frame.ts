// What the viewer needs to know of one frame, out of DICOM JSON (PS3.18 F): pure functions.
//
// An enhanced image says some of it by frame (PS3.3 C.7.6.16): the frame's own functional group counts first,
// then the shared one, then the data set.

import type { Region, Spacing } from "./geometry";
import type { Rescale, Stored, Voi, Window } from "./grey";

type Value = number | string | { [tag: string]: unknown };
export type DataSet = { [tag: string]: { vr: string; Value?: Value[] } | undefined };

export interface Frame {
  instance: string;
  number: number;
  modality: string;
  columns: number;
  rows: number;
  stored: Stored;
  rescale: Rescale;
  units: string;
  window: Window | null;
  voi: Voi;
  isInverted: boolean;
  isGrey: boolean; // one sample of 8 or 16 bits, without tables: what this viewer windows by itself
  spacing: Spacing;
  regions: Region[];
  tall: number;
  position: number[];
  orientation: number[];
  perSecond: number;
}

const PROJECTIONS = new Set(["CR", "DX", "MG", "IO", "PX", "XA", "RF"]);
const CENTIMETRES = 3; // PS3.3 C.8.5.5.1.15

const numbers = (set: DataSet | undefined, tag: string): number[] =>
  (set?.[tag]?.Value ?? []).map(Number).filter((each) => Number.isFinite(each));
const text = (set: DataSet | undefined, tag: string): string => String(set?.[tag]?.Value?.[0] ?? "");
const items = (set: DataSet | undefined, tag: string): DataSet[] => (set?.[tag]?.Value ?? []) as DataSet[];

/** One frame of an instance; `number` counts from 1. */
export function frameOf(set: DataSet, number: number): Frame {
  const own = items(set, "52009230")[number - 1];
  const shared = items(set, "52009229")[0];
  const group = (tag: string): DataSet =>
    items(own, tag)[0] ?? items(shared, tag)[0] ?? set;
  const one = (from: DataSet, tag: string, otherwise: number): number => numbers(from, tag)[0] ?? otherwise;
  const modality = text(set, "00080060");
  const transform = group("00289145");
  const voi = group("00289132");
  const measures = group("00289110");
  const [center] = numbers(voi, "00281050");
  const [width] = numbers(voi, "00281051");
  const bitsAllocated = one(set, "00280100", 8);
  const bitsStored = one(set, "00280101", bitsAllocated);
  const kind = text(set, "00280004");
  const spacing = spacingIn(measures, set, modality);
  const [high, across] = numbers(set, "00280034");
  return {
    instance: text(set, "00080018"),
    number,
    modality,
    columns: one(set, "00280011", 1),
    rows: one(set, "00280010", 1),
    stored: { bitsAllocated, bitsStored, highBit: one(set, "00280102", bitsStored - 1), isSigned: one(set, "00280103", 0) === 1 },
    rescale: { slope: one(transform, "00281053", 1), intercept: one(transform, "00281052", 0) },
    units: text(transform, "00281054") || (modality === "CT" ? "HU" : ""),
    window: center !== undefined && width !== undefined && width > 0 ? { center, width } : null,
    voi: (["LINEAR_EXACT", "SIGMOID"] as const).find((each) => each === text(voi, "00281056")) ?? "LINEAR",
    isInverted: kind === "MONOCHROME1" || text(set, "20500020") === "INVERSE",
    isGrey: kind.startsWith("MONOCHROME") && (bitsAllocated === 8 || bitsAllocated === 16) && !set["00283000"] &&
      !(set["00283010"] && center === undefined),
    spacing,
    regions: items(set, "00186011").flatMap(regionOf),
    tall: spacing.source !== "none" ? spacing.y / spacing.x : high && across ? high / across : 1,
    position: numbers(group("00209113"), "00200032"),
    orientation: numbers(group("00209116"), "00200037"),
    perSecond: numbers(set, "00082144")[0] || numbers(set, "00180040")[0] || 1000 / (numbers(set, "00181063")[0] || 100),
  };
}

/** PS3.3 10.7.1.3: a projection's spacing is the detector's, unless it was corrected for magnification. */
function spacingIn(measures: DataSet, set: DataSet, modality: string): Spacing {
  const [y, x] = numbers(measures, "00280030");
  const [detectorY, detectorX] = numbers(set, "00181164");
  if (x && y) {
    const isSame = x === detectorX && y === detectorY;
    const isProjection = PROJECTIONS.has(modality) && (isSame || !text(set, "00280A02"));
    return { x, y, source: isProjection ? "detector" : "patient" };
  }
  if (detectorX && detectorY) return { x: detectorX, y: detectorY, source: "detector" };
  return { x: 1, y: 1, source: "none" };
}

function regionOf(item: DataSet): Region[] {
  const at = (tag: string): number => numbers(item, tag)[0] ?? 0;
  const isLength = at("00186024") === CENTIMETRES && at("00186026") === CENTIMETRES;
  const x = Math.abs(at("0018602C")) * 10, y = Math.abs(at("0018602E")) * 10;
  if (!isLength || !x || !y) return [];
  return [{ left: at("00186018"), top: at("0018601A"), right: at("0018601C"), bottom: at("0018601E"), x, y }];
}
