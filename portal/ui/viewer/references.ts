// What other objects say of images: key object selections (KO), presentation states (PR), structured reports (SR)
// and FHIR reports. Pure functions from their DICOM JSON or FHIR JSON.
//
// PS3.3 A.35.4 (KO), C.10.4 to C.10.6, C.7.6.11 and A.33 (PR), C.17.3 and C.18 (SR); coordinates of PR graphics and SR
// run as the viewer's own: the upper left corner of the first pixel is 0, 0. Shutters and displayed areas count pixels
// from 1.

import { alongNormal, type Area, type Point } from "./geometry";
import type { DataSet, Frame } from "./frame";
import type { Rescale, Window } from "./grey";

export type Source = "KO" | "PR" | "SR" | "report";

/** An image that somebody points to. */
export interface Key {
  source: Source;
  label: string;
  instance: string;
  frame: number; // 0: the object as a whole
  shown?: Shown;
}

/** How a presentation state shows an image. */
export interface Shown {
  state: string; // its SOP Instance UID: its shutters go with it
  window: Window | null; // in the state's own units; null: none is said
  rescale: Rescale; // from stored values to those units
  inverted: boolean;
  quarters: number; // clockwise, after a flip, as the viewer turns
  flipped: boolean;
  area: Area | null; // what of the image; null: all
}

export type Shape = "points" | "polyline" | "curve" | "circle" | "ellipse" | "text";

/** Something drawn on an image by another object. */
export interface Drawing {
  source: Source;
  instance: string; // empty: `space` says where
  frames: number[]; // none: all of them
  shape: Shape;
  points: Point[];
  /** SCOORD3D: the points in the patient's coordinates of this frame of reference. */
  space?: { frameOfReference: string; points: number[][] };
  /** Points are parts of the displayed area, not pixels (PS3.3 C.10.5.1.1). */
  ofArea?: Area | "whole";
  text: string;
  isFilled?: boolean;
  /** A shutter of this presentation state: what lies outside of the shape is covered with this grey (PS3.3 C.7.6.11). */
  shutter?: { state: string; grey: number };
}

export interface Said {
  keys: Key[];
  drawings: Drawing[];
}

const NOTHING: Said = { keys: [], drawings: [] };
const SHAPES: Readonly<Record<string, Shape>> = {
  POINT: "points", MULTIPOINT: "points", POLYLINE: "polyline", INTERPOLATED: "curve", POLYGON: "polyline",
  CIRCLE: "circle", ELLIPSE: "ellipse",
};

const items = (set: DataSet | undefined, tag: string): DataSet[] => (set?.[tag]?.Value ?? []) as DataSet[];
const text = (set: DataSet | undefined, tag: string): string => String(set?.[tag]?.Value?.[0] ?? "").trim();
const numbers = (set: DataSet | undefined, tag: string): number[] =>
  (set?.[tag]?.Value ?? []).map(Number).filter((each) => Number.isFinite(each));
const meaning = (set: DataSet | undefined, tag: string): string => text(items(set, tag)[0], "00080104");
const code = (set: DataSet | undefined, tag: string): string => text(items(set, tag)[0], "00080100");

/** What an object says, by its modality. */
export function saidBy(set: DataSet): Said {
  const read = { KO: keyObject, PR: presentationState, SR: structuredReport }[text(set, "00080060")];
  return read ? read(set) : NOTHING;
}

interface Reference {
  instance: string;
  frames: number[];
}

const referenceIn = (item: DataSet): Reference => ({
  instance: text(item, "00081155"),
  frames: numbers(item, "00081160"),
});

function keysOf(source: Source, label: string, { instance, frames }: Reference, more: Partial<Key> = {}): Key[] {
  if (!instance) return [];
  return (frames.length ? frames : [0]).map((frame) => ({ source, label, instance, frame, ...more }));
}

function contents(set: DataSet): DataSet[] {
  return items(set, "0040A730");
}

