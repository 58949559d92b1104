// A page's own news: its main part again, from the server, put where it belongs.
import { showTimes } from "./times.js";

const AGAIN_MS = 3000;
const shown = new Map(); // section → the HTML that it was made of

export function follow(main) {
  let source = null;
  let timer = 0;

  function open() {
    clearTimeout(timer);
    if (source || document.hidden) return;
    source = new EventSource(location.pathname + location.search);
    source.addEventListener("page", (event) => {
      lost(false);
      put(main, JSON.parse(event.data));
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      close();
      lost(true);
      timer = setTimeout(again, AGAIN_MS);
    };
  }

  function close() {
    source?.close();
    source = null;
  }

  async function again() {
    if (await gone()) location.reload();
    else open();
  }

  // A page that nobody looks at asks for nothing: a browser has six connections to a server.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}

// Whether the cookie has ended: then a page leads to the form.
async function gone() {
  try {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    return reply.type === "opaqueredirect" || reply.status === 404;
  } catch {
    return false;
  }
}

export async function refresh(main) {
  const reply = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
  if (reply.redirected) location.reload();
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const fresh = page.getElementById("main");
  if (!reply.ok || !fresh) return;
  put(main, fresh.innerHTML);
  document.dispatchEvent(new Event("told"));
}

export function lost(is) {
  const place = document.querySelector(".lost");
  if (place) place.hidden = !is;
}

// The server made it, and escaped what others wrote.
function put(main, html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  const sections = [...fresh.querySelectorAll("section[id]")];
  const present = [...main.querySelectorAll("section[id]")];
  const same = sections.length === present.length && sections.every((each, at) => each.id === present[at].id);
  if (!same) {
    keeping(main, fresh, () => {
      for (const each of present) each.remove();
      const before = main.querySelector(".log");
      for (const each of fresh.querySelectorAll(":scope > section[id], :scope > .columns")) main.insertBefore(each, before);
    });
    for (const each of sections) shown.set(each.id, each.outerHTML);
    showTimes(main);
    return;
  }
  sections.forEach((section, at) => {
    const text = section.outerHTML;
    if (shown.get(section.id) === text || selected(present[at])) return;
    shown.set(section.id, text);
    keeping(present[at], section, () => present[at].replaceWith(section));
    showTimes(section);
  });
}

function selected(section) {
  const selection = getSelection();
  return !selection.isCollapsed && section.contains(selection.anchorNode);
}

// Focus, and what was opened, stay.
function keeping(old, fresh, change) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  for (const each of old.querySelectorAll("details[id][open]")) {
    const same = fresh.querySelector(`#${CSS.escape(each.id)}`);
    if (same) same.open = true;
  }
  const where = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : focused.parentElement?.id ? `#${CSS.escape(focused.parentElement.id)} > summary` : null);
  change();
  if (where) document.getElementById("main").querySelector(where)?.focus({ preventScroll: true });
}
