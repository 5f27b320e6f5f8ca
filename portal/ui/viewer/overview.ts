// A small picture of every image of a long series, a few dozen to a file: what is shown while a finger runs through,
// until the image itself is here.

export const TILE = 256; // pixels; archive/overview.py makes them
const ACROSS = 6;
const DOWN = 4;
const ON_A_SHEET = ACROSS * DOWN;
const AT_ONCE = 3;

export interface Tile {
  sheet: HTMLImageElement;
  x: number;
  y: number;
}

export interface Overview {
  tile: (at: number) => Tile | undefined;
  close: () => void;
}

/** Fetch the sheets of a series, the nearest to `at` first; `arrived` says how many images are here by now, and
 *  whether nothing more will come. */
export function openOverview(url: string, images: number, at: number, arrived: (images: number, isWhole: boolean) => void): Overview {
  const sheets: (HTMLImageElement | undefined)[] = [];
  const middle = Math.floor(at / ON_A_SHEET);
  const order = Array.from({ length: Math.ceil(images / ON_A_SHEET) }, (_, sheet) => sheet).sort(
    (one, other) => Math.abs(one - middle) - Math.abs(other - middle),
  );
  let isOpen = true;
  let count = 0;
  let left = order.length;
  async function next(): Promise<void> {
    for (let sheet = order.shift(); isOpen && sheet !== undefined; sheet = order.shift()) {
      const image = new Image();
      image.src = `${url}/${sheet}`;
      try {
        await image.decode();
        sheets[sheet] = image;
        count += Math.min(ON_A_SHEET, images - sheet * ON_A_SHEET);
      } catch {
        // Without it, the server's whole pictures.
      }
      left--;
      if (isOpen) arrived(count, left === 0);
    }
  }
  for (let each = 0; each < AT_ONCE; each++) void next();
  return {
    tile: (wanted) => {
      const sheet = sheets[Math.floor(wanted / ON_A_SHEET)];
      const place = wanted % ON_A_SHEET;
      return sheet && { sheet, x: (place % ACROSS) * TILE, y: Math.floor(place / ACROSS) * TILE };
    },
    close: () => {
      isOpen = false;
    },
  };
}
