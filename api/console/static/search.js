// Where something stands in a log: the server looks through it, two seconds at a time.

import { problemOf } from "./replies.js";

const MOST_HITS = 50_000;
const WAIT_MS = 300;

export class Search {
  constructor(url, changed) {
    this.url = url;
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.stop?.abort();
    clearTimeout(this.timer);
    this.text = "";
    this.hits = [];
    this.next = 1; // line to go on from; null: all was looked through
    this.part = 0;
    this.running = false;
    this.failed = "";
  }

  get ignoreCase() { return this.text === this.text.toLowerCase(); }

  start(text, whenFound) {
    if (text === this.text) return;
    this.clear();
    this.text = text;
    this.changed();
    if (text) this.timer = setTimeout(() => this.#run(whenFound), WAIT_MS);
  }

  // Lines may have come since all was looked through.
  goOn(total) {
    if (this.text && !this.running && this.next === null && total > this.looked) {
      this.next = this.looked + 1;
      this.#run(() => {});
    }
  }

  async #run(whenFound) {
    this.running = true;
    const stop = (this.stop = new AbortController());
    try {
      while (this.next !== null && this.hits.length < MOST_HITS) {
        const reply = await fetch(
          this.url({ grep: this.text, line: this.next, ignore_case: this.ignoreCase }), { signal: stop.signal });
        if (!reply.ok) throw new Error(await problemOf(reply));
        const found = await reply.json();
        const first = !this.hits.length && found.lines.length;
        this.hits.push(...found.lines);
        this.next = found.next;
        this.looked = found.total;
        this.part = found.next === null ? 1 : found.next / found.total;
        this.changed();
        if (first) whenFound();
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      this.failed = error.message;
      this.next = null;
      this.looked = Infinity;
    }
    this.running = false;
    this.changed();
  }

  // Index of the first hit behind a line, or of the last one before it; -1 where there is none.
  behind(line) {
    const at = this.#place(line + 1);
    return at < this.hits.length ? at : -1;
  }

  before(line) { return this.#place(line) - 1; }

  #place(line) {
    let low = 0;
    let high = this.hits.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.hits[middle] < line) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  said(at) {
    if (!this.text) return "";
    if (this.failed) return this.failed;
    const count = this.hits.length.toLocaleString("en");
    const more = this.running ? ` … ${Math.floor(this.part * 100)} %` : this.next !== null && this.hits.length ? "+" : "";
    if (!this.hits.length) return this.running || this.next !== null ? `searching${more}` : "not found";
    return (at >= 0 ? `${(at + 1).toLocaleString("en")} of ${count}` : `${count} found`) + more;
  }
}
