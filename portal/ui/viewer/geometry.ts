// Geometry of a picture on a screen and of what is measured on it. Pure functions, in image coordinates: x to the
// right in columns, y down in rows, pixel centres at halves (0.5, 0.5 is the middle of the first pixel).

export interface Point {
  x: number;
  y: number;
}

export interface View {
  zoom: number; // 1: the whole image fits
  panX: number; // CSS pixels
  panY: number;
  quarters: number; // clockwise quarter turns
  flipped: boolean; // left and right change places, before turning
}

export const WHOLE: View = { zoom: 1, panX: 0, panY: 0, quarters: 0, flipped: false };

/** x' = a x + c y + e, y' = b x + d y + f, as canvas has it. */
export type Matrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

export interface Extent {
  columns: number;
  rows: number;
  tall: number; // height of a pixel by its width
}

/** From image coordinates to the screen's. */
export function matrixOf(view: View, image: Extent, width: number, height: number): Matrix {
  const tall = image.rows * image.tall;
  const turned = view.quarters % 2 !== 0;
  const fit = Math.min(width / (turned ? tall : image.columns), height / (turned ? image.columns : tall));
  const scale = fit * view.zoom;
  const [cos, sin] = ([[1, 0], [0, 1], [-1, 0], [0, -1]] as const)[((view.quarters % 4) + 4) % 4] ?? [1, 0];
  const across = view.flipped ? -scale : scale;
  const down = scale * image.tall;
  const a = cos * across, b = sin * across, c = -sin * down, d = cos * down;
  const x = image.columns / 2, y = image.rows / 2;
  return [a, b, c, d, width / 2 + view.panX - a * x - c * y, height / 2 + view.panY - b * x - d * y];
}

export function applied([a, b, c, d, e, f]: Matrix, at: Point): Point {
  return { x: a * at.x + c * at.y + e, y: b * at.x + d * at.y + f };
}

/** The image coordinates of a point on the screen. */
export function unapplied([a, b, c, d, e, f]: Matrix, at: Point): Point {
  const det = a * d - b * c;
  const x = at.x - e, y = at.y - f;
  return { x: (d * x - c * y) / det, y: (a * y - b * x) / det };
}

/** A view that is zoomed while the point under the fingers stays there; `at` is from the screen's middle. */
export function zoomed(view: View, by: number, at: Point): View {
  const zoom = Math.max(0.5, Math.min(20, view.zoom * by));
  const real = zoom / view.zoom;
  return { ...view, zoom, panX: at.x - (at.x - view.panX) * real, panY: at.y - (at.y - view.panY) * real };
}

/** A part of an image, its ends excluded. */
export interface Area {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** The view that shows a part of the image as large as the screen lets it be, turned as it was. */
export function framed(view: View, image: Extent, area: Area, width: number, height: number): View {
  const wide = area.right - area.left, high = (area.bottom - area.top) * image.tall;
  const [across, down] = view.quarters % 2 ? [high, wide] : [wide, high];
  const whole = matrixOf({ ...WHOLE, quarters: view.quarters }, image, width, height);
  const fit = Math.hypot(whole[0], whole[1]); // screen pixels of a column
  const shown = zoomed({ ...view, zoom: 1, panX: 0, panY: 0 }, Math.min(width / across, height / down) / fit, { x: 0, y: 0 });
  const at = applied(matrixOf(shown, image, width, height), { x: (area.left + area.right) / 2, y: (area.top + area.bottom) / 2 });
  return { ...shown, panX: width / 2 - at.x, panY: height / 2 - at.y };
}

/** Where measures come from (PS3.3 10.7.1.3, C.8.5.5): `detector` is calibrated before magnification is known. */
export type Source = "patient" | "detector" | "region" | "none";

export interface Spacing {
  x: number; // millimetres between columns
  y: number; // millimetres between rows
  source: Source;
}

export const UNCALIBRATED: Spacing = { x: 1, y: 1, source: "none" };

/** A calibrated region of an ultrasound image (PS3.3 C.8.5.5), its corners included. */
export interface Region {
  left: number;
  top: number;
  right: number;
  bottom: number;
  x: number; // millimetres between columns
  y: number;
}

/** What calibrates a measurement: the region that holds all its points, else the image's own spacing. */
export function spacingOf(points: readonly Point[], own: Spacing, regions: readonly Region[]): Spacing {
  if (!regions.length) return own;
  const holds = (region: Region): boolean =>
    points.every(({ x, y }) => x >= region.left && x <= region.right + 1 && y >= region.top && y <= region.bottom + 1);
  const found = regions.find(holds);
  return found ? { x: found.x, y: found.y, source: "region" } : UNCALIBRATED;
}

export function distance(from: Point, to: Point, spacing: Spacing): number {
  return Math.hypot((to.x - from.x) * spacing.x, (to.y - from.y) * spacing.y);
}

/** The angle at `at` in degrees, 0 to 180. */
export function angle(from: Point, at: Point, to: Point, spacing: Spacing): number {
  const ux = (from.x - at.x) * spacing.x, uy = (from.y - at.y) * spacing.y;
  const vx = (to.x - at.x) * spacing.x, vy = (to.y - at.y) * spacing.y;
  return (Math.abs(Math.atan2(ux * vy - uy * vx, ux * vx + uy * vy)) * 180) / Math.PI;
}

/** Area of the ellipse that two corners span. */
export function ellipseArea(from: Point, to: Point, spacing: Spacing): number {
  return (Math.PI / 4) * Math.abs(to.x - from.x) * spacing.x * Math.abs(to.y - from.y) * spacing.y;
}

export interface Statistics {
  count: number;
  mean: number;
  deviation: number;
  least: number;
  most: number;
}

/** The values whose pixel's middle is within the ellipse that two corners span; pixels without one do not count. */
export function ellipseStatistics(
  from: Point, to: Point, image: { columns: number; rows: number }, valueAt: (column: number, row: number) => number | undefined,
): Statistics {
  const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const half = { x: Math.abs(to.x - from.x) / 2, y: Math.abs(to.y - from.y) / 2 };
  let count = 0, mean = 0, squares = 0, least = Infinity, most = -Infinity;
  const last = (end: number, size: number): number => Math.min(size - 1, Math.ceil(end));
  for (let row = Math.max(0, Math.floor(middle.y - half.y)); row <= last(middle.y + half.y, image.rows); row++) {
    for (let column = Math.max(0, Math.floor(middle.x - half.x)); column <= last(middle.x + half.x, image.columns); column++) {
      if (((column + 0.5 - middle.x) / half.x) ** 2 + ((row + 0.5 - middle.y) / half.y) ** 2 > 1) continue;
      const value = valueAt(column, row);
      if (value === undefined) continue;
      const apart = value - mean;
      mean += apart / ++count;
      squares += apart * (value - mean);
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
  }
  return { count, mean, deviation: count ? Math.sqrt(squares / count) : 0, least, most };
}

/** Where a slice lies along its normal, in millimetres (PS3.3 C.7.6.2.1.1). */
export function alongNormal(position: readonly number[], orientation: readonly number[]): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = orientation;
  const [x = 0, y = 0, z = 0] = position;
  return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d);
}

export function isParallel(one: readonly number[], other: readonly number[]): boolean {
  return one.length === 6 && other.length === 6 && one.every((each, at) => Math.abs(each - (other[at] ?? 9)) < 0.02);
}
