// The light viewer: takes over the picture of the image page once the metadata is here.
//
// The page's slider keeps saying which image is shown; the viewer draws it from its stored values, and the
// server's picture until they have come. A second pane shows another series beside it.

import { openCompanion, type Companion } from "./companion";
import type { Mount, Viewer, ViewerContract } from "./contract";
import { newDecoder } from "./decoder";
import type { Frame } from "./frame";
import { framed, WHOLE, zoomed } from "./geometry";
import { presetsOf, type Preset } from "./grey";
import { linkedImages, notesOf } from "./notes";
import { openOverview, type Overview } from "./overview";
import { draw, frameIn, newPane, textOf, windowIn, type Pane } from "./pane";
import { followPointers, MEASURES, type Tool } from "./pointers";
import { drawingsOn, windowFor, type Key, type Shown } from "./references";
import { Ended, openStack, type Stack } from "./stack";
import { newBar, option } from "./toolbar";

const TOOLS: readonly Tool[] = ["scroll", "window", "move", ...MEASURES];
const SPEEDS = [1, 2, 5, 10, 15, 25, 40]; // images a second
const SHORT = 12; // images of a series whose own pictures are as quick as an overview

export const mount: Mount = async (contract: ViewerContract): Promise<Viewer> => {
  const closing = new AbortController();
  const { signal } = closing;
  const screen = contract.stage.querySelector<HTMLElement>("[data-screen]");
  if (!screen) throw new Error("there is no image");
  const say: Pane["say"] = (key, values = {}) =>
    Object.entries(values).reduce((text, [name, value]) => text.replace(`{${name}}`, value), contract.words[key] ?? key);
  const endOf = (failure: unknown): void => {
    if (failure instanceof Ended) contract.onEnded();
    else if (!signal.aborted) console.error(failure);
  };

  const decoder = newDecoder();
  const stacks = new Map<string, Promise<Stack>>();
  let overview: Overview | null = null;
  let pane: Pane | null = null;
  let companion: Companion | null = null;
  let worked: "own" | "companion" = "own";
  let tool: Tool = "scroll";
  let waiting = 0;
  let drawings: Pane["drawings"] = [];
  const redraw = (): void => {
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; drawAll(); });
  };
  function drawAll(): void {
    if (pane) draw(pane);
    if (companion) draw(companion.pane);
    told();
  }

  /** As the page lists them, so that its slider counts the same images. */
  const listed = (paths: string[]) => (frames: Frame[]): Frame[] => {
    const known = new Map(frames.map((frame) => [`${frame.instance}/${frame.number}`, frame]));
    return paths.flatMap((path) => known.get(path.slice(path.indexOf("/") + 1)) ?? []);
  };
  const stackOf = (series: string, paths: string[]): Promise<Stack> => {
    const known = stacks.get(series);
    if (known) return known;
    const place = { ...contract, study: contract.studyInstanceUid, series };
    const made = openStack(place, listed(paths), redraw, contract.onEnded, decoder, signal);
    stacks.set(series, made);
    return made;
  };

  const canvas = document.createElement("canvas");
  canvas.className = "canvas";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", say("preview")); // until it is drawn, and says of which image it is
  const info = document.createElement("p");
  info.className = "viewer-info";
  const measured = document.createElement("output"); // what is drawn, for those who cannot see it
  measured.className = "visually-hidden";
  measured.dataset.measured = "";

  /** What stands on a pane beside its image. */
  function captionOf(shown: Pane, frame: Frame): string {
    const { center, width } = windowIn(shown);
    const state = shown.canvas.dataset.pixels;
    const window = state === "true" ? say("window-is", { center: String(Math.round(center)), width: String(Math.round(width)) })
      : say(state === "overview" ? "overview" : frame.isGrey ? "preview" : "picture");
    const isTrue = frame.regions.length > 0 || frame.spacing.source === "patient";
    return isTrue ? window : `${window} · ${say(frame.spacing.source === "detector" ? "at-detector" : "not-calibrated")}`;
  }
  function told(): void {
    const frame = pane && frameIn(pane);
    if (!pane || !frame) return;
    const marks = (each: Pane): string[] => (each.marks.get(each.at) ?? []).map((mark) => textOf(each, mark));
    const others = pane.plain ? [] : drawingsOn(frame, pane.drawings).map(({ text }) => text).filter(Boolean);
    measured.textContent = [...marks(pane), ...(companion ? marks(companion.pane) : []), ...others].join("; ");
    info.textContent = captionOf(pane, frame);
    canvas.setAttribute("aria-label", `${frame.modality} ${pane.at + 1} / ${pane.stack.frames.length}. ${info.textContent}`);
    const second = companion && frameIn(companion.pane);
    if (companion && second) companion.tell(captionOf(companion.pane, second));
  }

  let turn = 0;
  async function show(series: string, at: number, paths: string[], picture: HTMLImageElement | null): Promise<void> {
    const mine = ++turn;
    const stack = await stackOf(series, paths);
    if (mine !== turn || stack.frames.length !== paths.length) return; // the page goes on with its pictures
    if (pane?.stack !== stack) {
      companion?.close();
      overview?.close();
      pane = newPane(canvas, stack, say, contract.watermark);
      pane.drawings = drawings;
      pane.at = at;
      canvas.dataset.series = series;
      canvas.dataset.pixels = "none"; // what is still drawn is of the series before
      openOverviewOf(pane, paths);
      listPresets();
      screen?.append(canvas, info, measured);
    }
    pane.at = at;
    pane.picture = picture;
    picture?.addEventListener("load", redraw, { once: true, signal });
    stack.want(at);
    companion?.follow(at);
    redraw();
  }
  function openOverviewOf(of: Pane, paths: string[]): void {
    const { frames, place } = of.stack;
    const isOfSingleFrames = new Set(frames.map((each) => each.instance)).size === frames.length;
    canvas.dataset.overview = "";
    overview = null;
    if (paths.length <= SHORT || !isOfSingleFrames) return;
    of.stack.fetchAround(false); // first something of every image, then all of the nearest
    overview = openOverview(`${contract.overviewUrl}/${place.series}`, paths.length, of.at, (here, isWhole) => {
      canvas.dataset.overview = String(here);
      if (isWhole) of.stack.fetchAround(true);
      redraw();
    });
    of.tile = overview.tile;
  }

  const bar = newBar(say, signal);
  const chosen = TOOLS.map((each) => bar.button(each, () => choose(each)));
  function choose(wanted: Tool): void {
    tool = wanted;
    chosen.forEach((each, at) => each.setAttribute("aria-pressed", String(TOOLS[at] === wanted)));
  }
  const panes = (): Pane[] => [pane, companion?.pane ?? null].filter((each): each is Pane => each !== null);
  let presetList: Preset[] = [];
  const presets = bar.select("presets", () => {
    const preset = presetList[Number(presets.value)];
    if (!preset) return;
    for (const each of panes()) {
      each.window = preset.key === "own" ? null : { center: preset.center, width: preset.width };
      each.inverted = preset.inverted ?? false;
    }
    redraw();
  });
  function listPresets(): void {
    const frame = pane && frameIn(pane);
    if (!pane || !frame) return;
    presetList = presetsOf(frame.modality, windowIn(pane), frame.windows);
    presets.replaceChildren(...presetList.map(({ key, name }, at) => option(String(at), say(`preset-${key}`, { name: name ?? "" }))));
  }

  // -- cine
  let playing = 0;
  const play = bar.button("play", () => (playing ? stop() : start()));
  const speed = bar.select("speed", () => { if (playing) start(); });
  speed.append(option("", say("speed-own")), ...SPEEDS.map((each) => option(String(each), say("speed-is", { rate: String(each) }))));
  function start(): void {
    stop();
    play.textContent = say("stop");
    play.setAttribute("aria-pressed", "true");
    const rate = Number(speed.value) || Math.min(60, Math.max(1, (pane && frameIn(pane)?.perSecond) || 10));
    playing = window.setInterval(() => {
      if (pane && canvas.dataset.pixels !== "none") contract.slides.go((pane.at + 1) % pane.stack.frames.length);
    }, 1000 / rate);
  }
  function stop(): void {
    clearInterval(playing);
    playing = 0;
    play.textContent = say("play");
    play.setAttribute("aria-pressed", "false");
  }

  // -- turns, marks
  const turned = (change: (pane: Pane) => void) => (): void => {
    const which = worked === "companion" && companion ? companion.pane : pane;
    if (which) change(which);
    redraw();
  };
  const actions = {
    invert: turned((each) => { each.inverted = !each.inverted; }),
    rotate: turned((each) => { each.view = { ...each.view, quarters: (each.view.quarters + 1) % 4 }; }),
    flip: turned((each) => { each.view = { ...each.view, flipped: !each.view.flipped }; }),
    clear: turned((each) => { each.marks.delete(each.at); }),
    reset: () => {
      for (const each of panes()) Object.assign(each, { view: WHOLE, window: null, inverted: false, state: "" });
      presets.value = "0";
      redraw();
    },
  };
  for (const [key, act] of Object.entries(actions)) bar.button(key, act);
  choose("scroll");

  // -- what others drew and point to
  const keys = document.createElement("div");
  keys.className = "viewer-keys";
  keys.setAttribute("role", "group");
  keys.setAttribute("aria-label", say("keys"));
  const notesShown = bar.button("notes", () => {
    for (const each of panes()) each.plain = !each.plain;
    notesShown.setAttribute("aria-pressed", String(!pane?.plain));
    redraw();
  });
  notesShown.hidden = true;
  async function loadNotes(): Promise<void> {
    const [linked, notes] = await Promise.all([
      linkedImages(contract.fhirUrl, contract.reportIds, signal),
      notesOf(contract.baseUrl, contract.studyInstanceUid, signal),
    ]);
    drawings = notes.drawings;
    if (pane) pane.drawings = drawings;
    notesShown.hidden = !drawings.length;
    notesShown.setAttribute("aria-pressed", "true");
    const all = new Map([...linked, ...notes.keys].map((each) => [`${each.source} ${each.instance} ${each.frame} ${each.label}`, each]));
    for (const key of all.values()) listKey(key);
    redraw();
  }
  function showBy(pane: Pane, shown: Shown): void {
    const frame = frameIn(pane);
    if (!frame) return;
    const turned = { ...WHOLE, quarters: shown.quarters, flipped: shown.flipped };
    pane.state = shown.state;
    pane.window = windowFor(shown, frame.rescale);
    pane.inverted = shown.inverted !== frame.isInverted; // a state knows no MONOCHROME1 (PS3.4 N.2.1)
    pane.view = shown.area ? framed(turned, frame, shown.area, canvas.clientWidth, canvas.clientHeight) : turned;
  }
  function listKey(key: Key): void {
    const made = document.createElement("button");
    made.type = "button";
    made.dataset.key = key.source;
    made.textContent = `${say(`key-${key.source}`)}${key.label ? ` · ${key.label}` : ""}`;
    made.addEventListener("click", () => {
      if (!contract.slides.jump(key.instance, key.frame)) {
        made.disabled = true; // of another examination
        return;
      }
      void shownAll.then(() => {
        if (pane && key.shown) showBy(pane, key.shown);
        redraw();
      });
    }, { signal });
    keys.append(made);
    if (!keys.isConnected) bar.element.before(keys);
  }

  // -- another series beside
  const beside = bar.button("compare", () => void toggleCompanion().catch(endOf));
  beside.hidden = !contract.priors.length && contract.seriesInstanceUids.length < 2;
  async function toggleCompanion(): Promise<void> {
    if (companion) return companion.close();
    if (!pane || !screen) return;
    beside.disabled = true;
    try {
      companion = await openCompanion({
        contract, screen, own: () => pane, say, decoder, bar: bar.element, signal, redraw,
        hand: {
          tool: () => tool, changed: redraw, reset: actions.reset,
          touched: () => { worked = "companion"; screen.focus({ preventScroll: true }); },
        },
        closed: () => {
          companion = null;
          worked = "own";
          beside.setAttribute("aria-pressed", "false");
          redraw();
        },
      });
      beside.setAttribute("aria-pressed", String(companion !== null));
    } finally {
      beside.disabled = false;
    }
    redraw();
  }

  // -- volumes, and the diagnostic viewer
  for (const kind of ["mpr", "volume"] as const) {
    const made = bar.button(kind, () => {
      if (!pane || !screen) return;
      stop();
      made.disabled = true;
      const own = pane;
      void import("./volume_view")
        .then(({ openVolume }) => openVolume({ kind, pane: own, stage: contract.stage, watermark: contract.watermark, say, signal }))
        .catch(endOf)
        .finally(() => { made.disabled = false; });
    });
  }
  if (contract.diagnosticUrl) bar.link("diagnostic", contract.diagnosticUrl);
  bar.arrange();

  followPointers(canvas, {
    pane: () => pane, tool: () => tool, scroll: contract.slides.go, changed: redraw, reset: actions.reset,
    touched: () => { worked = "own"; screen.focus({ preventScroll: true }); },
  }, signal);
  const keyActions: Readonly<Record<string, () => void>> = {
    i: actions.invert, r: actions.rotate, f: actions.flip, "0": actions.reset,
    " ": () => play.click(),
    ...Object.fromEntries(["+", "=", "-"].map((key) => [key, turned((each) => {
      each.view = zoomed(each.view, key === "-" ? 0.8 : 1.25, { x: 0, y: 0 });
    })])),
    Home: () => contract.slides.go(0),
    End: () => contract.slides.go((pane?.stack.frames.length ?? 1) - 1),
  };
  screen.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keyActions[event.key];
    if (!act || event.target !== screen) return;
    event.preventDefault();
    act();
  }, { signal });

  const sized = new ResizeObserver(redraw);
  let shownAll = Promise.resolve();
  const showNow = (): void => {
    const { series, at, paths, picture } = contract.slides.now();
    shownAll = show(series, at, paths, picture).catch(endOf);
  };
  const first = contract.slides.now();
  await show(first.series, first.at, first.paths, first.picture).catch((failure: unknown) => {
    endOf(failure);
    throw failure;
  });
  if (!pane) throw new Error("the images are not those of the page");
  sized.observe(screen);
  screen.after(bar.element);
  contract.slides.onShown(showNow);
  contract.slides.yieldFetching();
  showNow();
  void loadNotes().catch(endOf);
  return {
    close: () => {
      closing.abort();
      stop();
      companion?.close();
      overview?.close();
      decoder.close();
      sized.disconnect();
      for (const each of [canvas, info, measured, keys, bar.element]) each.remove();
    },
  };
};
