// A page's own news: its main part again, from the server, put where it belongs.
import { News } from "./news.js";
import { showTimes } from "./times.js";

const shown = new Map(); // section → the HTML that it was made of

export function follow(main) {
  new News(() => location.pathname + location.search, { page: (html) => put(main, html) }).start();
}

export async function refresh(main) {
  const where = location.pathname + location.search;
  const reply = await fetch(where, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!reply) return; // the server is away: the stream of the page says so
  if (reply.redirected) location.reload();
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const fresh = page.getElementById("main");
  if (!reply.ok || !fresh) return;
  put(main, fresh.innerHTML);
  document.dispatchEvent(new Event("told"));
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

// Focus, and what was opened and scrolled, stay.
function keeping(old, fresh, change) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  for (const each of old.querySelectorAll("details[id][open]")) {
    const same = fresh.querySelector(`#${CSS.escape(each.id)}`);
    if (same) same.open = true;
  }
  const where = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : focused.parentElement?.id ? `#${CSS.escape(focused.parentElement.id)} > summary` : null);
  const scrolled = [...old.querySelectorAll(".scroll[id]")].map((each) => [each.id, each.scrollTop]);
  change();
  for (const [id, top] of scrolled) {
    const same = document.getElementById(id);
    if (same) same.scrollTop = top;
  }
  if (where) document.getElementById("main").querySelector(where)?.focus({ preventScroll: true });
}
