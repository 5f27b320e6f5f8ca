// A second pane beside the first: a series of an earlier examination, or another one of the same, that scrolls along.

import type { ViewerContract } from "./contract";
import type { Decoder } from "./decoder";
import type { DataSet } from "./frame";
import { firstPair, inOrder, linkOf, partnerOf, type Link, type Pair } from "./linking";
import { listSeries, notesOf } from "./notes";
import { frameIn, newPane, type Pane } from "./pane";
import { followPointers, type Hand } from "./pointers";
import { askJson, Ended, openStack, type Place } from "./stack";
import { option } from "./toolbar";

const MOST_PRIORS = 12;
const REST_MS = 80; // where a finger has come to rest, the server's picture is asked for

export interface Companion {
  pane: Pane;
  /** The first pane shows image `at` now. */
  follow: (at: number) => void;
  tell: (caption: string) => void;
  close: () => void;
}

export interface Beside {
  contract: ViewerContract;
  screen: HTMLElement;
  own: () => Pane | null;
  say: Pane["say"];
  decoder: Decoder;
  bar: HTMLElement;
  signal: AbortSignal;
  redraw: () => void;
  hand: Pick<Hand, "tool" | "changed" | "reset" | "touched">;
  closed: () => void;
}

interface Choice {
  place: Place;
  label: string;
  modality: string;
}

/** What can stand beside: series of earlier examinations, then the study's own others. */
async function choicesOf({ contract, own }: Beside, signal: AbortSignal): Promise<Choice[]> {
  const priors = contract.priors.slice(0, MOST_PRIORS);
  const studies = [...priors, contract.studyInstanceUid];
  const query = `StudyInstanceUID=${priors.join(",")}&includefield=00081030`;
  const told = priors.length ? await askJson<DataSet[]>(`${contract.baseUrl}/studies?${query}`, signal) : [];
  const first = (set: DataSet | undefined, tag: string): string => String(set?.[tag]?.Value?.[0] ?? "");
  const series = await Promise.all(studies.map((study) => listSeries(contract.baseUrl, study, signal)));
  return studies.flatMap((study, at) => {
    const about = told.find((set) => first(set, "0020000D") === study);
    const day = first(about, "00080020").replace(/^(\d{4})(\d{2})(\d{2})$/, "$1-$2-$3");
    const previewUrl = contract.previewUrl.replace(contract.studyInstanceUid, study);
    return (series[at] ?? [])
      .filter((each) => each.images && !["KO", "PR", "SR", "DOC"].includes(each.modality))
      .filter((each) => study !== contract.studyInstanceUid || each.series !== own()?.stack.place.series)
      .map((each) => ({
        place: { baseUrl: contract.baseUrl, previewUrl, study, series: each.series },
        label: [day, first(about, "00081030"), each.description || each.modality].filter(Boolean).join(" · "),
        modality: each.modality,
      }));
  });
}

