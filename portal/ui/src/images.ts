// The image page: the server's pictures at once, a slider over them, and the viewer when it is there.
//
// Swipe, wheel, arrow keys and the slider go through a series; pictures around the one that is shown are
// fetched before they are asked for, the nearest first. Two fingers zoom.

import type { Mount, Slides } from "../viewer/contract";
import { all, one } from "./dom";

const AHEAD = 6; // pictures fetched before they are shown, on either side
const KEPT = 160; // pictures kept in memory

const stage = one("[data-viewer]");
const picture = one<HTMLImageElement>("[data-image]");
if (stage && picture) {
  const slider = quickSlider(stage, picture);
  void loadViewer(stage, slider).catch(() => undefined); // the pictures stay
}

function quickSlider(stage: HTMLElement, picture: HTMLImageElement): Slides {
  const slider = one<HTMLInputElement>("[data-slice]", stage) as HTMLInputElement;
  const count = one("[data-count]", stage);
  const screen = one("[data-screen]", stage) as HTMLElement;
  const where = one("[data-where]", stage);
  const preview = stage.dataset.preview ?? "";
  const side = Math.min(1024, Math.max(640, Math.round(Math.min(innerWidth, innerHeight) * devicePixelRatio)));
  const fetched = new Map<string, HTMLImageElement>();
  let series = one('[data-open-series][aria-pressed="true"]', stage)?.dataset.openSeries ?? "";
  let images = imagesOf(series);
  let at = Number(slider.value) - 1;
  let zoom = 1;
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
    image.src = `${preview}/${path}?side=${side}`;
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
    const image = load(path);
    const put = (): void => {
      if (images[at] === path) picture.src = image.src;
    };
    if (image.complete) put();
    else image.addEventListener("load", put, { once: true });
    shown();
    for (let step = 1; step <= AHEAD; step++) {
      for (const near of [images[at + step], images[at - step]]) if (near) load(near);
    }
  }

  function open(uid: string): void {
    series = uid;
    images = imagesOf(uid);
    slider.max = String(images.length);
    for (const button of all("[data-open-series]", stage)) {
      button.setAttribute("aria-pressed", String(button.dataset.openSeries === uid));
    }
    const label = one<HTMLTemplateElement>(`[data-images="${uid}"]`)?.dataset.label;
    if (where && label) where.textContent = label;
    magnify(1);
    show(Math.floor(images.length / 2));
  }

  function magnify(by: number): void {
    zoom = Math.max(1, Math.min(8, by));
    picture.style.transform = zoom === 1 ? "" : `scale(${zoom})`;
  }

  slider.max = String(images.length);
  at = Math.floor(images.length / 2);
  slider.value = String(at + 1);
  if (count) count.textContent = `${at + 1} / ${images.length}`;
  slider.addEventListener("input", () => show(Number(slider.value) - 1));
  screen.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) magnify(zoom * (event.deltaY < 0 ? 1.1 : 0.9));
    else show(at + Math.sign(event.deltaY));
  });
  screen.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) {
      event.preventDefault();
      show(at + step);
    }
  });
  followFingers(screen, () => ({ at, zoom }), show, magnify);
  for (const button of all("[data-open-series]", stage)) {
    button.addEventListener("click", () => open(button.dataset.openSeries ?? ""));
  }
  // The first picture is there already; those around it follow once it is.
  const begin = (): void => show(at);
  if (picture.complete) begin();
  else picture.addEventListener("load", begin, { once: true });
  return {
    now: () => ({ series, at, paths: images, picture: load(images[at] ?? "") }),
    go: show,
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
    watermark: words(stage.dataset.watermark, "\n"),
    language: stage.dataset.language === "en" ? "en" : "zh",
    start: { seriesInstanceUid: slides.now().series, sopInstanceUid: slides.now().paths[slides.now().at]?.split("/")[1] ?? "" },
    words: JSON.parse(stage.dataset.words ?? "{}") as Record<string, string>,
    slides,
    onEnded: () => location.reload(),
  });
}
