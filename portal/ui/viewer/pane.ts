// One canvas that shows one frame of a stack: its pixels windowed here, or the server's picture until they come,
// with what was measured and the watermark over it.

import {
  angle, applied, distance, ellipseArea, ellipseStatistics, matrixOf, spacingOf, unapplied, WHOLE,
  type Matrix, type Point, type View,
} from "./geometry";
import type { Frame } from "./frame";
import { isPadding, tableOf, valueOf, wholeWindow, type Window } from "./grey";
import { TILE, type Tile } from "./overview";
import { drawingsOn, type Drawing } from "./references";
import type { Stack, Words } from "./stack";

export type Measure = "distance" | "angle" | "ellipse" | "value";

export interface Mark {
  kind: Measure;
  points: Point[];
}

export interface Pane {
  canvas: HTMLCanvasElement;
  stack: Stack;
  at: number;
  view: View;
  window: Window | null; // null: the image's own
  inverted: boolean;
  marks: Map<number, Mark[]>;
  say: (key: string, values?: Record<string, string>) => string;
  watermark: string[];
  picture: HTMLImageElement | null;
  tile: (at: number) => Tile | undefined; // a small picture of an image that is not here yet
  drawings: Drawing[]; // what presentation states and reports of the study draw; shown unless `plain`
  state: string; // the presentation state that it is shown by; empty: none
  plain: boolean;
  drawn: { words: Words; key: string; bitmap: HTMLCanvasElement } | null;
}

const INK = "#ffd84d";
const OTHERS_INK = "#7fe3ff"; // what was drawn elsewhere
const DECIMALS = 1;

export function frameIn(pane: Pane): Frame | undefined {
  return pane.stack.frames[pane.at];
}

/** The window that the pane shows now. */
export function windowIn(pane: Pane): Window {
  const frame = frameIn(pane);
  const words = pane.stack.words(pane.at);
  if (pane.window) return pane.window;
  if (frame?.window) return frame.window;
  return frame && words ? wholeWindow(words, frame.stored, frame.rescale, frame.padding) : { center: 128, width: 256 };
}

/** The rescaled value of a pixel, when the pixels are here; none for what is no image. */
export function valueAt(pane: Pane, column: number, row: number): number | undefined {
  const frame = frameIn(pane);
  const words = pane.stack.words(pane.at);
  if (!frame || !words || column < 0 || row < 0 || column >= frame.columns || row >= frame.rows) return undefined;
  const value = valueOf(words[row * frame.columns + column] ?? 0, frame.stored);
  return isPadding(value, frame.padding) ? undefined : value * frame.rescale.slope + frame.rescale.intercept;
}

export function matrixIn(pane: Pane): Matrix {
  const frame = frameIn(pane);
  const size = frame ? { columns: frame.columns, rows: frame.rows, tall: frame.tall } : { columns: 1, rows: 1, tall: 1 };
  return matrixOf(pane.view, size, pane.canvas.clientWidth, pane.canvas.clientHeight);
}

/** The image coordinates under a point of the canvas. */
export function imagePoint(pane: Pane, at: Point): Point {
  return unapplied(matrixIn(pane), at);
}

