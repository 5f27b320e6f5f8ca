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

/** The grey level of every word that can be stored. */
export function tableOf(stored: Stored, rescale: Rescale, window: Window, voi: Voi, inverted: boolean): Uint8ClampedArray {
  const table = new Uint8ClampedArray(1 << stored.bitsAllocated);
  for (let word = 0; word < table.length; word++) {
    const grey = level(valueOf(word, stored) * rescale.slope + rescale.intercept, window, voi);
    table[word] = inverted ? 255 - grey : grey;
  }
  return table;
}

/** The window that shows every value of a frame, where the image names none. */
export function wholeWindow(words: Uint8Array | Uint16Array, stored: Stored, rescale: Rescale): Window {
  let least = Infinity, most = -Infinity;
  for (let at = 0; at < words.length; at++) {
    const value = valueOf(words[at] ?? 0, stored);
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const low = least * rescale.slope + rescale.intercept, high = most * rescale.slope + rescale.intercept;
  return { center: (low + high + 1) / 2, width: Math.max(1, Math.abs(high - low) + 1) };
}

export interface Preset extends Window {
  key: string; // of its name in the catalogue
}

/** Usual windows, in Hounsfield units; other modalities have no scale of their own. */
export const PRESETS: Readonly<Record<string, readonly Preset[]>> = {
  CT: [
    { key: "soft", center: 40, width: 400 },
    { key: "lung", center: -600, width: 1500 },
    { key: "bone", center: 500, width: 2000 },
    { key: "brain", center: 35, width: 80 },
    { key: "mediastinum", center: 50, width: 350 },
    { key: "abdomen", center: 60, width: 350 },
    { key: "vessels", center: 300, width: 700 },
  ],
};

/** Presets relative to the image's own window, for modalities without units: softer and harder. */
export function presetsOf(modality: string, own: Window): Preset[] {
  return [
    { key: "own", ...own },
    ...(PRESETS[modality] ?? [
      { key: "bright", center: own.center - own.width * 0.2, width: own.width },
      { key: "dark", center: own.center + own.width * 0.2, width: own.width },
      { key: "contrast", center: own.center, width: own.width * 0.5 },
      { key: "flat", center: own.center, width: own.width * 1.8 },
    ]),
  ];
}