function keyObject(set: DataSet): Said {
  const title = meaning(set, "0040A043");
  const described = contents(set).find((each) => code(each, "0040A043") === "113012"); // Key Object Description
  const label = [title, text(described, "0040A160")].filter(Boolean).join(": ");
  const keys = contents(set)
    .filter((each) => text(each, "0040A040") === "IMAGE")
    .flatMap((each) => items(each, "00081199").flatMap((one) => keysOf("KO", label, referenceIn(one))));
  return { keys, drawings: [] };
}

function pairs(values: readonly number[]): Point[] {
  return Array.from({ length: Math.floor(values.length / 2) }, (_, at) => ({
    x: values[at * 2] ?? 0, y: values[at * 2 + 1] ?? 0,
  }));
}

const isAbout = (references: Reference[], wanted: string): boolean => references.some(({ instance }) => instance === wanted);

function presentationState(set: DataSet): Said {
  const label = [text(set, "00700080"), text(set, "00700081")].filter(Boolean).join(": ");
  const all = items(set, "00081115").flatMap((series) => items(series, "00081140").map(referenceIn));
  const named = (item: DataSet): Reference[] => {
    const own = items(item, "00081140").map(referenceIn);
    return own.length ? own : all;
  };
  const windowOf = (wanted: string): Window | null => {
    for (const item of items(set, "00283110")) {
      const [center] = numbers(item, "00281050"), [width] = numbers(item, "00281051");
      if (isAbout(named(item), wanted) && center !== undefined && width) return { center, width };
    }
    return null;
  };
  const areaOf = (wanted: string): Area | null => {
    for (const item of items(set, "0070005A")) {
      const [left, top] = numbers(item, "00700052"), [right, bottom] = numbers(item, "00700053");
      if (!isAbout(named(item), wanted) || left === undefined || top === undefined || right === undefined || bottom === undefined) continue;
      return { left: left - 1, top: top - 1, right, bottom };
    }
    return null;
  };
  const turns = Math.round((numbers(set, "00700042")[0] ?? 0) / 90) % 4, flipped = text(set, "00700041") === "Y";
  const shared = {
    state: text(set, "00080018"),
    rescale: { slope: numbers(set, "00281053")[0] || 1, intercept: numbers(set, "00281052")[0] ?? 0 },
    inverted: text(set, "20500020") === "INVERSE",
    quarters: flipped ? (4 - turns) % 4 : turns, // a state flips what it has turned (PS3.3 C.10.6)
    flipped,
  };
  const keys = all.flatMap((each) =>
    keysOf("PR", label, each, { shown: { ...shared, window: windowOf(each.instance), area: areaOf(each.instance) } }));
  const shutters = all.flatMap((each) => shuttersIn(set).map((shutter): Drawing => ({ source: "PR", ...each, text: "", ...shutter })));
  const drawings = items(set, "00700001").flatMap((annotation) =>
    named(annotation).flatMap(({ instance, frames }) => {
      const on = { source: "PR" as const, instance, frames };
      const within = (units: string): Partial<Drawing> => (units === "DISPLAY" ? { ofArea: areaOf(instance) ?? "whole" } : {});
      const graphics = items(annotation, "00700009").flatMap((each): Drawing[] => {
        const shape = SHAPES[text(each, "00700023")];
        const points = pairs(numbers(each, "00700022"));
        const isFilled = text(each, "00700024") === "Y";
        return shape ? [{ ...on, shape, points, text: "", isFilled, ...within(text(each, "00700005")) }] : [];
      });
      const texts = items(annotation, "00700008").flatMap((each): Drawing[] => {
        const box = pairs(numbers(each, "00700010").slice(0, 2)), anchor = pairs(numbers(each, "00700014").slice(0, 2));
        const ofBox = within(text(each, "00700003")), ofAnchor = within(text(each, "00700004"));
        const said: Drawing = {
          ...on, shape: "text", points: box.length ? box : anchor, text: text(each, "00700006"), ...(box.length ? ofBox : ofAnchor),
        };
        // A line from the text to what it speaks of, where both are measured alike.
        const isLed = box.length && anchor.length && text(each, "00700015") === "Y" && !ofBox.ofArea === !ofAnchor.ofArea;
        return isLed ? [said, { ...on, shape: "polyline", points: [...anchor, ...box], text: "", ...ofBox }] : [said];
      });
      return [...graphics, ...texts];
    }),
  );
  return { keys, drawings: [...shutters, ...drawings] };
}