function bitmapOf(pane: Pane, frame: Frame, words: Words): HTMLCanvasElement {
  const window = windowIn(pane);
  const key = `${window.center}/${window.width}/${pane.inverted}`;
  if (pane.drawn?.words === words && pane.drawn.key === key) return pane.drawn.bitmap;
  const table = tableOf(frame.stored, frame.rescale, window, frame.voi, frame.isInverted !== pane.inverted, frame.padding);
  const bitmap = pane.drawn?.bitmap ?? document.createElement("canvas");
  if (bitmap.width !== frame.columns) bitmap.width = frame.columns;
  if (bitmap.height !== frame.rows) bitmap.height = frame.rows;
  const brush = bitmap.getContext("2d") as CanvasRenderingContext2D;
  const image = brush.createImageData(frame.columns, frame.rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = 0xff000000 | ((table[words[at] ?? 0] ?? 0) * 0x010101);
  brush.putImageData(image, 0, 0);
  pane.drawn = { words, key, bitmap };
  return bitmap;
}

export function draw(pane: Pane): void {
  const { canvas } = pane;
  const frame = frameIn(pane);
  const ratio = Math.min(devicePixelRatio || 1, 3);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const brush = canvas.getContext("2d");
  if (!brush || !frame || !width) return;
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const matrix = matrixIn(pane);
  const words = pane.stack.words(pane.at);
  const isPicture = !words && !!pane.picture?.complete && pane.picture.naturalWidth > 0;
  const tile = words || isPicture ? undefined : pane.tile(pane.at);
  canvas.dataset.pixels = words ? "true" : isPicture ? "preview" : tile ? "overview" : "none";
  canvas.dataset.at = String(pane.at + 1);
  canvas.dataset.form = pane.stack.form(pane.at);
  brush.save();
  brush.transform(...(matrix as [number, number, number, number, number, number]));
  if (!words && pane.inverted) brush.filter = "invert(1)";
  if (words) brush.drawImage(bitmapOf(pane, frame, words), 0, 0, frame.columns, frame.rows);
  else if (isPicture && pane.picture) brush.drawImage(pane.picture, 0, 0, frame.columns, frame.rows);
  else if (tile) brush.drawImage(tile.sheet, tile.x, tile.y, TILE, TILE, 0, 0, frame.columns, frame.rows);
  brush.restore();
  const others = pane.plain ? [] : drawingsOn(frame, pane.drawings, pane.state);
  for (const each of others.filter(({ shutter }) => shutter)) coverOutside(brush, matrix, frame, each);
  for (const each of others.filter(({ shutter }) => !shutter)) drawOthers(pane, brush, matrix, each);
  markAcross(brush, pane.watermark, canvas.clientWidth, canvas.clientHeight);
  for (const mark of pane.marks.get(pane.at) ?? []) drawMark(pane, brush, matrix, mark);
}

/** Lines across the middle, light with a dark rim: who looks, since when. */
export function markAcross(brush: CanvasRenderingContext2D, lines: readonly string[], width: number, height: number): void {
  if (!lines.length) return;
  brush.save();
  brush.globalAlpha = 0.16;
  brush.fillStyle = "#fff";
  brush.strokeStyle = "#000";
  brush.font = "14px system-ui, sans-serif";
  brush.translate(width / 2, height / 2);
  brush.rotate(-Math.PI / 7);
  brush.textAlign = "center";
  lines.forEach((line, at) => {
    brush.strokeText(line, 0, at * 20);
    brush.fillText(line, 0, at * 20);
  });
  brush.restore();
}

/** What a measurement says, with how far its numbers can be trusted. */
export function textOf(pane: Pane, mark: Mark): string {
  const frame = frameIn(pane);
  const [first, second, third] = mark.points;
  if (!frame || !first) return "";
  const spacing = spacingOf(mark.points, frame.spacing, frame.regions);
  const isTrue = spacing.source !== "none";
  const note = spacing.source === "patient" || spacing.source === "region" ? "" : ` ${pane.say(spacing.source === "detector" ? "at-detector" : "not-calibrated")}`;
  const units = frame.units && frame.units !== "US" ? ` ${frame.units}` : "";
  if (mark.kind === "value") {
    const value = valueAt(pane, Math.floor(first.x), Math.floor(first.y));
    return value === undefined ? pane.say("no-value") : `${Number(value.toFixed(2))}${units}`;
  }
  if (!second) return "";
  if (mark.kind === "distance") return `${distance(first, second, spacing).toFixed(DECIMALS)} ${isTrue ? "mm" : "px"}${note}`;
  if (mark.kind === "angle") {
    // An angle needs the shape of the pixels alone: it is right on detectors too.
    return third ? `${angle(first, second, third, isTrue ? spacing : { ...spacing, y: frame.tall }).toFixed(DECIMALS)}°` : "";
  }
  const area = ellipseArea(first, second, spacing);
  const size = isTrue ? `${(area / 100).toFixed(2)} cm²` : `${Math.round(area)} px²`;
  if (!pane.stack.words(pane.at)) return `${size}${note}`;
  const found = ellipseStatistics(first, second, frame, (column, row) => valueAt(pane, column, row));
  return found.count ? `${size}${note}\n⌀ ${found.mean.toFixed(DECIMALS)} ± ${found.deviation.toFixed(DECIMALS)}${units}` : `${size}${note}`;
}

function drawMark(pane: Pane, brush: CanvasRenderingContext2D, matrix: Matrix, mark: Mark): void {
  const points = mark.points.map((each) => applied(matrix, each));
  const [first, second] = points;
  const last = points[points.length - 1];
  if (!first || !last) return;
  brush.strokeStyle = brush.fillStyle = INK;
  brush.lineWidth = 1.5;
  brush.beginPath();
  if (mark.kind === "ellipse" && second) {
    brush.ellipse((first.x + second.x) / 2, (first.y + second.y) / 2, Math.abs(second.x - first.x) / 2, Math.abs(second.y - first.y) / 2, 0, 0, 7);
  } else {
    points.forEach(({ x, y }, at) => (at ? brush.lineTo(x, y) : brush.moveTo(x, y)));
  }
  brush.stroke();
  for (const { x, y } of points) {
    brush.beginPath();
    brush.arc(x, y, 3, 0, 7);
    brush.stroke();
  }
  write(pane, brush, textOf(pane, mark), { x: last.x + 12, y: last.y - (mark.kind === "value" ? 48 : 8) }, INK);
}

/** Lines of text near a point, kept on the screen. */
function write(pane: Pane, brush: CanvasRenderingContext2D, text: string, near: Point, ink: string): void {
  if (!text) return;
  brush.font = "600 14px system-ui, sans-serif";
  const lines = text.split(/\r?\n/);
  const wide = Math.max(...lines.map((line) => brush.measureText(line).width));
  const x = Math.max(4, Math.min(pane.canvas.clientWidth - wide - 8, near.x));
  const y = Math.max(20, Math.min(pane.canvas.clientHeight - 20 * lines.length, near.y));
  lines.forEach((line, at) => {
    brush.fillStyle = "#000b";
    brush.fillRect(x - 4, y - 15 + at * 20, brush.measureText(line).width + 8, 20);
    brush.fillStyle = ink;
    brush.fillText(line, x, y + at * 20);
  });
}

/** A smooth line through all points (Catmull-Rom), as the server draws it. */
function curveThrough(brush: CanvasRenderingContext2D, points: readonly Point[]): void {
  points.forEach((to, at) => {
    const from = points[at - 1];
    if (!from) return brush.moveTo(to.x, to.y);
    const before = points[at - 2] ?? from, after = points[at + 1] ?? to;
    brush.bezierCurveTo(
      from.x + (to.x - before.x) / 6, from.y + (to.y - before.y) / 6,
      to.x - (after.x - from.x) / 6, to.y - (after.y - from.y) / 6, to.x, to.y,
    );
  });
}

/** A shutter: the image is covered where its shape does not leave it open. */
function coverOutside(brush: CanvasRenderingContext2D, matrix: Matrix, frame: Frame, { shape, points, shutter }: Drawing): void {
  const [middle, rim] = points;
  if (!shutter || !middle) return;
  brush.save();
  brush.transform(...(matrix as [number, number, number, number, number, number]));
  brush.beginPath();
  brush.rect(0, 0, frame.columns, frame.rows);
  if (shape === "circle" && rim) {
    brush.moveTo(rim.x, rim.y);
    brush.arc(middle.x, middle.y, rim.x - middle.x, 0, 2 * Math.PI);
  } else points.forEach(({ x, y }, at) => (at ? brush.lineTo(x, y) : brush.moveTo(x, y)));
  brush.closePath();
  brush.fillStyle = `rgb(${shutter.grey} ${shutter.grey} ${shutter.grey})`;
  brush.fill("evenodd");
  brush.restore();
}

/** What a presentation state or a report draws. */
function drawOthers(pane: Pane, brush: CanvasRenderingContext2D, matrix: Matrix, drawing: Drawing): void {
  const points = drawing.points.map((each) => applied(matrix, each));
  const [first, second, third] = points;
  if (!first) return;
  brush.strokeStyle = brush.fillStyle = OTHERS_INK;
  brush.lineWidth = 1.5;
  brush.beginPath();
  if (drawing.shape === "circle" && second) {
    brush.arc(first.x, first.y, Math.hypot(second.x - first.x, second.y - first.y), 0, 7);
  } else if (drawing.shape === "ellipse" && second && third) {
    // Ends of the long axis, then of the short one (PS3.3 C.10.5.1.2, C.18.6.1.2).
    const fourth = points[3] ?? third;
    const long = Math.hypot(second.x - first.x, second.y - first.y) / 2, short = Math.hypot(fourth.x - third.x, fourth.y - third.y) / 2;
    brush.ellipse((first.x + second.x) / 2, (first.y + second.y) / 2, long, short, Math.atan2(second.y - first.y, second.x - first.x), 0, 7);
  } else if (drawing.shape === "polyline") {
    points.forEach(({ x, y }, at) => (at ? brush.lineTo(x, y) : brush.moveTo(x, y)));
  } else if (drawing.shape === "curve") {
    curveThrough(brush, points);
  } else if (drawing.shape === "points") {
    for (const { x, y } of points) {
      brush.moveTo(x - 6, y);
      brush.lineTo(x + 6, y);
      brush.moveTo(x, y - 6);
      brush.lineTo(x, y + 6);
    }
  }
  if (drawing.isFilled) brush.fill();
  brush.stroke();
  const right = points.reduce((far, each) => (each.x > far.x ? each : far), first);
  write(pane, brush, drawing.text, drawing.shape === "text" ? first : { x: right.x + 10, y: right.y - 8 }, OTHERS_INK);
}

export function newPane(canvas: HTMLCanvasElement, stack: Stack, say: Pane["say"], watermark: string[]): Pane {
  return {
    canvas, stack, say, watermark, at: 0, view: WHOLE, window: null, inverted: false, marks: new Map(), picture: null, tile: () => undefined, drawings: [],
    state: "", plain: false, drawn: null,
  };
}
