// The console: what is on every page, and the log where there is one.
import { follow, refresh } from "./live.js";
import { problemOf } from "./replies.js";
import { keepTimes } from "./times.js";
import { toast } from "./toast.js";

const main = document.getElementById("main");
keepTimes(main);

if (main.dataset.live === "page") follow(main);
if (main.dataset.live === "log") {
  const { showLog } = await import("./log.js");
  showLog(document.querySelector(".log"));
}

const login = document.getElementById("login");
if (login) {
  // A link to a line of a log: the server is not told what stands behind the #.
  login.elements.next.value += location.hash;
  // Opened from another site the browser kept the cookie back; to this question it is sent.
  const reply = await fetch("/console/me").catch(() => null);
  if (reply?.ok) location.replace(login.dataset.next + location.hash);
}

// Buttons do not leave the page: the log stays where it is, and the page shows what became of it.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method !== "post" || !main.dataset.live || !main.contains(form)) return;
  event.preventDefault();
  const button = event.submitter;
  if (button) button.disabled = true;
  try {
    const reply = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "application/problem+json" },
      redirect: "manual",
    });
    if (reply.type === "opaqueredirect") await refresh(main);
    else toast(await problemOf(reply));
  } catch (error) {
    toast(`The server cannot be reached: ${error.message}`);
  } finally {
    if (button) button.disabled = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
  const search = document.querySelector("[data-search]");
  if (search) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});
