// From slices to a volume: whether they make one, on which even grid, and how many voxels a small phone can hold.
// Pure functions.
//
// PS3.3 C.7.6.2.1.1: a slice's place is that of its first pixel's centre; the planes' distance is along their normal.

import { alongNormal, isParallel } from "./geometry";
import type { Frame } from "./frame";
import { isPadding, valueOf } from "./grey";
import type { Words } from "./stack";

/** Why slices make no volume; a key of its sentence in the catalogue. */
export type Refusal = "few" | "colour" | "sizes" | "turned" | "tilted" | "repeated" | "gap";

export interface Grid {
  columns: number;
  rows: number;
  slices: number;
  spacing: readonly [x: number, y: number, z: number]; // millimetres
  origin: readonly number[];
  direction: readonly number[]; // of rows, of columns, of slices
  by: number; // so many pixels, each way, became one voxel's side
  order: number[]; // the frames that it is made of, by place
  places: number[]; // their places along the normal, from the first, in millimetres
  isEven: boolean; // else: the planes of the grid are interpolated
  gaps: readonly [least: number, most: number];
}

const FEWEST = 5;
const EVEN_WITHIN = 0.02; // of the distance; less than what positions are rounded to
const WIDEST_GAP = 3; // of the usual distance: wider ones are places that nobody has seen

export function gridOf(frames: readonly Frame[], mostVoxels: number): Grid | Refusal {
  const [first] = frames;
  if (!first || frames.length < FEWEST) return "few";
  if (!frames.every((each) => each.isGrey)) return "colour";
  const same = (each: Frame): boolean =>
    each.columns === first.columns && each.rows === first.rows && Math.abs(each.spacing.x - first.spacing.x) < 1e-3 &&
    Math.abs(each.spacing.y - first.spacing.y) < 1e-3;
  if (first.spacing.source !== "patient" || !frames.every(same)) return "sizes";
  const isPlaced = (each: Frame): boolean => each.position.length === 3 && isParallel(each.orientation, first.orientation);
  if (!frames.every(isPlaced)) return "turned";
  const along = frames.map((each) => alongNormal(each.position, first.orientation));
  const order = along.map((_, at) => at).sort((one, other) => (along[one] ?? 0) - (along[other] ?? 0));
  const low = along[order[0] ?? 0] ?? 0;
  const places = order.map((at) => (along[at] ?? 0) - low);
  const gaps = places.slice(1).map((each, at) => each - (places[at] ?? 0));
  const sorted = [...gaps].sort((one, other) => one - other);
  const least = sorted[0] ?? 0, most = sorted[sorted.length - 1] ?? 0, usual = sorted[Math.floor(sorted.length / 2)] ?? 1;
  if (least < 0.01) return "repeated";
  if (most > WIDEST_GAP * usual) return "gap";
  const bottom = frames[order[0] ?? 0] as Frame, top = frames[order[order.length - 1] ?? 0] as Frame;
  const normal = cross(first.orientation);
  const length = places[places.length - 1] ?? 0;
  const sideways = Math.hypot(...normal.map((each, axis) => (top.position[axis] ?? 0) - (bottom.position[axis] ?? 0) - each * length));
  if (sideways > Math.max(1, 0.02 * length)) return "tilted";

  const isEven = most - least <= Math.max(EVEN_WITHIN * usual, 0.02);
  const step = isEven ? length / (places.length - 1) : usual;
  const whole = isEven ? places.length : Math.floor(length / step + 1e-6) + 1;
  let by = 1;
  while (Math.ceil(first.columns / by) * Math.ceil(first.rows / by) * Math.ceil(whole / by) > mostVoxels) by++;
  const slices = Math.floor((whole - 1) / by) + 1;
  return {
    columns: Math.ceil(first.columns / by), rows: Math.ceil(first.rows / by), slices,
    spacing: [first.spacing.x * by, first.spacing.y * by, step * by],
    origin: [0, 1, 2].map((axis) => (bottom.position[axis] ?? 0) +
      ((by - 1) / 2) * ((first.orientation[axis] ?? 0) * first.spacing.x + (first.orientation[axis + 3] ?? 0) * first.spacing.y)),
    direction: [...first.orientation, ...normal], by, order, places, isEven, gaps: [least, most],
  };
}

function cross([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]: readonly number[]): number[] {
  return [b * f - c * e, c * d - a * f, a * e - b * d];
}

/** A slice's rescaled values on the grid: the mean of the pixels that became one voxel. */
export function reduced(words: Words, frame: Frame, grid: Grid): Float32Array {
  const values = new Float32Array(grid.columns * grid.rows);
  const { slope, intercept } = frame.rescale;
  const lowest = frame.stored.isSigned ? -(2 ** (frame.stored.bitsStored - 1)) : 0;
  for (let row = 0; row < grid.rows; row++) {
    for (let column = 0; column < grid.columns; column++) {
      let sum = 0, count = 0;
      const lastRow = Math.min(frame.rows, (row + 1) * grid.by), lastColumn = Math.min(frame.columns, (column + 1) * grid.by);
      for (let y = row * grid.by; y < lastRow; y++) {
        for (let x = column * grid.by; x < lastColumn; x++) {
          const value = valueOf(words[y * frame.columns + x] ?? 0, frame.stored);
          sum += isPadding(value, frame.padding) ? lowest : value;
          count++;
        }
      }
      values[row * grid.columns + column] = (sum / count) * slope + intercept;
    }
  }
  return values;
}

/** Which two of the ordered slices a plane of the grid lies between, and how far from the first (0 to 1). */
export function between(grid: Grid, plane: number): { below: number; above: number; part: number } {
  if (grid.isEven) {
    const at = Math.min(grid.order.length - 1, plane * grid.by);
    return { below: at, above: at, part: 0 };
  }
  const place = plane * grid.spacing[2];
  let above = grid.places.findIndex((each) => each >= place - 1e-6);
  if (above < 0) above = grid.places.length - 1;
  const below = Math.max(0, above - 1);
  const from = grid.places[below] ?? 0, to = grid.places[above] ?? 0;
  return to > from ? { below, above, part: Math.min(1, Math.max(0, (place - from) / (to - from))) } : { below, above, part: 0 };
}

/** How many voxels of two bytes this device can hold beside the page, in its own memory and its graphics card's. */
export function voxelsFor(memoryGigabytes: number | undefined, isSmall: boolean): number {
  const megabytes = memoryGigabytes === undefined ? (isSmall ? 48 : 256) : Math.min(384, 32 * memoryGigabytes);
  return (megabytes * 1024 * 1024) / 2;
}
