// Rows of one height in a box that scrolls, however many there are.
//
// Browsers draw elements of some 16 to 33 million pixels at most. Where the rows need more, the box
// is given less, and a row is drawn at its place less a shift. Small movements move by pixels, and
// leave the shift as it is; large ones, as of the bar, by parts of the whole, and change it.

const MOST_PX = 8_000_000;
const REST_MS = 200;

export class Scroller {
  constructor(box, height, rowPx, moved) {
    this.box = box;
    this.height = height;
    this.rowPx = rowPx;
    this.moved = moved; // (up) after the visitor, or the size, has moved it
    this.rows = 0;
    this.top = 0; // of all rows, in pixels
    this.last = 0; // scrollTop that `top` belongs to
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => { this.#clamp(); this.moved(false); }).observe(box);
  }

  get whole() { return this.rows * this.rowPx; }
  get most() { return Math.max(0, this.whole - this.box.clientHeight); }
  get atEnd() { return this.top >= this.most - 1; }
  get shift() { return this.top - this.last; }
  get firstRow() { return Math.floor(this.top / this.rowPx); }
  get rowsShown() { return Math.ceil(this.box.clientHeight / this.rowPx) + 1; }
  get #scaled() { return this.whole > MOST_PX; }
  get #mostScroll() { return Math.max(0, Math.min(this.whole, MOST_PX) - this.box.clientHeight); }

  setRows(rows) {
    if (rows === this.rows) return;
    this.rows = rows;
    this.height.style.height = `${Math.min(this.whole, MOST_PX)}px`;
    this.#clamp();
  }

  to(top) {
    this.top = Math.min(Math.max(0, top), this.most);
    this.#settle();
  }

  toEnd() { this.to(this.most); }

  #clamp() {
    if (this.top > this.most || !this.#scaled) this.to(Math.min(this.top, this.most));
  }

  // Put the bar where the rows are.
  #settle() {
    const scroll = this.#scaled ? (this.top / this.most) * this.#mostScroll : this.top;
    this.box.scrollTop = scroll;
    this.last = this.box.scrollTop;
    if (!this.#scaled) this.top = this.last;
  }

  #scrolled() {
    const now = this.box.scrollTop;
    const moved = now - this.last;
    if (!moved) return;
    if (!this.#scaled) this.top = now;
    else if (Math.abs(moved) <= 2 * this.box.clientHeight) this.top += moved;
    else this.top = (now / this.#mostScroll) * this.most;
    this.top = Math.min(Math.max(0, this.top), this.most);
    this.last = now;
    if (this.#scaled) {
      const edge = (now <= 0 && this.top > 0) || (now >= this.#mostScroll - 1 && this.top < this.most);
      clearTimeout(this.resting);
      if (edge) this.#settle();
      else this.resting = setTimeout(() => { this.#settle(); this.moved(false); }, REST_MS);
    }
    this.moved(moved < 0);
  }
}
