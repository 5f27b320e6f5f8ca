// The row of tools below the image: buttons and lists with their names in the visitor's language.

export interface Bar {
  element: HTMLElement;
  button: (key: string, act: () => void) => HTMLButtonElement;
  select: (key: string, changed: () => void) => HTMLSelectElement;
  link: (key: string, url: string) => void;
  /** All tools are there: they come in their user's own order, which a last button lets be changed. */
  arrange: () => void;
}

const KEPT = "film-tools"; // in this browser alone, and only after its user has put tools in order

export function option(value: string, text: string): HTMLOptionElement {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

export function newBar(say: (key: string) => string, signal: AbortSignal): Bar {
  const element = document.createElement("div");
  element.className = "viewer-tools";
  element.setAttribute("role", "toolbar");
  element.setAttribute("aria-label", say("tools"));
  element.tabIndex = 0;
  return {
    element,
    button: (key, act) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = say(key);
      made.dataset.tool = key;
      made.addEventListener("click", act, { signal });
      element.append(made);
      return made;
    },
    select: (key, changed) => {
      const made = document.createElement("select");
      made.setAttribute("aria-label", say(key));
      made.dataset[key] = "";
      made.addEventListener("change", changed, { signal });
      element.append(made);
      return made;
    },
    link: (key, url) => {
      const made = document.createElement("a");
      made.href = url; // in this window: WeChat's browser has no other
      made.textContent = say(key);
      made.dataset.tool = key;
      element.append(made);
    },
    arrange: () => arrange(element, say, signal),
  };
}

function keptOrder(): string[] {
  try {
    return (localStorage.getItem(KEPT) ?? "").split(" ").filter(Boolean);
  } catch {
    return []; // a browser that keeps nothing
  }
}

function keepOrder(order: readonly string[]): void {
  try {
    if (order.length) localStorage.setItem(KEPT, order.join(" "));
    else localStorage.removeItem(KEPT);
  } catch {
    // it holds for this page
  }
}

function arrange(element: HTMLElement, say: (key: string) => string, signal: AbortSignal): void {
  const usual = [...element.children] as HTMLElement[];
  const place = (order: readonly string[]): void => {
    const first = order.flatMap((key) => usual.filter(({ dataset }) => dataset.tool === key));
    element.prepend(...first, ...usual.filter((each) => !first.includes(each)));
  };
  const how = document.createElement("span");
  how.className = "how";
  how.setAttribute("role", "status");
  const toggle = document.createElement("button");
  toggle.type = "button";
  toggle.dataset.tool = "arrange";
  toggle.textContent = say("arrange");
  let pressed: string[] | null = null; // while arranging
  element.addEventListener("click", (event) => {
    const tool = (event.target as HTMLElement).closest<HTMLElement>("[data-tool]");
    if (!tool || (tool !== toggle && !pressed)) return;
    event.preventDefault();
    event.stopPropagation();
    const key = tool.dataset.tool ?? "";
    if (tool !== toggle) pressed = [...(pressed ?? []).filter((each) => each !== key), key];
    else if (pressed) {
      keepOrder(pressed);
      pressed = null;
    } else pressed = [];
    place(pressed ?? keptOrder());
    toggle.setAttribute("aria-pressed", String(pressed !== null));
    toggle.textContent = say(pressed ? "arranged" : "arrange");
    how.textContent = pressed ? say("arrange-how") : "";
    if (pressed) element.prepend(toggle, how);
    else element.append(toggle, how);
  }, { capture: true, signal });
  place(keptOrder());
  element.append(toggle, how);
}
