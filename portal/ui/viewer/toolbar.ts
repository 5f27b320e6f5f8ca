// The row of tools below the image: buttons and lists with their names in the visitor's language.

export interface Bar {
  element: HTMLElement;
  button: (key: string, act: () => void) => HTMLButtonElement;
  select: (key: string, changed: () => void) => HTMLSelectElement;
  link: (key: string, url: string) => void;
}

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
  };
}
