// The rows of one log that are here: some around what is seen, never all.

import { problemOf } from "./replies.js";

const PAGE = 500;
const MOST_PAGES = 40;
const WAIT_MS = 60;

export class Rows {
  constructor(url, arrived) {
    this.url = url; // (query) → address
    this.arrived = arrived;
    this.total = 0;
    this.open = []; // lines that are not over
    this.pages = new Map(); // by number, those used last at the end
    this.asking = null;
    this.life = 0; // what was asked for before it was forgotten is of another log
  }

  get length() { return this.total + this.open.length; }

  get(line) {
    if (line > this.total) return this.open[line - this.total - 1];
    return this.pages.get(Math.floor((line - 1) / PAGE))?.[(line - 1) % PAGE];
  }

  put(first, rows) {
    rows.forEach((row, at) => {
      const line = first + at - 1;
      const number = Math.floor(line / PAGE);
      let page = this.pages.get(number);
      if (!page) this.pages.set(number, (page = []));
      page[line % PAGE] = row;
    });
    this.total = Math.max(this.total, first + rows.length - 1);
    this.#forget();
  }

  #forget() {
    for (const number of this.pages.keys()) {
      if (this.pages.size <= MOST_PAGES) return;
      this.pages.delete(number);
    }
  }

  #missing(first, last) {
    for (let line = first; line <= Math.min(last, this.total); line++) {
      if (!this.get(line)) return line;
    }
    return 0;
  }

  // See to it that these come, after what else is asked for now has come or is not wanted any more.
  want(first, last) {
    for (let number = Math.floor((first - 1) / PAGE); number <= Math.floor((last - 1) / PAGE); number++) {
      const page = this.pages.get(number);
      if (page) {
        this.pages.delete(number);
        this.pages.set(number, page);
      }
    }
    const line = this.#missing(first, last);
    if (!line || (this.asking && this.asking.first <= line && line <= this.asking.last)) return;
    this.asking?.stop.abort();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(line), WAIT_MS);
  }

  async #ask(line) {
    const start = Math.floor((line - 1) / PAGE) * PAGE + 1;
    const begin = this.#missing(start, line) || line;
    const asking = { first: begin, last: begin + PAGE - 1, stop: new AbortController() };
    this.asking = asking;
    try {
      await this.load({ line: begin, lines: PAGE }, asking.stop.signal);
    } catch (error) {
      if (error.name !== "AbortError") setTimeout(this.arrived, 2000); // it asks again for what is seen
    } finally {
      if (this.asking === asking) this.asking = null;
    }
    this.arrived();
  }

  async load(query, signal) {
    const page = await this.ask(query, signal);
    if (page.rows.length) this.put(page.first, page.rows);
    return page;
  }

  // A page of rows that are not kept.
  async ask(query, signal) {
    const { life } = this;
    const reply = await fetch(this.url(query), { signal });
    if (!reply.ok) throw new Error(await problemOf(reply));
    const page = await reply.json();
    if (life !== this.life) throw new DOMException("of another log", "AbortError");
    return page;
  }

  forget() {
    this.life += 1;
    this.asking?.stop.abort();
    clearTimeout(this.timer);
    this.pages.clear();
    this.total = 0;
    this.open = [];
  }
}
