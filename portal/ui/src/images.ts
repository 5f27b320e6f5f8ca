// The image page: the server's pictures at once, a slider over them, and the viewer when it is there.
//
// Swipe, wheel, arrow keys and the slider go through a series; pictures around the one that is shown are
// fetched before they are asked for, the nearest first. Two fingers zoom.

import type { Mount, Slides } from "../viewer/contract";
import { all, one } from "./dom";

const AHEAD = 6; // pictures fetched before they are shown, on either side
const SIDE = 1024; // pixels of a picture: as the page itself asks for the first one, so that it comes once
const REST_MS = 80; // so long the slider stands before its picture is asked for, where the viewer has something to show
const KEPT = 160; // pictures kept in memory

const stage = one("[data-viewer]");
const picture = one<HTMLImageElement>("[data-image]");
if (stage && picture) {
  const slider = quickSlider(stage, picture);
  // The first image has the network and the processor to itself.
  const begin = (): void => void loadViewer(stage, slider).catch(slider.fetchAhead); // the pictures stay
  if (picture.complete) begin();
  else for (const end of ["load", "error"]) picture.addEventListener(end, begin, { once: true });
}

function quickSlider(stage: HTMLElement, picture: HTMLImageElement): Slides {
  const slider = one<HTMLInputElement>("[data-slice]", stage) as HTMLInputElement;
  const count = one("[data-count]", stage);
  const screen = one("[data-screen]", stage) as HTMLElement;
  const where = one("[data-where]", stage);
  const preview = stage.dataset.preview ?? "";
  const fetched = new Map<string, HTMLImageElement>();
  let seen = picture; // the picture that stands on the page
  let series = one('[data-open-series][aria-pressed="true"]', stage)?.dataset.openSeries ?? "";
  let images = imagesOf(series);
  let at = Number(slider.value) - 1;
  let zoom = 1;
  let yielded = false;
  let ahead = false; // neighbours are fetched from the first step on, if not by the viewer
  let resting = 0;
  let shown = (): void => undefined;

  function imagesOf(uid: string): string[] {
    const listed = one<HTMLTemplateElement>(`[data-images="${uid}"]`)?.content.textContent ?? "";
    return listed
      .trim()
      .split(/\s+/)
      .flatMap((each) => {
        const [instance, frames] = each.split("/");
        return Array.from({ length: Number(frames) }, (_, frame) => `${uid}/${instance}/${frame + 1}`);
      });
  }

  function load(path: string): HTMLImageElement {
    const known = fetched.get(path);
    if (known) return known;
    const image = new Image();
    image.decoding = "async";
    image.alt = picture.alt;
    image.draggable = false;
    image.dataset.image = "";
    image.src = `${preview}/${path}?side=${SIDE}`;
    fetched.set(path, image);
    for (const old of fetched.keys()) {
      if (fetched.size <= KEPT) break;
      fetched.delete(old);
    }
    return image;
  }

  function show(wanted: number): void {
    at = Math.max(0, Math.min(images.length - 1, wanted));
    const path = images[at];
    if (!path) return;
    slider.value = String(at + 1);
    if (count) count.textContent = `${at + 1} / ${images.length}`;
    clearTimeout(resting);
    if (yielded && !fetched.has(path)) {
      resting = window.setTimeout(() => {
        put(path, load(path));
        shown();
      }, REST_MS);
      return shown();
    }
    put(path, load(path));
    shown();
    if (!ahead) return;
    for (let step = 1; step <= AHEAD; step++) {
      for (const near of [images[at + step], images[at - step]]) if (near) load(near);
    }
  }

  function put(path: string, image: HTMLImageElement): void {
    const now = (): void => {
      if (images[at] !== path || seen === image) return;
      image.style.transform = seen.style.transform;
      seen.replaceWith(image);
      seen = image;
    };
    if (image.complete) now();
    else image.addEventListener("load", now, { once: true });
  }

  /** A hand turns a page: where no viewer fetches ahead, the neighbours come along. */
  function step(wanted: number): void {
    ahead = !yielded;
    show(wanted);
  }

  function open(uid: string, wanted?: number): void {
    series = uid;
    images = imagesOf(uid);
    slider.max = String(images.length);
    for (const button of all("[data-open-series]", stage)) {
      button.setAttribute("aria-pressed", String(button.dataset.openSeries === uid));
    }
    const label = one<HTMLTemplateElement>(`[data-images="${uid}"]`)?.dataset.label;
    if (where && label) where.textContent = label;
    magnify(1);
    show(wanted ?? Math.floor(images.length / 2));
  }

  function jump(instance: string, frame: number): boolean {
    for (const each of all<HTMLTemplateElement>("[data-images]")) {
      const uid = each.dataset.images ?? "";
      const found = imagesOf(uid).findIndex((path) => path === `${uid}/${instance}/${Math.max(1, frame)}`);
      if (found < 0) continue;
      if (uid === series) show(found);
      else open(uid, found);
      return true;
    }
    return false;
  }

  function magnify(by: number): void {
    zoom = Math.max(1, Math.min(8, by));
    seen.style.transform = zoom === 1 ? "" : `scale(${zoom})`;
  }

  slider.max = String(images.length);
  const opened = images.findIndex((path) => picture.src.includes(`/${path}?`));
  at = opened < 0 ? Math.floor(images.length / 2) : opened;
  slider.value = String(at + 1);
  if (count) count.textContent = `${at + 1} / ${images.length}`;
  slider.addEventListener("input", () => step(Number(slider.value) - 1));
  screen.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) magnify(zoom * (event.deltaY < 0 ? 1.1 : 0.9));
    else step(at + Math.sign(event.deltaY));
  });
  screen.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (by) {
      event.preventDefault();
      step(at + by);
    }
  });
  followFingers(screen, () => ({ at, zoom }), step, magnify);
  for (const button of all("[data-open-series]", stage)) {
    button.addEventListener("click", () => open(button.dataset.openSeries ?? ""));
  }
  fetched.set(images[at] ?? "", picture); // the page came with it
  return {
    now: () => ({ series, at, paths: images, picture: fetched.get(images[at] ?? "") ?? null }),
    go: show,
    jump,
    yieldFetching: () => {
      yielded = true;
      ahead = false;
    },
    fetchAhead: () => {
      ahead = !yielded;
      show(at);
    },
    onShown: (listener) => {
      shown = listener;
    },
  };
}