type Opening = Pick<Drawing, "shape" | "points" | "shutter">;

/** The shapes that a state's shutters leave open. */
function shuttersIn(set: DataSet): Opening[] {
  const shutter = { state: text(set, "00080018"), grey: (numbers(set, "00181622")[0] ?? 0) >> 8 };
  const number = (tag: string): number | undefined => numbers(set, tag)[0];
  return (set["00181600"]?.Value ?? []).flatMap((kind): Opening[] => {
    if (kind === "RECTANGULAR") {
      const [left, right, top, bottom] = ["00181602", "00181604", "00181606", "00181608"].map(number);
      if (left === undefined || right === undefined || top === undefined || bottom === undefined) return [];
      const [x, y] = [left - 1, top - 1];
      return [{ shape: "polyline", shutter, points: [{ x, y }, { x: right, y }, { x: right, y: bottom }, { x, y: bottom }] }];
    }
    if (kind === "CIRCULAR") {
      const [row, column] = numbers(set, "00181610"), radius = number("00181612");
      if (row === undefined || column === undefined || radius === undefined) return [];
      const [x, y] = [column - 0.5, row - 0.5];
      return [{ shape: "circle", shutter, points: [{ x, y }, { x: x + radius, y }] }];
    }
    const corners = pairs(numbers(set, "00181620")).map(({ x: row, y: column }) => ({ x: column - 0.5, y: row - 0.5 }));
    return kind === "POLYGONAL" && corners.length > 2 ? [{ shape: "polyline", shutter, points: corners }] : [];
  });
}

/** A state's window in the units of the image itself, in which all else is measured. */
export function windowFor(shown: Shown, own: Rescale): Window | null {
  if (!shown.window) return null;
  const { slope, intercept } = shown.rescale;
  const by = own.slope / slope;
  return {
    center: (shown.window.center - intercept) * by + own.intercept,
    width: Math.abs(shown.window.width * by),
  };
}

/** A value as people write it: name, number, unit. */
function measurement(item: DataSet): string {
  const value = items(item, "0040A300")[0];
  const unit = code(value, "004008EA");
  const number = text(value, "0040A30A");
  if (!number) return "";
  return `${meaning(item, "0040A043")} ${number}${unit && unit !== "1" ? ` ${unit}` : ""}`;
}

function structuredReport(set: DataSet): Said {
  const keys: Key[] = [], drawings: Drawing[] = [];
  const title = meaning(set, "0040A043");
  const numbersIn = (within: DataSet): string[] =>
    contents(within).filter((each) => text(each, "0040A040") === "NUM").map(measurement).filter(Boolean);

  function walk(item: DataSet, parent: DataSet, label: string): void {
    const kind = text(item, "0040A040");
    if (kind === "IMAGE") {
      for (const each of items(item, "00081199")) keys.push(...keysOf("SR", label || title, referenceIn(each)));
    }
    if (kind === "SCOORD" || kind === "SCOORD3D") {
      const said = label || numbersIn(parent).join("; ");
      const shape = SHAPES[text(item, "00700023")];
      const values = numbers(item, "00700022");
      if (shape && kind === "SCOORD3D") {
        const points = Array.from({ length: Math.floor(values.length / 3) }, (_, at) => values.slice(at * 3, at * 3 + 3));
        drawings.push({
          source: "SR", instance: "", frames: [], shape, points: [], text: said,
          space: { frameOfReference: text(item, "30060024"), points },
        });
      }
      for (const image of contents(item).filter((each) => text(each, "0040A040") === "IMAGE")) {
        for (const each of items(image, "00081199")) {
          const reference = referenceIn(each);
          keys.push(...keysOf("SR", said || title, reference));
          if (shape && kind === "SCOORD") drawings.push({ source: "SR", ...reference, shape, points: pairs(values), text: said });
        }
      }
      return;
    }
    const own = kind === "NUM" ? measurement(item) : kind === "TEXT" ? text(item, "0040A160") : "";
    for (const each of contents(item)) walk(each, item, own || (kind === "CONTAINER" ? "" : label));
  }
  for (const each of contents(set)) walk(each, set, "");
  return { keys, drawings };
}

