// Opening a share, and a patient's sign-in: one page, one step after the other.
//
// The share's secret comes in the address's fragment. It is taken out of the address before anything else
// happens, kept in this page's memory alone, and sent once, in a body.

import { all, one, post } from "./dom";

const gate = one("[data-open]");
if (gate) start(gate);

function start(gate: HTMLElement): void {
  const base = gate.dataset.open === "share" ? "/share" : "/patient/sign-in";
  const said = one("[data-said]", gate);
  let phone = "";

  const say = (text: unknown): void => {
    if (!said) return;
    said.hidden = !text;
    said.textContent = String(text || "");
  };

  const show = (step: string): void => {
    for (const part of all("[data-step]", gate)) part.hidden = part.dataset.step !== step;
    one<HTMLInputElement>(`[data-step="${step}"] input`, gate)?.focus();
  };

  const next = (told: { status: number } & Record<string, unknown>): boolean => {
    if (told.status === 0) say("…");
    else if (told.expired) location.replace("/share/expired");
    else if (told.status >= 400) say(told.text);
    else {
      say("");
      if (told.step === "in") location.replace(String(told.to));
      else show(String(told.step));
      const text = one("[data-sent]", gate);
      if (text && told.text) text.textContent = String(told.text);
      return true;
    }
    return false;
  };

  const busy = async (form: HTMLFormElement, ask: () => Promise<void>): Promise<void> => {
    const button = one<HTMLButtonElement>("button", form);
    if (button) button.disabled = true;
    await ask();
    if (button) button.disabled = false;
  };

  const wait = (): void => {
    const again = one<HTMLButtonElement>("[data-again]", gate);
    if (!again) return;
    const text = again.dataset.text ?? again.textContent ?? "";
    again.dataset.text = text;
    let left = 60;
    again.disabled = true;
    const tick = (): void => {
      again.textContent = left > 0 ? `${text} (${left})` : text;
      again.disabled = left > 0;
      if (left-- > 0) setTimeout(tick, 1000);
    };
    tick();
  };

  const sendCode = async (): Promise<void> => {
    if (next(await post(`${base}/code`, { phone }))) wait();
  };

  /** By an account or WeChat; who is not there yet is shown the way. */
  const come = async (by: string): Promise<void> => {
    const told = await post("/share/enter", { [by]: true });
    if (told.status === 401) {
      show(by);
      say(told.wrong ? told.text : "");
    } else next(told);
  };

  const forms: Record<string, (form: HTMLFormElement) => Promise<void>> = {
    phone: async (form) => {
      phone = (form.elements.namedItem("phone") as HTMLInputElement).value;
      await sendCode();
    },
    code: async (form) => {
      const input = form.elements.namedItem("code") as HTMLInputElement;
      const told = await post(`${base}/enter`, { code: input.value, next: gate.dataset.next ?? "" });
      if (!next(told)) input.select();
    },
    passcode: async (form) => {
      const passcode = (form.elements.namedItem("passcode") as HTMLInputElement).value;
      next(await post(`${base}/enter`, { passcode }));
    },
    open: async () => {
      next(await post(`${base}/enter`, {}));
    },
  };
  for (const form of all<HTMLFormElement>("form[data-step]", gate)) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const act = forms[form.dataset.step ?? ""];
      if (act) void busy(form, () => act(form));
    });
  }
  one("[data-again]", gate)?.addEventListener("click", () => void sendCode());

  if (gate.dataset.open !== "share") return;
  const secret = location.hash.slice(1);
  const go = new URLSearchParams(location.search).get("go"); // back from signing in, or from WeChat
  if (!secret && (go === "account" || go === "wechat")) return void come(go);
  if (!secret) return show("none");
  history.replaceState(null, "", location.pathname + location.search);
  void post("/share/begin", { secret }).then(async (told) => {
    if (told.step === "account") await come("account");
    else next(told);
  });
  // A second link opened in the same tab changes the fragment alone.
  addEventListener("hashchange", () => location.hash && location.reload());
}
