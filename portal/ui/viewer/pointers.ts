// Fingers and mouse on one canvas: one finger does what the tool says, two zoom and move; the right button windows,
// the middle one moves.

import { imagePoint, windowIn, type Mark, type Measure, type Pane } from "./pane";
import { zoomed, type Point } from "./geometry";

export type Tool = "scroll" | "window" | "move" | Measure;
export const MEASURES: readonly Measure[] = ["distance", "angle", "ellipse", "value"];

const PER_IMAGE = 8; // CSS pixels of a drag that go one image on
const LEAST_DRAG = 2; // CSS pixels; less is a touch that trembled, and no measurement

export interface Hand {
  pane: () => Pane | null;
  tool: () => Tool;
  scroll: (to: number) => void;
  /** This pane is the one that is worked on. */
  touched: () => void;
  changed: () => void;
  reset: () => void;
}

const isMeasure = (tool: Tool): tool is Measure => (MEASURES as readonly string[]).includes(tool);

export function followPointers(canvas: HTMLCanvasElement, hand: Hand, signal: AbortSignal): void {
  const fingers = new Map<number, Point>();
  const place = (event: MouseEvent): Point => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const fromMiddle = ({ x, y }: Point): Point => ({ x: x - canvas.clientWidth / 2, y: y - canvas.clientHeight / 2 });
  let doing: Tool = "scroll";
  let began = { at: 0, x: 0, y: 0 };
  let mark: Mark | null = null;

  const marksOf = (pane: Pane): Mark[] => pane.marks.get(pane.at) ?? [];
  const drop = (pane: Pane, which: Mark): void => {
    pane.marks.set(pane.at, marksOf(pane).filter((each) => each !== which));
  };

  canvas.addEventListener("mousedown", (event) => {
    if (event.button === 1) event.preventDefault(); // no automatic scrolling of the browser
  }, { signal });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
  canvas.addEventListener("wheel", (event) => {
    const pane = hand.pane();
    if (!pane) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.ctrlKey) pane.view = zoomed(pane.view, event.deltaY < 0 ? 1.1 : 1 / 1.1, fromMiddle(place(event)));
    else hand.scroll(pane.at + Math.sign(event.deltaY));
    hand.changed();
  }, { signal, passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    const pane = hand.pane();
    if (!pane) return;
    hand.touched();
    const at = place(event);
    fingers.set(event.pointerId, at);
    canvas.setPointerCapture(event.pointerId);
    began = { at: pane.at, ...at };
    doing = event.button === 2 ? "window" : event.button === 1 ? "move" : hand.tool();
    if (fingers.size > 1) {
      if (mark) drop(pane, mark);
      mark = null;
    } else if (isMeasure(doing)) {
      mark = begin(pane, doing, imagePoint(pane, at));
      hand.changed();
    }
  }, { signal });

  function begin(pane: Pane, kind: Measure, point: Point): Mark {
    const open = marksOf(pane).find((each) => each.kind === "angle" && each.points.length === 2);
    if (kind === "angle" && open) {
      open.points.push(point);
      return open;
    }
    const others = kind === "value" ? marksOf(pane).filter((each) => each.kind !== "value") : marksOf(pane);
    const made: Mark = { kind, points: kind === "value" ? [point] : [point, point] };
    pane.marks.set(pane.at, [...others, made]);
    return made;
  }

  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const pane = hand.pane();
    if (!before || !pane) return;
    event.stopPropagation();
    const at = place(event);
    const by = { x: at.x - before.x, y: at.y - before.y };
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1] ?? at;
      const wider = Math.hypot(at.x - other.x, at.y - other.y) / (Math.hypot(before.x - other.x, before.y - other.y) || 1);
      const view = zoomed(pane.view, wider, fromMiddle({ x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 }));
      pane.view = { ...view, panX: view.panX + by.x / 2, panY: view.panY + by.y / 2 };
    } else if (fingers.size > 2) {
      return;
    } else if (mark) {
      mark.points[mark.points.length - 1] = imagePoint(pane, at);
    } else if (doing === "scroll") {
      hand.scroll(began.at + Math.round((at.y - began.y) / PER_IMAGE));
    } else if (doing === "window") {
      const now = windowIn(pane);
      const step = Math.max(1, now.width) / 256;
      pane.window = { center: now.center + by.y * step, width: Math.max(1, now.width + by.x * step * 2) };
    } else if (doing === "move") {
      pane.view = { ...pane.view, panX: pane.view.panX + by.x, panY: pane.view.panY + by.y };
    }
    fingers.set(event.pointerId, at);
    hand.changed();
  }, { signal });

  for (const end of ["pointerup", "pointercancel"] as const) {
    canvas.addEventListener(end, (event) => {
      const pane = hand.pane();
      const at = fingers.get(event.pointerId);
      const still = at && Math.hypot(at.x - began.x, at.y - began.y) < LEAST_DRAG;
      if (pane && mark && still && (mark.kind === "distance" || mark.kind === "ellipse")) drop(pane, mark);
      fingers.delete(event.pointerId);
      if (fingers.size === 1) doing = "move"; // the finger that stays after a pinch turns no pages
      mark = null;
      hand.changed();
    }, { signal });
  }
  canvas.addEventListener("dblclick", hand.reset, { signal });
}
