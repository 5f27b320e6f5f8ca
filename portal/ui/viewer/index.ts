// The light viewer: takes over the picture of the image page once the metadata is here.
//
// The page's slider keeps saying which image is shown; the viewer draws it from its stored values, and the
// server's picture until they have come.

import { draw, frameIn, imagePoint, newPane, textOf, windowIn, type Mark, type Measure, type Pane } from "./pane";
import { presetsOf } from "./grey";
import { WHOLE, zoomed, type Point } from "./geometry";
import { Ended, openStack, type Stack } from "./stack";
import type { Frame } from "./frame";
import type { Mount, Viewer, ViewerContract } from "./contract";

type Tool = "scroll" | "window" | "move" | Measure;
const TOOLS: readonly Tool[] = ["scroll", "window", "move", "distance", "angle", "ellipse", "value"];
const PER_IMAGE = 8; // CSS pixels of a drag that go one image on

export const mount: Mount = async (contract: ViewerContract): Promise<Viewer> => {
  const closing = new AbortController();
  const { signal } = closing;
  const screen = contract.stage.querySelector<HTMLElement>("[data-screen]");
  if (!screen) throw new Error("there is no image");
  const say: Pane["say"] = (key, values = {}) =>
    Object.entries(values).reduce((text, [name, value]) => text.replace(`{${name}}`, value), contract.words[key] ?? key);

  const stacks = new Map<string, Promise<Stack>>();
  let pane: Pane | null = null;
  let tool: Tool = "scroll";
  let waiting = 0;
  let playing = 0;
  const redraw = (): void => {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; if (pane) draw(pane); told(); });
  };

  /** As the page lists them, so that its slider counts the same images. */
  const listed = (paths: string[]) => (frames: Frame[]): Frame[] => {
    const known = new Map(frames.map((frame) => [`${frame.instance}/${frame.number}`, frame]));
    return paths.flatMap((path) => known.get(path.slice(path.indexOf("/") + 1)) ?? []);
  };
  const stackOf = (series: string, paths: string[]): Promise<Stack> => {
    const known = stacks.get(series);
    if (known) return known;
    const place = { ...contract, study: contract.studyInstanceUid, series };
    const made = openStack(place, listed(paths), () => redraw(), contract.onEnded, signal);
    stacks.set(series, made);
    return made;
  };

  const canvas = document.createElement("canvas");
  canvas.className = "canvas";
  canvas.setAttribute("role", "img");
  const info = document.createElement("p");
  info.className = "viewer-info";
  const measured = document.createElement("output"); // what is drawn, for those who cannot see it
  measured.className = "visually-hidden";
  measured.dataset.measured = "";
  const bar = document.createElement("div");
  bar.className = "viewer-tools";
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", say("tools"));
  bar.tabIndex = 0;

  function told(): void {
    const frame = pane && frameIn(pane);
    if (!pane || !frame) return;
    const { center, width } = windowIn(pane);
    const shown = canvas.dataset.pixels === "true" ? say("window-is", { center: String(Math.round(center)), width: String(Math.round(width)) }) : say("preview");
    const scale = frame.regions.length || frame.spacing.source === "patient" ? "" : ` · ${say(frame.spacing.source === "detector" ? "at-detector" : "not-calibrated")}`;
    measured.textContent = (pane.marks.get(pane.at) ?? []).map((mark) => pane && textOf(pane, mark)).join("; ");
    info.textContent = `${shown}${scale}`;
    canvas.setAttribute("aria-label", `${frame.modality} ${pane.at + 1} / ${pane.stack.frames.length}. ${info.textContent}`);
  }

  let turn = 0;
  async function show(series: string, at: number, paths: string[], picture: HTMLImageElement): Promise<void> {
    const mine = ++turn;
    const stack = await stackOf(series, paths);
    if (mine !== turn || stack.frames.length !== paths.length) return; // the page goes on with its pictures
    if (pane?.stack !== stack) {
      pane = newPane(canvas, stack, say, contract.watermark);
      listPresets();
      screen?.append(canvas, info, measured);
    }
    pane.at = at;
    pane.picture = picture;
    picture.addEventListener("load", redraw, { once: true, signal });
    stack.want(at);
    redraw();
  }

  function button(key: string, act: (made: HTMLButtonElement) => void, parent: HTMLElement = bar): HTMLButtonElement {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = say(key);
    made.dataset.tool = key;
    made.addEventListener("click", () => act(made), { signal });
    parent.append(made);
    return made;
  }
  const chosen = TOOLS.map((each) => button(each, () => choose(each)));
  function choose(wanted: Tool): void {
    tool = wanted;
    chosen.forEach((each, at) => each.setAttribute("aria-pressed", String(TOOLS[at] === wanted)));
  }
  const presets = document.createElement("select");
  presets.setAttribute("aria-label", say("presets"));
  presets.dataset.presets = "";
  presets.addEventListener("change", () => {
    const [center, width] = presets.value.split("/").map(Number);
    if (pane) pane.window = center !== undefined && width ? { center, width } : null;
    redraw();
  }, { signal });
  bar.append(presets);
  function listPresets(): void {
    const frame = pane && frameIn(pane);
    if (!pane || !frame) return;
    presets.replaceChildren(...presetsOf(frame.modality, windowIn(pane)).map(({ key, center, width }) => {
      const option = document.createElement("option");
      option.value = key === "own" ? "" : `${center}/${width}`;
      option.textContent = say(`preset-${key}`);
      return option;
    }));
  }
  const turned = (change: (pane: Pane) => void) => (): void => {
    if (pane) change(pane);
    redraw();
  };
  const actions = {
    invert: turned((each) => { each.inverted = !each.inverted; }),
    rotate: turned((each) => { each.view = { ...each.view, quarters: (each.view.quarters + 1) % 4 }; }),
    flip: turned((each) => { each.view = { ...each.view, flipped: !each.view.flipped }; }),
    clear: turned((each) => { each.marks.delete(each.at); }),
    reset: turned((each) => { each.view = WHOLE; each.window = null; each.inverted = false; presets.value = ""; }),
  };
  const play = button("play", () => {
    if (playing) return stop();
    play.textContent = say("stop");
    const each = 1000 / Math.min(60, Math.max(1, (pane && frameIn(pane)?.perSecond) || 10));
    playing = window.setInterval(() => {
      if (pane) contract.slides.go((pane.at + 1) % pane.stack.frames.length);
    }, each);
  });
  function stop(): void {
    clearInterval(playing);
    playing = 0;
    play.textContent = say("play");
  }
  for (const [key, act] of Object.entries(actions)) button(key, act);
  choose("scroll");

  followPointers();
  screen.addEventListener("keydown", (event) => {
    const act = ({ i: actions.invert, r: actions.rotate, f: actions.flip, "0": actions.reset } as Record<string, () => void>)[event.key];
    if (act) act();
    else if (event.key === " ") { event.preventDefault(); play.click(); }
    else if (event.key === "+" || event.key === "=" || event.key === "-") {
      if (pane) pane.view = zoomed(pane.view, event.key === "-" ? 0.8 : 1.25, { x: 0, y: 0 });
      redraw();
    }
  }, { signal });

  /** One finger does what the tool says, two zoom and move; the right button windows, the middle one moves. */
  function followPointers(): void {
    const fingers = new Map<number, Point>();
    const place = (event: MouseEvent): Point => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const fromMiddle = ({ x, y }: Point): Point => ({ x: x - canvas.clientWidth / 2, y: y - canvas.clientHeight / 2 });
    let doing: Tool = "scroll";
    let began = { at: 0, y: 0 };
    let mark: Mark | null = null;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey || !pane) return; // without: the page's slider goes on
      event.preventDefault();
      event.stopPropagation();
      pane.view = zoomed(pane.view, event.deltaY < 0 ? 1.1 : 1 / 1.1, fromMiddle(place(event)));
      redraw();
    }, { signal, passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      if (!pane) return;
      screen?.focus({ preventScroll: true });
      const at = place(event);
      fingers.set(event.pointerId, at);
      canvas.setPointerCapture(event.pointerId);
      began = { at: pane.at, y: at.y };
      doing = event.button === 2 ? "window" : event.button === 1 ? "move" : tool;
      if (fingers.size > 1) {
        if (mark) drop(mark);
        mark = null;
      } else if (doing === "distance" || doing === "angle" || doing === "ellipse" || doing === "value") {
        const point = imagePoint(pane, at);
        const open = (pane.marks.get(pane.at) ?? []).find((each) => each.kind === "angle" && each.points.length === 2);
        if (doing === "angle" && open) {
          mark = open;
          open.points.push(point);
        } else {
          if (doing === "value") for (const old of pane.marks.get(pane.at) ?? []) if (old.kind === "value") drop(old);
          mark = { kind: doing, points: doing === "value" ? [point] : [point, point] };
          pane.marks.set(pane.at, [...(pane.marks.get(pane.at) ?? []), mark]);
        }
        redraw();
      }
    }, { signal });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before || !pane) return;
      event.stopPropagation();
      const at = place(event);
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1] ?? at;
        const by = Math.hypot(at.x - other.x, at.y - other.y) / (Math.hypot(before.x - other.x, before.y - other.y) || 1);
        const view = zoomed(pane.view, by, fromMiddle({ x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 }));
        pane.view = { ...view, panX: view.panX + (at.x - before.x) / 2, panY: view.panY + (at.y - before.y) / 2 };
      } else if (mark) {
        mark.points[mark.points.length - 1] = imagePoint(pane, at);
      } else if (doing === "scroll") {
        contract.slides.go(began.at + Math.round((at.y - began.y) / PER_IMAGE));
      } else if (doing === "window") {
        const now = windowIn(pane);
        const step = Math.max(1, now.width) / 256;
        pane.window = { center: now.center + (at.y - before.y) * step, width: Math.max(1, now.width + (at.x - before.x) * step * 2) };
      } else if (doing === "move") {
        pane.view = { ...pane.view, panX: pane.view.panX + at.x - before.x, panY: pane.view.panY + at.y - before.y };
      }
      fingers.set(event.pointerId, at);
      redraw();
    }, { signal });
    for (const end of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(end, (event) => {
        fingers.delete(event.pointerId);
        mark = null;
      }, { signal });
    }
    canvas.addEventListener("dblclick", actions.reset, { signal });
    function drop(which: Mark): void {
      if (pane) pane.marks.set(pane.at, (pane.marks.get(pane.at) ?? []).filter((each) => each !== which));
    }
  }

  const sized = new ResizeObserver(redraw);
  const showNow = (): void => {
    const { series, at, paths, picture } = contract.slides.now();
    show(series, at, paths, picture).catch((failure: unknown) => {
      if (failure instanceof Ended) contract.onEnded();
    });
  };
  const first = contract.slides.now();
  await show(first.series, first.at, first.paths, first.picture).catch((failure: unknown) => {
    if (failure instanceof Ended) contract.onEnded();
    throw failure;
  });
  if (!pane) throw new Error("the images are not those of the page");
  sized.observe(screen);
  screen.after(bar);
  contract.slides.onShown(showNow);
  showNow();
  return {
    close: () => {
      closing.abort();
      stop();
      sized.disconnect();
      for (const each of [canvas, info, measured, bar]) each.remove();
    },
  };
};
