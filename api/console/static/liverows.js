// What comes of a log, from a position on, until its task has ended.
import { News } from "./news.js";

export class LiveRows {
  constructor(url, { rows, attempt, whole, status }) {
    const end = (event) => {
      this.stop();
      status(event);
    };
    this.news = new News(
      () => url({ after: this.after }), { rows, attempt, log: whole, status, end },
      (id) => { this.after = id; });
  }

  get wanted() { return this.news.wanted; }

  start(after) {
    this.after = after;
    this.news.start();
  }

  stop() { this.news.stop(); }

  // After the end: somebody may have had the task run again.
  again() {
    if (!this.wanted && this.after) this.start(this.after);
  }
}
