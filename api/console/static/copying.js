// Copies lines that are not in the page: of a selection its ends stay there, the rest is fetched.
import { plain } from "./drawing.js";
import { toast } from "./toast.js";

const MOST_LINES = 20_000;
const AT_ONCE = 1000;

export class Copying {
  // `rows`: those of the log; `drawn`: those that are in the page
  constructor(box, rows, drawn) {
    this.rows = rows;
    this.drawn = drawn;
    this.all = false; // selected by the keyboard, whatever is in the page
    this.fetched = null;
    box.addEventListener("keydown", (event) => {
      if (event.key !== "a" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      getSelection().selectAllChildren(drawn.place);
      this.all = true;
    });
    document.addEventListener("pointerdown", () => { this.all = false; });
    document.addEventListener("copy", (event) => this.#copy(event));
  }

  // Lines where a selection begins and ends.
  ends() {
    const { anchorNode, focusNode } = getSelection();
    return new Set([this.drawn.lineOf(anchorNode), this.drawn.lineOf(focusNode)]);
  }

  // New rows of a log that is selected as a whole are selected, too.
  drew() {
    this.all &&= getSelection().anchorNode === this.drawn.place;
    if (this.all) getSelection().selectAllChildren(this.drawn.place);
  }

  #copy(event) {
    const selection = getSelection();
    if (selection.isCollapsed) return;
    const range = selection.getRangeAt(0);
    const all = this.all && selection.anchorNode === this.drawn.place;
    const first = all ? 1 : this.drawn.lineOf(range.startContainer);
    const last = all ? this.rows.length : this.drawn.lineOf(range.endContainer);
    if (!first || !last || this.drawn.has(first, last)) return; // the browser has it all
    event.preventDefault();
    if (last - first >= MOST_LINES) {
      toast(`More than ${MOST_LINES.toLocaleString("en")} lines are not copied: Download has them all.`);
      return;
    }
    const put = (between) => {
      const ends = all ? [] : [this.#head(range, first), this.#tail(range, last)];
      return all ? between.join("\n") : [ends[0], ...between, ends[1]].join("\n");
    };
    const [from, to] = all ? [first, last] : [first + 1, last - 1];
    const known = this.#known(from, to) ?? (this.fetched?.from === from && this.fetched.to === to ? this.fetched.texts : null);
    if (known) event.clipboardData.setData("text/plain", put(known));
    else this.#fetch(from, to, put);
  }

  #head(range, line) {
    const part = range.cloneRange();
    part.setEndAfter(this.drawn.element(line).lastChild);
    return part.toString();
  }

  #tail(range, line) {
    const part = range.cloneRange();
    part.setStartBefore(this.drawn.element(line).firstChild);
    return part.toString();
  }

  #known(from, to) {
    const texts = [];
    for (let line = from; line <= to; line++) {
      const row = this.rows.get(line);
      if (!row) return null;
      texts.push(plain(row));
    }
    return texts;
  }

  async #fetch(from, to, put) {
    try {
      const texts = [];
      while (from + texts.length <= to) {
        const lines = Math.min(AT_ONCE, to - from - texts.length + 1);
        const page = await this.rows.ask({ line: from + texts.length, lines });
        if (!page.rows.length) break; // the lines that are not over
        texts.push(...page.rows.map(plain));
      }
      this.fetched = { from, to, texts };
      await navigator.clipboard.writeText(put(texts));
      toast(`${texts.length.toLocaleString("en")} lines are copied.`);
    } catch (error) {
      // Browsers let a page that came without TLS write only while a key is pressed.
      toast(this.fetched ? "The lines are here now: copy once more." : error.message);
    }
  }
}
