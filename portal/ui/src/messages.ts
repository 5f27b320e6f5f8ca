// The message centre: let this browser be told by push.

import { one, post } from "./dom";

const card = one("[data-push]");
const key = card?.dataset.push;
if (card && key && "serviceWorker" in navigator && "PushManager" in window && Notification.permission !== "denied") {
  card.hidden = Notification.permission === "granted";
  one("[data-push-on]", card)?.addEventListener("click", (event) => {
    void subscribe(key).then((subscribed) => {
      const button = event.target as HTMLButtonElement;
      if (subscribed) button.textContent = button.dataset.done ?? "";
      button.disabled = subscribed;
    });
  });
}

async function subscribe(key: string): Promise<boolean> {
  const worker = await navigator.serviceWorker.register("/ui/push-worker.js", { scope: "/patient" });
  if ((await Notification.requestPermission()) !== "granted") return false;
  const bytes = Uint8Array.from(atob(key.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));
  const made = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes });
  return (await post("/patient/push", made.toJSON())).status === 200;
}
