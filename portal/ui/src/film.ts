// On every page: printing, and a screen that blurs when it is left, so that a task switcher keeps no picture.

import { all, one } from "./dom";

for (const button of all<HTMLButtonElement>("[data-print]")) button.addEventListener("click", () => print());

if (one(".watermark")) {
  document.addEventListener("visibilitychange", () => {
    document.documentElement.style.filter = document.hidden ? "blur(24px)" : "";
  });
}

for (const link of all<HTMLAnchorElement>("[data-language]")) {
  // The language goes along in the query of this page alone; a fragment stays where it is.
  link.addEventListener("click", () => {
    if (location.hash) link.hash = location.hash;
  });
}
