// A sentence about what went wrong, for some seconds.
const SHOWN_MS = 10_000;
let timer;

export function toast(text) {
  const place = document.querySelector(".toast");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { place.hidden = true; }, SHOWN_MS);
}
