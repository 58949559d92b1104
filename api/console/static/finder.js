// The field that searches a log, and the way from hit to hit.
import { Search } from "./search.js";

export class Finder {
  // `log`: url(query), firstRow(), total(), show(line), changed(), leave()
  constructor(section, log) {
    this.log = log;
    this.input = section.querySelector(".find");
    this.found = section.querySelector(".found");
    this.search = new Search(log.url, () => this.#say());
    this.at = -1; // index of the hit that is shown
    this.input.addEventListener("input", () => this.#look(this.input.value));
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#go(event.shiftKey ? -1 : 1);
      else if (event.key === "Escape") {
        this.clear();
        log.leave();
      } else return;
      event.preventDefault();
    });
    section.querySelector(".next").addEventListener("click", () => this.#go(1));
    section.querySelector(".previous").addEventListener("click", () => this.#go(-1));
  }

  get line() { return this.at >= 0 ? this.search.hits[this.at] : 0; }

  clear() {
    this.input.value = "";
    this.#look("");
  }

  #look(text) {
    this.at = -1;
    const from = this.log.firstRow();
    this.search.start(text, () => this.#show(Math.max(0, this.search.behind(from))));
    this.#say();
  }

  #go(way) {
    this.search.goOn(this.log.total());
    const { hits } = this.search;
    if (!hits.length) return;
    const seen = this.line || this.log.firstRow();
    const at = way > 0 ? this.search.behind(seen) : this.search.before(seen);
    this.#show(at >= 0 ? at : way > 0 ? 0 : hits.length - 1); // round
  }

  #show(at) {
    this.at = at;
    this.log.show(this.line);
    this.#say();
  }

  #say() {
    this.found.textContent = this.search.said(this.at);
    this.log.changed();
  }
}
