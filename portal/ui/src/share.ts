// Sharing on: which field a binding needs, copying, the phone's own share sheet and contacts, WeChat's cards.

import { all, one } from "./dom";

interface ContactsManager {
  select(properties: string[], options: { multiple: boolean }): Promise<{ tel?: string[]; name?: string[] }[]>;
}

interface WeChat {
  config(settings: object): void;
  ready(act: () => void): void;
  updateAppMessageShareData(data: object): void;
  updateTimelineShareData(data: object): void;
}

function showFieldsOf(binding: string): void {
  for (const part of all("[data-for]")) {
    const wanted = part.dataset.for === binding;
    if (part.matches("[data-contacts]")) part.hidden = !wanted || !("contacts" in navigator);
    else part.hidden = !wanted;
    for (const input of all<HTMLInputElement>("input", part)) input.required = wanted;
  }
}

for (const choice of all<HTMLInputElement>('[name="binding"][type="radio"]')) {
  choice.addEventListener("change", () => showFieldsOf(choice.value));
  if (choice.checked) showFieldsOf(choice.value);
}
const select = one<HTMLSelectElement>("[data-binding]");
if (select) {
  select.addEventListener("change", () => showFieldsOf(select.value));
  showFieldsOf(select.value);
}

const link = one("[data-link]")?.textContent ?? "";

export async function copy(button: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(one("[data-link]") as Node);
    getSelection()?.removeAllRanges();
    getSelection()?.addRange(range);
    document.execCommand("copy"); // browsers without the clipboard interface, and pages without TLS
  }
  button.textContent = button.dataset.done ?? "";
}

for (const button of all<HTMLButtonElement>("[data-copy]")) button.addEventListener("click", () => void copy(button));

for (const button of all<HTMLButtonElement>("[data-native-share]")) {
  button.hidden = !navigator.share;
  button.addEventListener("click", () => {
    const { title, text } = button.dataset;
    void navigator.share({ title, text, url: link }).catch(() => undefined);
  });
  if ("wechat" in document.body.dataset) void shareInWeChat(button.dataset.title ?? "", button.dataset.text ?? "");
}

for (const button of all<HTMLButtonElement>("[data-contacts]")) {
  const contacts = (navigator as unknown as { contacts?: ContactsManager }).contacts;
  button.hidden = !contacts || button.hidden;
  button.addEventListener("click", () => {
    void contacts?.select(["tel", "name"], { multiple: false }).then(([chosen]) => {
      const form = button.closest("form");
      const phone = form?.elements.namedItem("phone");
      const name = form?.elements.namedItem("name");
      if (phone instanceof HTMLInputElement && chosen?.tel?.[0]) phone.value = chosen.tel[0];
      if (name instanceof HTMLInputElement && chosen?.name?.[0]) name.value = chosen.name[0];
    });
  });
}

/** In WeChat's browser: what a friend or the moments see of our link (title, text, picture). */
async function shareInWeChat(title: string, text: string): Promise<void> {
  const page = location.href.split("#")[0] ?? "";
  const answer = await fetch(`/wechat/config?url=${encodeURIComponent(page)}`);
  if (!answer.ok) return;
  const settings = (await answer.json()) as object;
  const script = document.createElement("script");
  script.src = "https://res.wx.qq.com/open/js/jweixin-1.6.0.js";
  script.onload = () => {
    const wx = (window as unknown as { wx: WeChat }).wx;
    wx.config({ ...settings, jsApiList: ["updateAppMessageShareData", "updateTimelineShareData"] });
    wx.ready(() => {
      const card = { title, desc: text, link, imgUrl: `${location.origin}/assets/share-card.png` };
      wx.updateAppMessageShareData(card);
      wx.updateTimelineShareData(card);
    });
  };
  document.head.append(script);
}
