// The rows that are in the page. One that stays keeps its element, and with it what is selected.

export class Drawn {
  constructor(place) {
    this.place = place;
    this.rows = new Map(); // line → [row, element]
    this.lines = new WeakMap(); // element → line
  }

  elements() { return [...this.rows.values()].map(([, element]) => element); }

  element(line) { return this.rows.get(line)?.[1]; }

  // Line that a node is part of; 0: of none.
  lineOf(node) {
    const element = node instanceof Element ? node : node?.parentElement;
    return this.lines.get(element?.closest(".row")) ?? 0;
  }

  has(first, last) {
    for (let line = first; line <= last; line++) if (!this.rows.get(line)?.[0]) return false;
    return true;
  }

  clear() {
    this.rows.clear();
    this.place.replaceChildren();
  }

  // `keep`: lines that stay in the page, out of sight, before or behind those that are drawn.
  draw(first, last, topPx, { row, make, keep }) {
    this.place.style.transform = `translateY(${topPx}px)`;
    let before = null;
    for (const [line, [, element]] of this.rows) {
      const seen = first <= line && line <= last;
      element.classList.toggle("above", line < first);
      element.classList.toggle("below", line > last);
      if (!seen && !keep.has(line)) {
        element.remove();
        this.rows.delete(line);
      } else if (line >= first && !(before && this.lines.get(before) < line)) before = element;
    }
    for (let line = first; line <= last; line++) {
      const now = row(line);
      const known = this.rows.get(line);
      if (known && known[0] === now) {
        before = known[1].nextSibling;
        continue;
      }
      const element = make(line, now);
      this.lines.set(element, line);
      if (known) {
        known[1].replaceWith(element);
        before = element.nextSibling;
      } else this.place.insertBefore(element, before);
      this.rows.set(line, [now, element]);
    }
  }
}
