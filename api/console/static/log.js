// The log of one attempt: what is seen of it is in the page, the rest is at the server.
import { Copying } from "./copying.js";
import { Finder } from "./finder.js";
import { Drawn } from "./drawn.js";
import { drawRow, timeText } from "./drawing.js";
import { moveByKeys } from "./keys.js";
import { LiveRows } from "./liverows.js";
import { refresh } from "./live.js";
import { mark } from "./marks.js";
import { Rows } from "./rows.js";
import { Scroller } from "./scroller.js";
import { wordsOf } from "./states.js";
import { toast } from "./toast.js";

const OVERSCAN = 8;
const FIRST_ROWS = 200;
const PART_OF_PAGE = 0.9; // some lines stay, as browsers do it
const WAITS_MS = 5000;
const AGAIN_MS = 3000;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

export function showLog(section) {
  new Log(section).start();
}

class Log {
  constructor(section) {
    this.section = section;
    this.task = section.dataset.task;
    this.chosen = Number(section.dataset.attempt) || 0; // 0: the newest
    this.attempt = this.chosen;
    this.find = (selector) => section.querySelector(selector);
    this.box = this.find(".lines");
    this.begunMs = Date.parse(this.box.dataset.started) || 0;
    this.times = localStorage.getItem("times") || "none";
    this.stream = "";
    this.target = lineIn(location.hash);
    this.following = false;
    this.loaded = false;
    this.drawn = new Drawn(this.find(".window"));
    this.rows = new Rows((query) => this.url("rows", query), () => this.draw());
    this.scroller = new Scroller(this.box, this.find(".height"), parseFloat(getComputedStyle(this.box).lineHeight), (up) => this.#moved(up));
    this.copying = new Copying(this.box, this.rows, this.drawn);
    this.finder = new Finder(section, {
      url: (query) => this.url("find", query),
      firstRow: () => this.scroller.firstRow,
      total: () => this.rows.total,
      show: (line) => this.show(line),
      changed: () => this.#redraw(),
      leave: () => this.box.focus({ preventScroll: true }),
    });
    this.live = new LiveRows((query) => this.url("live", query), {
      rows: (event) => this.#came(event),
      attempt: (event) => this.#begun(event),
      whole: () => this.#closed(),
      status: (event) => this.#changed(event),
    });
    // Why it waits changes, too, and nobody tells that.
    setInterval(() => {
      const waits = ["pending", "scheduled"].includes(document.getElementById("head").dataset.status);
      if (waits && !document.hidden) refresh(document.getElementById("main"));
    }, WAITS_MS);
    // The page was told anew: somebody may have had the task run again.
    document.addEventListener("told", () => {
      if (!this.over && !this.chosen) this.live.again();
      this.draw();
    });
    this.#listen();
  }

  url(what, query) {
    const all = { ...query };
    if (what !== "live" && this.attempt) all.attempt = this.attempt;
    if (this.stream) all.stream = this.stream;
    return `/console/tasks/${this.task}/${what}?${new URLSearchParams(all)}`;
  }

  get newest() { return Number(document.getElementById("head").dataset.attempt); }
  get over() { return FINAL.has(document.getElementById("head").dataset.status); }

  async start() {
    this.find(".times").value = this.times;
    try {
      const around = this.target
        ? this.rows.load({ line: Math.max(1, this.target - FIRST_ROWS / 2), lines: FIRST_ROWS })
        : Promise.resolve();
      const [end] = await Promise.all([this.rows.load({ tail: true, lines: FIRST_ROWS }), around]);
      this.rows.total = end.total;
      this.attempt = end.attempt || this.attempt;
      this.#note(wordsOf(end.state));
      this.#watch(end.after);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#note(`The log cannot be read: ${error.message} Trying again.`);
      this.trying = setTimeout(() => this.start(), AGAIN_MS);
      return;
    }
    this.loaded = true;
    this.#follow(!this.target && this.live.wanted);
    this.scroller.setRows(this.rows.length);
    if (this.target) this.show(this.target);
    else this.scroller.toEnd();
    this.draw();
  }

  #watch(after) {
    const lives = !this.chosen || this.chosen === this.newest;
    if (lives && !this.over && after !== null) this.live.start(after);
    this.find(".follow").hidden = !this.live.wanted;
  }

  #listen() {
    this.box.addEventListener("click", (event) => {
      const link = event.target.closest("a.n");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#choose(Number(link.dataset.n));
    });
    addEventListener("hashchange", () => {
      this.target = lineIn(location.hash);
      if (this.target) this.show(this.target);
    });
    this.find(".times").addEventListener("change", (event) => {
      this.times = event.target.value;
      localStorage.setItem("times", this.times);
      this.#redraw();
    });
    this.find(".streams").addEventListener("change", (event) => {
      this.stream = event.target.value;
      this.target = 0; // lines have other numbers
      this.#anew();
    });
    this.find(".follow").addEventListener("click", () => {
      this.#follow(!this.following);
      if (this.following) this.scroller.toEnd();
      this.draw();
    });
    this.find(".end").addEventListener("click", () => {
      this.#end();
      this.box.focus({ preventScroll: true });
    });
    moveByKeys(this.box, { home: () => this.show(1), end: () => this.#end(), page: (way) => this.#page(way) });
  }

  // A link to a line names its attempt: there may be another one tomorrow.
  #choose(line) {
    this.target = line;
    const where = new URLSearchParams({ attempt: this.attempt });
    history.replaceState(null, "", `?${where}#L${line}`);
    this.#follow(false);
    this.#redraw();
    this.box.focus({ preventScroll: true }); // the link that was pressed is gone
  }

