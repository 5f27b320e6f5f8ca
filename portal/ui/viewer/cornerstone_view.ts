// Cornerstone3D's share: three planes through a volume, or the volume itself. A chunk of its own, over 1 MB.

import {
  cache, CONSTANTS, Enums, init as startRendering, RenderingEngine, setVolumesForViewports, volumeLoader, type Types,
} from "@cornerstonejs/core";
import {
  addTool, CrosshairsTool, Enums as ToolEnums, init as startTools, LengthTool, PanTool, StackScrollTool, ToolGroupManager,
  TrackballRotateTool, WindowLevelTool, ZoomTool,
} from "@cornerstonejs/tools";
import type { Frame } from "./frame";
import type { Window } from "./grey";
import type { Grid } from "./volume";
import type { Voxels } from "./volume_view";

interface Shown {
  use: (tool: string) => void;
  preset: (key: string) => void;
  reset: () => void;
  close: () => void;
}

interface Wanted {
  kind: "mpr" | "volume";
  grid: Grid;
  voxels: Voxels;
  views: HTMLElement;
  frame: Frame;
  window: Window;
  say: (key: string) => string;
  signal: AbortSignal;
}

const PLANES = ["axial", "sagittal", "coronal"] as const;
const INKS: Readonly<Record<string, string>> = { axial: "#ff8a80", sagittal: "#ffd84d", coronal: "#7fe3a0" };
const ENGINE = "cloudfilm", VOLUME = "cloudfilm-volume", GROUP = "cloudfilm-tools";
const LOOKS: Readonly<Record<string, string>> = {
  bone: "CT-Bone", soft: "CT-Soft-Tissue", vessels: "CT-Coronary-Arteries-2", lung: "CT-Lung",
};
const PRIMARY: Readonly<Record<string, string>> = {
  scroll: StackScrollTool.toolName, window: WindowLevelTool.toolName, crosshairs: CrosshairsTool.toolName,
  distance: LengthTool.toolName,
};
const ALL_TOOLS = [StackScrollTool, WindowLevelTool, CrosshairsTool, LengthTool, PanTool, ZoomTool, TrackballRotateTool];
let isStarted = false;

