// A stream of events while somebody looks: it comes back by itself, and says so where it cannot.

const AGAIN_MS = 2000;
const SAID_MS = 4000; // streams end every minute, and are back within one second or two

export class News {
  // `url`: () → address; `takers`: event → what takes its data; `seen`: id of an event
  constructor(url, takers, seen = () => {}) {
    this.url = url;
    this.takers = takers;
    this.seen = seen;
    this.wanted = false;
    this.source = null;
    // A page that nobody looks at asks for nothing: a browser has six connections to a server.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#rest() : this.#open()));
    addEventListener("pagehide", () => this.#rest());
    addEventListener("pageshow", () => this.#open());
  }

  start() {
    this.wanted = true;
    this.#open();
  }

  stop() {
    this.wanted = false;
    this.#rest();
    say(false);
  }

  #rest() {
    this.#close();
    this.#hush();
  }

  #close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  #open() {
    clearTimeout(this.timer);
    if (!this.wanted || this.source || document.hidden) return;
    const source = (this.source = new EventSource(this.url()));
    source.onopen = () => this.#heard();
    source.onerror = () => this.#failed(source);
    for (const [name, take] of Object.entries(this.takers)) {
      source.addEventListener(name, (event) => {
        if (this.source !== source) return;
        if (event.lastEventId) this.seen(event.lastEventId);
        take(JSON.parse(event.data));
      });
    }
  }

  // A server that is away leaves the source trying; one that refuses closes it.
  #failed(source) {
    if (this.source !== source) return;
    this.saying ??= setTimeout(() => say(true), SAID_MS);
    if (source.readyState !== EventSource.CLOSED) return;
    this.#close();
    this.timer = setTimeout(() => this.#again(), AGAIN_MS);
  }

  async #again() {
    if (await gone()) location.reload();
    else this.#open();
  }

  #heard() {
    this.#hush();
    say(false);
  }

  #hush() {
    clearTimeout(this.saying);
    this.saying = undefined;
  }
}

// Whether the cookie has ended, or the page: then it says so itself, or leads to the form.
async function gone() {
  try {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    return reply.type === "opaqueredirect" || reply.status === 404;
  } catch {
    return false;
  }
}

function say(lost) {
  const place = document.querySelector(".lost");
  if (place) place.hidden = !lost;
}