  #page(way) {
    this.scroller.to(this.scroller.top + way * PART_OF_PAGE * this.box.clientHeight);
    this.#moved(way < 0);
  }

  #end() {
    this.scroller.toEnd();
    if (this.live.wanted) this.#follow(true);
    this.draw();
  }

  show(line) {
    this.#follow(false);
    this.scroller.setRows(this.rows.length);
    this.scroller.to((line - 1) * this.scroller.rowPx - this.box.clientHeight / 3);
    this.box.scrollLeft = 0;
    this.draw();
  }

  #moved(up) {
    if (up && !this.scroller.atEnd) this.#follow(false);
    else if (this.live.wanted && this.scroller.atEnd) this.#follow(true);
    this.draw();
  }

  #follow(on) {
    this.following = on;
    this.find(".follow").setAttribute("aria-pressed", on);
  }

  #came(event) {
    this.rows.put(event.first, event.rows);
    this.rows.open = event.open;
    this.draw();
  }

  #begun(event) {
    if (event.attempt === this.attempt) return;
    const first = !this.attempt;
    if (this.chosen) return;
    this.attempt = event.attempt;
    this.begunMs = Date.parse(event.started_at) || this.begunMs;
    this.rows.forget();
    this.finder.clear();
    if (!first) this.target = 0;
    this.#follow(true);
    const download = this.find("a[download]");
    download.href = `/tasks/${this.task}/logs?attempt=${this.attempt}`;
    download.download = `task-${this.task}-attempt-${this.attempt}.log`;
    this.#redraw();
  }

  // What the page says of the task already it need not be told again.
  #changed(event) {
    const { status, attempt, cancelling } = document.getElementById("head").dataset;
    const same = status === event.status && Number(attempt) === event.attempt;
    if (!same || Boolean(cancelling) !== Boolean(event.cancel_requested)) refresh(document.getElementById("main"));
  }

  // All of it was told: what was not a line has become one.
  async #closed() {
    this.rows.open = [];
    try {
      const end = await this.rows.load({ tail: true, lines: FIRST_ROWS });
      this.rows.total = end.total;
      this.#note(wordsOf(end.state));
    } catch (error) {
      if (error.name === "AbortError") return;
      toast(error.message);
    }
    this.find(".follow").hidden = true;
    this.draw();
  }

  #anew() {
    clearTimeout(this.trying);
    this.live.stop();
    this.rows.forget();
    this.finder.clear();
    this.start();
  }

  #note(text) {
    const note = this.find(".note");
    note.textContent = text;
    note.hidden = !text;
  }

  #redraw() {
    this.drawn.clear();
    this.draw();
  }

  draw() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = undefined;
      this.#draw();
    });
  }

  #draw() {
    const { rows, scroller } = this;
    scroller.setRows(rows.length);
    if (this.following) scroller.toEnd();
    const first = Math.max(1, scroller.firstRow + 1 - OVERSCAN);
    const last = Math.min(rows.length, scroller.firstRow + scroller.rowsShown + OVERSCAN);
    rows.want(first, Math.min(last, rows.total));
    this.drawn.draw(first, last, (first - 1) * scroller.rowPx - scroller.shift, {
      row: (line) => rows.get(line),
      make: (line, row) => this.#made(line, row),
      keep: this.copying.ends(),
    });
    this.copying.drew();
    this.section.dataset.times = this.times;
    this.section.style.setProperty("--digits", String(rows.total).length);
    this.#say();
    mark(this.finder.search, this.drawn.elements());
  }

  #made(line, row) {
    const number = line <= this.rows.total ? line : 0; // one that is not over has none
    const element = drawRow(number, row, row ? timeText(this.times, row.t, this.begunMs) : "");
    if (line === this.target) element.classList.add("target");
    if (line === this.finder.line) element.classList.add("hit");
    return element;
  }

  #say() {
    const { total, open } = this.rows;
    const lines = `${total.toLocaleString("en")} ${total === 1 ? "line" : "lines"}`;
    const count = this.find(".count");
    if (!this.loaded) return;
    const text = total || open.length ? lines : this.live.wanted ? "waiting for output" : "no output";
    if (count.textContent !== text) count.textContent = text;
    this.find(".follow").hidden = !this.live.wanted;
  }
}

function lineIn(hash) {
  return Number(/^#L([0-9]{1,15})$/.exec(hash)?.[1] ?? 0);
}