export async function show({ kind, grid, voxels, views, frame, window, say, signal }: Wanted): Promise<Shown> {
  if (!isStarted) {
    startRendering();
    startTools();
    for (const each of ALL_TOOLS) addTool(each);
    isStarted = true;
  }
  const engine = new RenderingEngine(ENGINE);
  const planes: readonly string[] = kind === "mpr" ? PLANES : ["volume"];
  views.dataset.kind = kind;
  const inputs = planes.map((plane) => {
    const element = document.createElement("div");
    element.className = "volume-view";
    element.dataset.plane = plane;
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", say(plane));
    element.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    const name = document.createElement("span");
    name.textContent = say(plane);
    name.style.color = INKS[plane] ?? "";
    const canvas = document.createElement("div");
    canvas.className = "volume-canvas";
    element.append(canvas, name);
    views.append(element);
    const orientation = plane === "volume" ? Enums.OrientationAxis.CORONAL : (plane as Enums.OrientationAxis);
    const type = plane === "volume" ? Enums.ViewportType.VOLUME_3D : Enums.ViewportType.ORTHOGRAPHIC;
    return { viewportId: plane, type, element: canvas, defaultOptions: { orientation, background: [0, 0, 0] as Types.Point3 } };
  });
  engine.setViewports(inputs);

  cache.purgeCache();
  volumeLoader.createLocalVolume(VOLUME, {
    metadata: {
      BitsAllocated: voxels.BYTES_PER_ELEMENT * 8, BitsStored: voxels.BYTES_PER_ELEMENT * 8, HighBit: voxels.BYTES_PER_ELEMENT * 8 - 1,
      SamplesPerPixel: 1, PixelRepresentation: 1, PhotometricInterpretation: "MONOCHROME2", Modality: frame.modality,
      ImageOrientationPatient: frame.orientation, PixelSpacing: [grid.spacing[1], grid.spacing[0]],
      FrameOfReferenceUID: frame.frameOfReference, Columns: grid.columns, Rows: grid.rows, voiLut: [], VOILUTFunction: "LINEAR",
    } as unknown as Types.Metadata,
    dimensions: [grid.columns, grid.rows, grid.slices],
    spacing: [...grid.spacing] as Types.Point3,
    origin: [...grid.origin] as Types.Point3,
    direction: [...grid.direction] as Types.Mat3,
    scalarData: voxels,
  });
  await setVolumesForViewports(engine, [{ volumeId: VOLUME }], [...planes]);

  const group = ToolGroupManager.createToolGroup(GROUP);
  if (!group) throw new Error("a volume is open already");
  for (const plane of planes) group.addViewport(plane, ENGINE);
  const { Primary, Secondary, Auxiliary, Wheel } = ToolEnums.MouseBindings;
  if (kind === "mpr") {
    group.addTool(StackScrollTool.toolName);
    group.addTool(WindowLevelTool.toolName);
    group.addTool(LengthTool.toolName);
    group.addTool(CrosshairsTool.toolName, { getReferenceLineColor: (plane: string) => INKS[plane] ?? "#fff" });
  } else {
    group.addTool(TrackballRotateTool.toolName);
    group.setToolActive(TrackballRotateTool.toolName, { bindings: [{ mouseButton: Primary }] });
  }
  group.addTool(PanTool.toolName);
  group.addTool(ZoomTool.toolName);
  group.setToolActive(PanTool.toolName, { bindings: [{ mouseButton: Auxiliary }] });
  group.setToolActive(ZoomTool.toolName, {
    bindings: [{ numTouchPoints: 2 }, { mouseButton: kind === "mpr" ? Primary : Secondary, ...(kind === "mpr" ? { modifierKey: ToolEnums.KeyboardBindings.Ctrl } : {}) }],
  });

  const sized = new ResizeObserver(() => engine.resize(true, true));
  sized.observe(views);
  function apply(): void {
    if (kind !== "mpr") return;
    for (const plane of planes) {
      const viewport = engine.getViewport(plane) as Types.IVolumeViewport;
      viewport.setProperties({ voiRange: { lower: window.center - window.width / 2, upper: window.center + window.width / 2 } });
    }
    engine.render();
  }
  apply();
  engine.render();
  return {
    use: (tool) => {
      const wanted = PRIMARY[tool] ?? StackScrollTool.toolName;
      for (const name of Object.values(PRIMARY)) {
        if (name === CrosshairsTool.toolName && name !== wanted) group.setToolDisabled(name);
        else if (name !== wanted) group.setToolPassive(name);
      }
      const also = { [StackScrollTool.toolName]: [{ mouseButton: Wheel }], [WindowLevelTool.toolName]: [{ mouseButton: Secondary }] };
      for (const [name, bindings] of Object.entries(also)) {
        group.setToolActive(name, { bindings: name === wanted ? [{ mouseButton: Primary }, ...bindings] : bindings });
      }
      if (!(wanted in also)) group.setToolActive(wanted, { bindings: [{ mouseButton: Primary }] });
      engine.render();
    },
    preset: (key) => {
      const viewport = engine.getViewport("volume") as Types.IVolumeViewport | undefined;
      const name = frame.modality === "MR" ? "MR-Default" : (LOOKS[key] ?? "CT-Bone");
      if (viewport && CONSTANTS.VIEWPORT_PRESETS.some((each) => each.name === name)) viewport.setProperties({ preset: name });
      engine.render();
    },
    reset: () => {
      for (const plane of planes) engine.getViewport(plane)?.resetCamera();
      apply();
      engine.render();
    },
    close: () => {
      sized.disconnect();
      if (kind === "mpr") group.setToolDisabled(CrosshairsTool.toolName); // it cannot lose its planes one by one
      ToolGroupManager.destroyToolGroup(GROUP);
      engine.destroy();
      cache.purgeCache();
    },
  };
}