const onlyUid = (value: unknown): string => String(value ?? "").replace(/^urn:oid:/, "");
type Json = Readonly<Record<string, unknown>>;
const list = (of: Json | undefined, name: string): Json[] => (Array.isArray(of?.[name]) ? (of[name] as Json[]) : []);

/** The images that a DiagnosticReport points to by `media` (FHIR R4): with its text, or the Media still to be read. */
export function linkedBy(report: Json): { keys: Key[]; unread: { path: string; label: string }[] } {
  const keys: Key[] = [], unread: { path: string; label: string }[] = [];
  for (const each of list(report, "media")) {
    const link = (each.link ?? {}) as Json;
    const label = String(each.comment ?? link.display ?? "");
    const own = onlyUid(((link.identifier ?? {}) as Json).value);
    const reference = String(link.reference ?? "");
    const contained = list(report, "contained").find(({ id }) => reference === `#${String(id)}`);
    if (own) keys.push({ source: "report", label, instance: own, frame: 0 });
    else if (contained) keys.push(...mediaKeys(contained, label));
    else if (/^Media\/[A-Za-z0-9.-]{1,64}$/.test(reference)) unread.push({ path: reference, label });
  }
  return { keys, unread };
}

/** A Media that stands for a DICOM image names it by its identifier (FHIR R4 Media, mapping to DICOM). */
export function mediaKeys(media: Json, label: string): Key[] {
  return list(media, "identifier")
    .filter(({ system, value }) => system === "urn:dicom:uid" || String(value ?? "").startsWith("urn:oid:"))
    .slice(0, 1)
    .map(({ value }) => ({ source: "report", label, instance: onlyUid(value), frame: 0 }));
}

/** What is drawn on one frame, in its own image coordinates; shutters, of the state that shows it alone. */
export function drawingsOn(frame: Frame, drawings: readonly Drawing[], state = ""): Drawing[] {
  return drawings.flatMap((each) => {
    if (each.shutter && each.shutter.state !== state) return [];
    if (each.space) {
      const points = projected(frame, each.space);
      return points ? [{ ...each, points }] : [];
    }
    if (each.instance !== frame.instance || (each.frames.length && !each.frames.includes(frame.number))) return [];
    if (!each.ofArea) return [each];
    const { left, top, right, bottom } =
      each.ofArea === "whole" ? { left: 0, top: 0, right: frame.columns, bottom: frame.rows } : each.ofArea;
    return [{ ...each, points: each.points.map(({ x, y }) => ({ x: left + x * (right - left), y: top + y * (bottom - top) })) }];
  });
}

/** Points of the patient's space in a slice's pixels, when they all lie within its thickness (PS3.3 C.7.6.2.1.1). */
function projected(frame: Frame, { frameOfReference, points }: NonNullable<Drawing["space"]>): Point[] | null {
  const { position, orientation, spacing } = frame;
  if (!frameOfReference || frameOfReference !== frame.frameOfReference) return null;
  if (position.length !== 3 || orientation.length !== 6) return null;
  const half = Math.max(frame.thickness, 0.5) / 2 + 1e-3;
  const place = alongNormal(position, orientation);
  if (!points.every((point) => Math.abs(alongNormal(point, orientation) - place) <= half)) return null;
  return points.map((point) => {
    const from = point.map((each, axis) => each - (position[axis] ?? 0));
    const along = (first: number): number =>
      from.reduce((sum, each, axis) => sum + each * (orientation[first + axis] ?? 0), 0);
    return { x: along(0) / spacing.x + 0.5, y: along(3) / spacing.y + 0.5 }; // positions are those of pixel centres
  });
}
