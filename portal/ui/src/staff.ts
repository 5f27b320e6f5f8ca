// The staff's page: / finds, arrows choose, s shares, Enter confirms, c copies, p prints a label.

import { all, one } from "./dom";
import { copy } from "./share";

const chosen = (): number => all("[data-found]").findIndex((each) => each === document.activeElement);

const keys: Record<string, () => boolean> = {
  "/": () => focusOn(one("[data-find]")),
  s: () => begin(),
  c: () => {
    const button = one<HTMLButtonElement>("[data-copy]");
    if (button) void copy(button);
    return button !== null;
  },
  p: () => press(one('[name="label"]')),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
};

function focusOn(element: HTMLElement | null): boolean {
  element?.focus();
  if (element instanceof HTMLInputElement) element.select();
  return element !== null;
}

function press(element: HTMLElement | null): boolean {
  element?.click();
  return element !== null;
}

function begin(): boolean {
  const form = one("[data-share-form]");
  if (!form) return false;
  form.hidden = false;
  const button = one("[data-begin]");
  if (button) button.hidden = true;
  return focusOn(one("[data-confirm]", form));
}

function move(by: number): boolean {
  const found = all("[data-found]");
  return focusOn(found[Math.max(0, Math.min(found.length - 1, chosen() + by))] ?? null);
}

addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  const types = target.matches("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || (types && !event.key.startsWith("Arrow"))) return;
  if (types && target instanceof HTMLSelectElement) return;
  if (keys[event.key]?.()) event.preventDefault();
});

one("[data-begin]")?.addEventListener("click", begin);
if (!one("[data-made]")) one("[data-found][aria-current]")?.focus();
