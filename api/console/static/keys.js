// Keys that move through a log, at once.
//
// Left alone a browser moves in steps: to an end the last of them are small, and so by pixels, and
// one step may be lost where rows are put in their place meanwhile.

export function moveByKeys(box, { home, end, page }) {
  const moves = { Home: home, End: end, PageUp: () => page(-1), PageDown: () => page(1) };
  document.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move || event.altKey || event.metaKey || event.shiftKey) return;
    const { activeElement, body, scrollingElement } = document;
    // Where the page itself has nowhere to go, they are for the log.
    const free = activeElement === body && scrollingElement.scrollHeight <= innerHeight;
    if (activeElement !== box && !free) return;
    box.focus({ preventScroll: true });
    move();
    event.preventDefault();
  });
}
