// What comes of a log, from a position on, until its task has ended.
import { lost } from "./live.js";

const AGAIN_MS = 2000;

export class LiveRows {
  constructor(url, told) {
    this.url = url;
    this.told = told;
    this.wanted = false;
    this.source = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#open()));
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", () => this.#open());
  }

  start(after) {
    this.after = after;
    this.wanted = true;
    this.#open();
  }

  stop() {
    this.wanted = false;
    this.#close();
  }

  // After the end: somebody may have had the task run again.
  again() {
    if (!this.wanted && this.after) this.start(this.after);
  }

  #close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  #open() {
    if (!this.wanted || this.source || document.hidden) return;
    const source = (this.source = new EventSource(this.url({ after: this.after })));
    const on = (name, take) => source.addEventListener(name, (event) => {
      if (this.source !== source) return;
      lost(false);
      if (event.lastEventId) this.after = event.lastEventId;
      take(JSON.parse(event.data));
    });
    on("rows", this.told.rows);
    on("attempt", this.told.attempt);
    on("log", this.told.whole);
    on("status", this.told.status);
    on("end", (end) => {
      this.stop();
      this.told.status(end);
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || this.source !== source) return;
      this.#close();
      lost(true);
      this.timer = setTimeout(() => this.#open(), AGAIN_MS);
    };
  }
}
