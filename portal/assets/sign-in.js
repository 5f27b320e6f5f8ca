// The one-time code of the first run stands after the # of the address, which no server and no log sees.
const code = location.hash.slice(1);
if (code) {
  const setUp = document.getElementById("set-up");
  document.getElementById("sign-in").hidden = true;
  setUp.hidden = false;
  setUp.elements.code.value = code;
  setUp.elements.login.focus();
  for (const link of document.querySelectorAll(".language a")) link.hash = location.hash;
}
