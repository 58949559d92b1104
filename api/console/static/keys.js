// Keys that move through a log.

const PAGES = new Set(["PageUp", "PageDown"]);

// Left alone a browser moves to an end in steps, of which the last are small, and so by pixels.
export function moveByKeys(box, { home, end }) {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || event.shiftKey) return;
    const { activeElement, body, scrollingElement } = document;
    // Where the page itself has nowhere to go, they are for the log.
    const free = activeElement === body && scrollingElement.scrollHeight <= innerHeight;
    if (activeElement !== box && !free) return;
    if (PAGES.has(event.key) && free) box.focus({ preventScroll: true }); // and the browser does the rest
    if (event.key === "Home") home();
    else if (event.key === "End") end();
    else return;
    event.preventDefault();
  });
}