function followFingers(
  screen: HTMLElement,
  now: () => { at: number; zoom: number },
  show: (at: number) => void,
  magnify: (zoom: number) => void,
): void {
  const fingers = new Map<number, { x: number; y: number }>();
  let from = { at: 0, y: 0, zoom: 1, apart: 0 };
  const apart = (): number => {
    const [first, second] = [...fingers.values()];
    return first && second ? Math.hypot(first.x - second.x, first.y - second.y) : 0;
  };
  const begin = (): void => {
    const [first] = [...fingers.values()];
    from = { ...now(), y: first?.y ?? 0, apart: apart() };
  };
  screen.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    screen.setPointerCapture(event.pointerId);
    begin();
  });
  screen.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (fingers.size === 1) show(from.at + Math.round((event.clientY - from.y) / 8));
    else if (from.apart) magnify((from.zoom * apart()) / from.apart);
  });
  for (const end of ["pointerup", "pointercancel"] as const) {
    screen.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      begin();
    });
  }
}

/** The light viewer takes over when it is part of this build; see viewer/contract.ts. */
async function loadViewer(stage: HTMLElement, slides: Slides): Promise<void> {
  const modules = import.meta.glob<{ mount: Mount }>("../viewer/index.ts");
  const load = modules["../viewer/index.ts"];
  if (!load) return;
  const words = (text: string | undefined, by: string): string[] => (text ? text.split(by).filter(Boolean) : []);
  const { mount } = await load();
  await mount({
    stage,
    studyInstanceUid: stage.dataset.study ?? "",
    seriesInstanceUids: words(stage.dataset.series, " "),
    priors: words(stage.dataset.priors, " "),
    baseUrl: stage.dataset.base ?? "",
    fhirUrl: stage.dataset.fhir ?? "",
    reportIds: words(stage.dataset.reports, " "),
    previewUrl: stage.dataset.preview ?? "",
    overviewUrl: stage.dataset.overview ?? "",
    diagnosticUrl: stage.dataset.diagnostic ?? "",
    watermark: words(stage.dataset.watermark, "\n"),
    language: stage.dataset.language === "en" ? "en" : "zh",
    start: { seriesInstanceUid: slides.now().series, sopInstanceUid: slides.now().paths[slides.now().at]?.split("/")[1] ?? "" },
    words: JSON.parse(stage.dataset.words ?? "{}") as Record<string, string>,
    slides,
    onEnded: () => location.reload(),
  });
}
