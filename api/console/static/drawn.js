// The rows that are in the page. One that stays keeps its element, and with it what is selected.

export class Drawn {
  constructor(place) {
    this.place = place;
    this.rows = new Map(); // line → [row, element]
  }

  elements() { return [...this.rows.values()].map(([, element]) => element); }

  clear() {
    this.rows.clear();
    this.place.replaceChildren();
  }

  draw(first, last, topPx, { row, make }) {
    this.place.style.transform = `translateY(${topPx}px)`;
    for (const [line, [, element]] of this.rows) {
      if (line < first || line > last) {
        element.remove();
        this.rows.delete(line);
      }
    }
    let before = this.place.firstChild;
    for (let line = first; line <= last; line++) {
      const now = row(line);
      const known = this.rows.get(line);
      if (known && known[0] === now) {
        before = known[1].nextSibling;
        continue;
      }
      const element = make(line, now);
      if (known) {
        known[1].replaceWith(element);
        before = element.nextSibling;
      } else this.place.insertBefore(element, before);
      this.rows.set(line, [now, element]);
    }
  }
}
