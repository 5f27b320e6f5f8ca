// What the image page and the light viewer agree on.
//
// The page shows the first image at once, drawn by the server, with a slider over the series. When that image stands
// there, `viewer/index.ts` is loaded behind it, and its `mount` lays a canvas over the picture and tools below it. The
// page's slider stays the one that says which image is shown. When `mount` rejects, the page goes on as it was.
//
// The viewer calls DICOMweb and FHIR with the browser's own session (`credentials: "same-origin"`): no token
// is in its hands. Below a share the base is `/share/<grant>/dicomweb`: studies, series and instances can be
// searched; metadata, frames and bulkdata retrieved. Whole objects and rendered pictures may be refused (403):
// use `preview` for a picture. 401 at any time means that the share has ended: call `onEnded`.

export interface ViewerContract {
  /** The element that the viewer may fill. */
  stage: HTMLElement;
  /** The study to open with. */
  studyInstanceUid: string;
  /** Series of that study that have images, in their order. */
  seriesInstanceUids: string[];
  /** Other studies of the same person that this visitor may compare with, the newest first. */
  priors: string[];
  /** Where DICOMweb is, without a slash at the end: `/dicomweb` or `/share/<grant>/dicomweb`. */
  baseUrl: string;
  /** Where FHIR is, and the DiagnosticReports of the study: for images that a report names. */
  fhirUrl: string;
  reportIds: string[];
  /** A picture with the watermark drawn in: `${previewUrl}/<series>/<instance>/<frame>?side=1024`. */
  previewUrl: string;
  /** Small pictures of a series of single frames, `TILE` pixels each: `${overviewUrl}/<series>/<sheet>`. */
  overviewUrl: string;
  /** The diagnostic viewer with this study; empty: not for this visitor. */
  diagnosticUrl: string;
  /** Lines to be drawn across every image, also in full screen; empty: none. */
  watermark: string[];
  language: "zh" | "en";
  /** What the page shows now, so that the viewer opens on the same image. */
  start: { seriesInstanceUid: string; sopInstanceUid: string };
  /** The viewer's texts in this language, by key. */
  words: Readonly<Record<string, string>>;
  /** The page's slider: which image is shown, and how to go to another. */
  slides: Slides;
  /** To be called when the server answers 401: the page says that the link has expired. */
  onEnded: () => void;
}

export interface Slides {
  /** Series, place of the image in it, all its images (`series/instance/frame`), and the server's picture if asked for. */
  now: () => { series: string; at: number; paths: string[]; picture: HTMLImageElement | null };
  go: (at: number) => void;
  /** Go to an image of any series of the page; `frame` 0: its first. False: the page does not have it. */
  jump: (sopInstanceUid: string, frame: number) => boolean;
  /** Called whenever another image is shown, or its picture is asked for. */
  onShown: (listener: () => void) => void;
  /** From now on the viewer fetches ahead: the page asks for a picture only where the slider rests. */
  yieldFetching: () => void;
  /** There is no viewer: the page fetches the pictures around the shown one itself. */
  fetchAhead: () => void;
}

export interface Viewer {
  /** Take everything down: listeners, workers, pixels. */
  close: () => void;
}

export type Mount = (contract: ViewerContract) => Promise<Viewer>;
