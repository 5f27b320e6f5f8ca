// Security keys: ask the server for a challenge, let the browser's key sign it, send the answer back.
const decode = text => Uint8Array.from(
  atob(text.replaceAll("-", "+").replaceAll("_", "/")), character => character.charCodeAt(0));
const encode = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

const withBytes = list => (list ?? []).map(each => ({...each, id: decode(each.id)}));

async function make(form) {
  const asked = await post("/my/factor/key/options", {});
  const made = await navigator.credentials.create({publicKey: {
    ...asked, challenge: decode(asked.challenge), user: {...asked.user, id: decode(asked.user.id)},
    excludeCredentials: withBytes(asked.excludeCredentials)}});
  await post("/my/factor/key", {label: form.elements.label.value, answer: {
    id: made.id, rawId: encode(made.rawId), type: made.type, clientExtensionResults: {}, response: {
      clientDataJSON: encode(made.response.clientDataJSON),
      attestationObject: encode(made.response.attestationObject)}}});
  location.reload();
}

async function sign(form) {
  const asked = await post("/sign-in/key/options", {});
  const signed = await navigator.credentials.get({publicKey: {
    ...asked, challenge: decode(asked.challenge), allowCredentials: withBytes(asked.allowCredentials)}});
  const done = await post("/sign-in/key", {next: form.elements.next.value, answer: {
    id: signed.id, rawId: encode(signed.rawId), type: signed.type, clientExtensionResults: {}, response: {
      clientDataJSON: encode(signed.response.clientDataJSON),
      authenticatorData: encode(signed.response.authenticatorData),
      signature: encode(signed.response.signature)}}});
  location.assign(done.next);
}

for (const [id, act] of [["make-key", make], ["sign-key", sign]]) {
  const form = document.getElementById(id);
  form?.addEventListener("submit", event => {
    event.preventDefault();
    act(form).catch(() => { form.querySelector("[role=alert]").hidden = false; });
  });
}