/** Opens the likeliest series beside; null when there is none. */
export async function openCompanion(beside: Beside): Promise<Companion | null> {
  const { contract, screen, own, say, bar, redraw, hand } = beside;
  const closing = new AbortController();
  const { signal } = closing;
  beside.signal.addEventListener("abort", () => closing.abort(), { signal });
  const choices = await choicesOf(beside, signal);
  const main = own();
  const modality = main && frameIn(main)?.modality;
  const likeliest = Math.max(0, choices.findIndex((each) => each.modality === modality));
  if (!main || !choices.length) return null;

  const canvas = document.createElement("canvas");
  canvas.className = "canvas second";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", say("beside"));
  const info = document.createElement("p");
  info.className = "viewer-info second";
  const tools = document.createElement("div");
  tools.className = "viewer-tools beside";
  const which = document.createElement("select");
  which.setAttribute("aria-label", say("beside"));
  which.dataset.beside = "";
  which.append(...choices.map(({ label }, at) => option(String(at), label)));
  const linked = document.createElement("button");
  linked.type = "button";
  linked.dataset.tool = "link";
  linked.textContent = say("link");
  tools.append(which, linked);

  let link: Link = "number";
  let pair: Pair = { at: 0, other: 0 };
  let isLinked = true;
  let resting = 0;
  let led: Pair | null = null; // where a hand on this pane has brought both
  let pane: Pane;

  async function open(at: number): Promise<void> {
    const choice = choices[at];
    const main = own();
    if (!choice || !main) return;
    const stack = await openStack(choice.place, inOrder, redraw, contract.onEnded, beside.decoder, signal);
    const made = newPane(canvas, stack, say, contract.watermark);
    made.window = main.window;
    made.plain = main.plain;
    pane = made;
    link = linkOf(main.stack.frames, stack.frames);
    pair = firstPair(main.stack.frames, stack.frames, main.at);
    show(partnerOf(main.stack.frames, stack.frames, main.at, pair, link));
    void notesOf(contract.baseUrl, choice.place.study, signal).then(({ drawings }) => {
      made.drawings = drawings;
      redraw();
    }, () => undefined);
  }

  function show(at: number): void {
    const wanted = Math.max(0, Math.min(pane.stack.frames.length - 1, at));
    clearTimeout(resting);
    if (wanted !== pane.at) pane.picture = null;
    pane.at = wanted;
    pane.stack.want(wanted);
    const of = pane;
    resting = window.setTimeout(() => {
      if (of.stack.words(wanted) || of.at !== wanted) return;
      of.picture = new Image();
      of.picture.addEventListener("load", redraw, { once: true });
      of.picture.src = of.stack.preview(wanted, 1024);
    }, REST_MS);
    redraw();
  }

  /** A hand on this pane turns both while they are linked. */
  function scroll(to: number): void {
    const main = own();
    show(to);
    if (main && isLinked) {
      const there = partnerOf(pane.stack.frames, main.stack.frames, pane.at, { at: pair.other, other: pair.at }, link);
      led = { at: there, other: pane.at };
      if (there !== main.at) contract.slides.go(there);
    }
  }

  function setLinked(wanted: boolean): void {
    const main = own();
    isLinked = wanted;
    linked.setAttribute("aria-pressed", String(wanted));
    if (main && wanted && link !== "position") pair = { at: main.at, other: pane.at }; // as they stand beside each other now
    redraw();
  }

  await open(likeliest);
  which.value = String(likeliest);
  linked.setAttribute("aria-pressed", "true");
  which.addEventListener("change", () => {
    void open(Number(which.value)).catch((failure: unknown) => {
      if (failure instanceof Ended) contract.onEnded();
    });
  }, { signal });
  linked.addEventListener("click", () => setLinked(!isLinked), { signal });
  screen.dataset.panes = "2";
  screen.append(canvas, info);
  bar.before(tools);
  followPointers(canvas, { ...hand, pane: () => pane, scroll }, signal);

  return {
    get pane() {
      return pane;
    },
    follow: (at) => {
      const main = own();
      if (!main || !isLinked || (led?.at === at && led.other === pane.at)) return;
      led = null;
      const there = partnerOf(main.stack.frames, pane.stack.frames, at, pair, link);
      if (there !== pane.at) show(there);
    },
    tell: (caption) => {
      const { label } = choices[Number(which.value)] ?? { label: "" };
      info.textContent = `${label} · ${caption} · ${isLinked ? say(`link-${link}`) : say("link-none")}`;
      canvas.setAttribute("aria-label", `${label} ${pane.at + 1} / ${pane.stack.frames.length}. ${caption}`);
      canvas.dataset.link = isLinked ? link : "none";
    },
    close: () => {
      closing.abort();
      clearTimeout(resting);
      delete screen.dataset.panes;
      for (const each of [canvas, info, tools]) each.remove();
      beside.closed();
    },
  };
}
