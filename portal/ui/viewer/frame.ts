// What the viewer needs to know of one frame, out of DICOM JSON (PS3.18 F): pure functions.
//
// An enhanced image says some of it by frame (PS3.3 C.7.6.16): the frame's own functional group counts first,
// then the shared one, then the data set.

import type { Region, Spacing } from "./geometry";
import type { Rescale, Stored, Voi, Window } from "./grey";

type Value = number | string | { [tag: string]: unknown };
export type DataSet = { [tag: string]: { vr: string; Value?: Value[] } | undefined };

export interface Named extends Window {
  name: string;
}

export interface Frame {
  instance: string;
  instanceNumber: number;
  number: number;
  modality: string;
  columns: number;
  rows: number;
  stored: Stored;
  rescale: Rescale;
  units: string;
  window: Window | null;
  windows: Named[]; // all that the image offers, with what they are for
  padding: readonly [number, number] | null; // stored values that are no image (PS3.3 C.7.5.1.1.2)
  voi: Voi;
  isInverted: boolean;
  isGrey: boolean; // one sample of 8 or 16 bits, without tables: what this viewer windows by itself
  spacing: Spacing;
  regions: Region[];
  tall: number;
  position: number[];
  orientation: number[];
  frameOfReference: string;
  thickness: number; // millimetres; 0: not said
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
  const windows = windowsIn(voi);
  const window = windows[0] ?? null;
  const bitsAllocated = one(set, "00280100", 8);
  const bitsStored = one(set, "00280101", bitsAllocated);
  const kind = text(set, "00280004");
  const spacing = spacingIn(measures, set, modality);
  const [high, across] = numbers(set, "00280034");
  return {
    instance: text(set, "00080018"),
    instanceNumber: one(set, "00200013", 0),
    number,
    modality,
    columns: one(set, "00280011", 1),
    rows: one(set, "00280010", 1),
    stored: { bitsAllocated, bitsStored, highBit: one(set, "00280102", bitsStored - 1), isSigned: one(set, "00280103", 0) === 1 },
    rescale: { slope: one(transform, "00281053", 1), intercept: one(transform, "00281052", 0) },
    units: text(transform, "00281054") || (modality === "CT" ? "HU" : ""),
    window: window && { center: window.center, width: window.width },
    windows,
    padding: paddingIn(set, bitsStored),
    voi: (["LINEAR_EXACT", "SIGMOID"] as const).find((each) => each === text(voi, "00281056")) ?? "LINEAR",
    isInverted: kind === "MONOCHROME1" || text(set, "20500020") === "INVERSE",
    isGrey: kind.startsWith("MONOCHROME") && (bitsAllocated === 8 || bitsAllocated === 16) && !set["00283000"] &&
      !(set["00283010"] && !window),
    spacing,
    regions: items(set, "00186011").flatMap(regionOf),
    tall: spacing.source !== "none" ? spacing.y / spacing.x : high && across ? high / across : 1,
    position: numbers(group("00209113"), "00200032"),
    orientation: numbers(group("00209116"), "00200037"),
    frameOfReference: text(set, "00200052"),
    thickness: one(measures, "00180050", 0),
    perSecond: numbers(set, "00082144")[0] || numbers(set, "00180040")[0] || 1000 / (numbers(set, "00181063")[0] || 100),
  };
}

/** The windows that an image offers; those without width are left out. */
function windowsIn(voi: DataSet): Named[] {
  const widths = numbers(voi, "00281051");
  const names = voi["00281055"]?.Value ?? [];
  return numbers(voi, "00281050").flatMap((center, at) => {
    const width = widths[at] ?? 0;
    return width > 0 ? [{ center, width, name: String(names[at] ?? "") }] : [];
  });
}

/** Pixel Padding Value and its range limit, in the sign of the stored values. */
function paddingIn(set: DataSet, bitsStored: number): [number, number] | null {
  const [value, limit] = [numbers(set, "00280120")[0], numbers(set, "00280121")[0]];
  if (value === undefined) return null;
  const isSigned = numbers(set, "00280103")[0] === 1;
  const meant = (each: number): number => // written as unsigned where it had to be signed
    isSigned && each >= 2 ** (bitsStored - 1) ? each - (each >= 32768 ? 65536 : 2 ** bitsStored) : each;
  const ends = [meant(value), meant(limit ?? value)];
  return [Math.min(...ends), Math.max(...ends)];
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
