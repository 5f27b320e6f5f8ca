// From stored values to grey levels (PS3.3 C.11.1 and C.11.2): pure functions.

export interface Window {
  center: number;
  width: number;
}

export type Voi = "LINEAR" | "LINEAR_EXACT" | "SIGMOID";

export interface Stored {
  bitsAllocated: number; // 8 or 16
  bitsStored: number;
  highBit: number;
  isSigned: boolean;
}

export interface Rescale {
  slope: number;
  intercept: number;
}

/** The value that a stored word means: its own bits, its sign extended. */
export function valueOf(word: number, stored: Stored): number {
  const shifted = (word >> (stored.highBit + 1 - stored.bitsStored)) & ((1 << stored.bitsStored) - 1);
  return stored.isSigned && shifted >> (stored.bitsStored - 1) ? shifted - (1 << stored.bitsStored) : shifted;
}

/** The grey level, 0 to 255, of a rescaled value (PS3.3 C.11.2.1.2 and C.11.2.1.3). */
export function level(value: number, { center, width }: Window, voi: Voi): number {
  if (voi === "SIGMOID") return 255 / (1 + Math.exp((-4 * (value - center)) / width));
  const exact = voi === "LINEAR_EXACT";
  const middle = exact ? center : center - 0.5;
  const wide = exact ? width : width - 1;
  if (wide <= 0) return value <= middle ? 0 : 255;
  return Math.max(0, Math.min(1, (value - middle) / wide + 0.5)) * 255;
}

export type Padding = readonly [number, number] | null;

export function isPadding(value: number, padding: Padding): boolean {
  return padding !== null && value >= padding[0] && value <= padding[1];
}

/** The grey level of every word that can be stored; what is no image is black, also where all is inverted. */
export function tableOf(
  stored: Stored, rescale: Rescale, window: Window, voi: Voi, inverted: boolean, padding: Padding = null,
): Uint8ClampedArray {
  const table = new Uint8ClampedArray(1 << stored.bitsAllocated);
  for (let word = 0; word < table.length; word++) {
    const value = valueOf(word, stored);
    if (isPadding(value, padding)) continue;
    const grey = level(value * rescale.slope + rescale.intercept, window, voi);
    table[word] = inverted ? 255 - grey : grey;
  }
  return table;
}

/** The window that shows every value of a frame, where the image names none. */
export function wholeWindow(
  words: Uint8Array | Uint16Array, stored: Stored, rescale: Rescale, padding: Padding = null,
): Window {
  let least = Infinity, most = -Infinity;
  for (let at = 0; at < words.length; at++) {
    const value = valueOf(words[at] ?? 0, stored);
    if (isPadding(value, padding)) continue;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (least > most) return { center: 0.5, width: 1 }; // nothing but padding
  const low = least * rescale.slope + rescale.intercept, high = most * rescale.slope + rescale.intercept;
  return { center: (low + high + 1) / 2, width: Math.max(1, Math.abs(high - low) + 1) };
}

export interface Preset extends Window {
  key: string; // of its name in the catalogue
  name?: string; // as the image itself names it
  inverted?: boolean;
}

/** Usual windows in Hounsfield units: the one scale that all scanners share. */
const HOUNSFIELD: readonly Preset[] = [
  { key: "soft", center: 40, width: 400 },
  { key: "lung", center: -600, width: 1500 },
  { key: "bone", center: 500, width: 2000 },
  { key: "brain", center: 35, width: 80 },
  { key: "mediastinum", center: 50, width: 350 },
  { key: "abdomen", center: 60, width: 350 },
  { key: "liver", center: 90, width: 150 },
  { key: "vessels", center: 300, width: 700 },
];

/** Other modalities have no common scale: what helps is told by the image's own window. */
interface Relative {
  key: string;
  shift: number; // of the centre, in widths of the own window
  scale: number; // of the width
  inverted?: boolean;
}

const BRIGHT: Relative = { key: "bright", shift: -0.2, scale: 1 };
const DARK: Relative = { key: "dark", shift: 0.2, scale: 1 };
const CONTRAST: Relative = { key: "contrast", shift: 0, scale: 0.5 };
const FLAT: Relative = { key: "flat", shift: 0, scale: 1.8 };
const USUAL = [BRIGHT, DARK, CONTRAST, FLAT];
const RADIOGRAPH: readonly Relative[] = [
  { key: "bone-detail", shift: 0.1, scale: 0.55 }, { key: "lung-field", shift: -0.15, scale: 0.7 }, FLAT, BRIGHT, DARK,
];
const EMISSION: readonly Relative[] = [
  { key: "black-on-white", shift: 0, scale: 1, inverted: true },
  { key: "faint", shift: -0.25, scale: 0.5, inverted: true },
  { key: "hottest", shift: 0.25, scale: 0.5, inverted: true },
];
const RELATIVE: Readonly<Record<string, readonly Relative[]>> = {
  MR: [CONTRAST, FLAT, BRIGHT, DARK],
  CR: RADIOGRAPH,
  DX: RADIOGRAPH,
  MG: [
    { key: "dense-tissue", shift: 0.2, scale: 0.5 }, { key: "microcalcification", shift: 0.3, scale: 0.3 },
    { key: "skin-line", shift: -0.35, scale: 0.6 },
  ],
  PT: EMISSION,
  NM: EMISSION,
  XA: [CONTRAST, FLAT, { key: "inverse", shift: 0, scale: 1, inverted: true }],
  US: [BRIGHT, DARK, CONTRAST],
};

/** The windows to choose from: those of the image itself, then the usual ones of its modality. */
export function presetsOf(modality: string, own: Window, offered: readonly (Window & { name: string })[] = []): Preset[] {
  const named = offered.slice(1).map((each, at) => ({ ...each, key: "own-other", name: each.name || `${at + 2}` }));
  const usual = modality === "CT"
    ? HOUNSFIELD
    : (RELATIVE[modality] ?? USUAL).map(({ key, shift, scale, inverted }) => ({
      key, center: own.center + shift * own.width, width: Math.max(1, own.width * scale), inverted: inverted ?? false,
    }));
  return [{ key: "own", ...own }, ...named, ...usual];
}
