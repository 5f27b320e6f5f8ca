// What a study's key object selections, presentation states, structured reports and FHIR reports say of its images.

import { linkedBy, mediaKeys, saidBy, type Drawing, type Key } from "./references";
import type { DataSet } from "./frame";
import { askJson, Ended } from "./stack";

const SPEAK_OF_IMAGES = new Set(["KO", "PR", "SR"]);
const MOST_SERIES = 24;
const FHIR = "application/fhir+json";

export interface Notes {
  keys: Key[];
  drawings: Drawing[];
}

export interface SeriesListed {
  series: string;
  modality: string;
  description: string;
  images: number;
}

const first = (set: DataSet, tag: string): string => String(set[tag]?.Value?.[0] ?? "");

/** The series of a study (PS3.18 10.6). */
export async function listSeries(baseUrl: string, study: string, signal: AbortSignal): Promise<SeriesListed[]> {
  const found = await askJson<DataSet[]>(`${baseUrl}/studies/${study}/series`, signal);
  return found.map((set) => ({
    series: first(set, "0020000E"),
    modality: first(set, "00080060"),
    description: first(set, "0008103E"),
    images: Number(first(set, "00201209")),
  }));
}

/** What objects of a study say of its images; one that cannot be read is left out. */
export async function notesOf(baseUrl: string, study: string, signal: AbortSignal): Promise<Notes> {
  const listed = await listSeries(baseUrl, study, signal);
  const speaking = listed.filter(({ modality }) => SPEAK_OF_IMAGES.has(modality)).slice(0, MOST_SERIES);
  const sets = await Promise.all(
    speaking.map(({ series }) => orNothing(askJson<DataSet[]>(`${baseUrl}/studies/${study}/series/${series}/metadata`, signal), [])),
  );
  const said = sets.flat().map(saidBy);
  return { keys: said.flatMap(({ keys }) => keys), drawings: said.flatMap(({ drawings }) => drawings) };
}

/** The images that reports point to. */
export async function linkedImages(fhirUrl: string, reportIds: readonly string[], signal: AbortSignal): Promise<Key[]> {
  const read = (path: string): Promise<Record<string, unknown>> =>
    orNothing(askJson<Record<string, unknown>>(`${fhirUrl}/${path}`, signal, FHIR), {});
  const reports = await Promise.all(reportIds.map((id) => read(`DiagnosticReport/${id}`)));
  const found = await Promise.all(
    reports.map(linkedBy).map(async ({ keys, unread }) => {
      const media = await Promise.all(unread.map(async ({ path, label }) => mediaKeys(await read(path), label)));
      return [...keys, ...media.flat()];
    }),
  );
  return found.flat();
}

async function orNothing<T>(asked: Promise<T>, nothing: T): Promise<T> {
  try {
    return await asked;
  } catch (failure) {
    if (failure instanceof Ended) throw failure;
    return nothing;
  }
}
