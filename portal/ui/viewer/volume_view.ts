// A volume over the image: planes through it in three directions (MPR), or the whole from outside (3D).
//
// What slices make no volume is said, and nothing is drawn that nobody measured. Cornerstone3D is loaded here and
// nowhere else, once the slices are known to make a volume. The browser's back button leaves it, as in an app.

import type { Frame } from "./frame";
import { between, gridOf, reduced, voxelsFor, type Grid } from "./volume";
import { markAcross, windowIn, type Pane } from "./pane";
import type { Stack } from "./stack";
import { newBar, option } from "./toolbar";

export interface VolumeAsked {
  kind: "mpr" | "volume";
  pane: Pane;
  stage: HTMLElement;
  watermark: string[];
  say: Pane["say"];
  signal: AbortSignal;
}

export type Voxels = Int16Array | Float32Array;

const AT_ONCE = 6; // slices fetched beside each other
const PRESETS = ["bone", "soft", "vessels", "lung"] as const;
const TOOLS = ["scroll", "window", "crosshairs", "distance"] as const;

export async function openVolume(asked: VolumeAsked): Promise<void> {
  const { kind, pane, stage, say } = asked;
  const closing = new AbortController();
  const { signal } = closing;
  const element = document.createElement("section");
  element.className = "volume";
  element.dataset.volume = "loading";
  element.setAttribute("role", "dialog");
  element.setAttribute("aria-label", say(kind));
  const head = document.createElement("div");
  head.className = "volume-head";
  const leave = document.createElement("button");
  leave.type = "button";
  leave.dataset.tool = "leave";
  leave.textContent = say("leave");
  const told = document.createElement("p");
  told.setAttribute("role", "status");
  head.append(leave, told);
  const views = document.createElement("div");
  views.className = "volume-views";
  const mark = document.createElement("canvas");
  mark.className = "volume-mark";
  element.append(head, views, mark);
  stage.append(element);
  leave.focus();

  let drawn: { close: () => void } | null = null;
  history.pushState({ volume: kind }, "");
  leave.addEventListener("click", () => history.back(), { signal });
  element.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Escape") history.back();
  }, { signal });
  const close = (): void => {
    closing.abort();
    drawn?.close();
    element.remove();
    stage.querySelector<HTMLElement>("[data-screen]")?.focus({ preventScroll: true });
  };
  addEventListener("popstate", close, { signal });
  asked.signal.addEventListener("abort", close, { signal });
  const sized = new ResizeObserver(() => {
    const ratio = devicePixelRatio || 1;
    mark.width = element.clientWidth * ratio;
    mark.height = element.clientHeight * ratio;
    const brush = mark.getContext("2d");
    brush?.scale(ratio, ratio);
    if (brush) markAcross(brush, asked.watermark, element.clientWidth, element.clientHeight);
  });
  sized.observe(element);
  signal.addEventListener("abort", () => sized.disconnect());

  const refuse = (why: string): void => {
    element.dataset.volume = "refused";
    told.textContent = say(`refused-${why}`);
  };
  const { frames } = pane.stack;
  const memory = (navigator as { deviceMemory?: number }).deviceMemory;
  const grid = gridOf(frames, voxelsFor(memory, Math.min(innerWidth, innerHeight) < 600));
  if (typeof grid === "string") return refuse(grid);
  if (!document.createElement("canvas").getContext("webgl2")) return refuse("graphics");

  try {
    const [view, voxels] = await Promise.all([
      import("./cornerstone_view"),
      filled(grid, pane.stack, signal, (part) => {
        told.textContent = say("volume-loading", { part: String(Math.round(part * 100)) });
      }),
    ]);
    if (signal.aborted) return;
    const shown = await view.show({ kind, grid, voxels, views, frame: frames[grid.order[0] ?? 0] as Frame, window: windowIn(pane), say, signal });
    drawn = shown;
    const bar = newBar(say, signal);
    if (kind === "mpr") {
      const chosen = TOOLS.map((tool) => bar.button(tool, () => choose(tool)));
      const choose = (wanted: (typeof TOOLS)[number]): void => {
        shown.use(wanted);
        chosen.forEach((each, at) => each.setAttribute("aria-pressed", String(TOOLS[at] === wanted)));
      };
      choose("scroll");
    } else {
      const presets = bar.select("presets", () => shown.preset(presets.value));
      presets.append(...PRESETS.map((each) => option(each, say(`volume-${each}`))));
      presets.value = frames[0]?.modality === "CT" ? "bone" : "soft";
      shown.preset(presets.value);
    }
    bar.button("reset", () => shown.reset());
    element.append(bar.element);
    told.textContent = saidOf(grid, say);
    element.dataset.volume = "shown";
  } catch (failure) {
    if (signal.aborted) return;
    refuse("failed");
    throw failure;
  }
}

/** What has to be known of the volume by whoever looks at it. */
function saidOf(grid: Grid, say: Pane["say"]): string {
  const millimetres = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
  const said = [say("not-for-diagnosis")];
  if (!grid.isEven) {
    said.push(say("interpolated", { least: millimetres(grid.gaps[0]), most: millimetres(grid.gaps[1]) }));
  }
  if (grid.by > 1) said.push(say("subsampled", { by: String(grid.by) }));
  said.push(say("voxel", { x: millimetres(grid.spacing[0]), y: millimetres(grid.spacing[1]), z: millimetres(grid.spacing[2]) }));
  return said.join(" · ");
}

/** The grid's values, slice by slice as they come; no more than a few slices are held beside it. */
async function filled(grid: Grid, stack: Stack, signal: AbortSignal, progress: (part: number) => void): Promise<Voxels> {
  const first = stack.frames[grid.order[0] ?? 0] as Frame;
  const most = (first.stored.isSigned ? 2 ** (first.stored.bitsStored - 1) : 2 ** first.stored.bitsStored) * Math.abs(first.rescale.slope);
  const isWhole = stack.frames.every((each) => Number.isInteger(each.rescale.slope) && Number.isInteger(each.rescale.intercept));
  const size = grid.columns * grid.rows;
  const isSmall = isWhole && most + Math.abs(first.rescale.intercept) <= 32767;
  const voxels = isSmall ? new Int16Array(size * grid.slices) : new Float32Array(size * grid.slices);
  const slices = new Map<number, Promise<Float32Array>>();
  const sliceAt = (place: number): Promise<Float32Array> => {
    const at = grid.order[place] ?? 0;
    const known = slices.get(place) ?? stack.fetch(at).then((words) => reduced(words, stack.frames[at] as Frame, grid));
    slices.set(place, known);
    return known;
  };
  for (let plane = 0; plane < grid.slices; plane++) {
    for (let ahead = plane; ahead < Math.min(grid.slices, plane + AT_ONCE); ahead++) {
      const { below, above } = between(grid, ahead);
      for (const each of [below, above]) sliceAt(each).catch(() => undefined); // it is said where it is awaited
    }
    const { below, above, part } = between(grid, plane);
    const [low, high] = [await sliceAt(below), await sliceAt(above)];
    signal.throwIfAborted();
    for (let at = 0; at < size; at++) {
      const value = (low[at] ?? 0) * (1 - part) + (high[at] ?? 0) * part;
      voxels[plane * size + at] = isSmall ? Math.round(value) : value;
    }
    for (const each of slices.keys()) if (each < below) slices.delete(each);
    progress((plane + 1) / grid.slices);
  }
  return voxels;
}
