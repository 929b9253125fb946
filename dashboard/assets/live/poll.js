/* Poll: one question at a time, asked again by itself; dropped when the next one is asked or the page is left, and not asked while nobody looks. */

const AFTER_ERROR_MS = 3000;

export class Poll {
  /* address(): what is asked. answered(body, ok) and failed() (nothing or no JSON came) return after how many ms it is asked again; null: not by itself. */
  constructor(address, answered, failed) {
    Object.assign(this, { address, answered, failed, request: null, after: null });
    this.seen = () => document.hidden || this.request || this.soon(this.after === null ? null : 0);
    document.addEventListener("visibilitychange", this.seen);
  }

  close() {
    this.drop();
    document.removeEventListener("visibilitychange", this.seen);
  }

  drop() {
    clearTimeout(this.timer);
    if (this.request) this.request.abort();
  }

  soon(ms) {
    clearTimeout(this.timer);
    if (ms !== null && !document.hidden) this.timer = setTimeout(() => this.ask(), ms);
  }

  async ask() {
    this.drop();
    const request = new AbortController();
    this.request = request;
    let [body, ok] = [null, false];
    try {
      const response = await fetch(this.address(), { signal: request.signal });
      [body, ok] = [await response.json(), response.ok];
    } catch {
      // Nobody answers, or something in between does: `failed` says so.
    }
    if (request.signal.aborted) return;
    this.after = AFTER_ERROR_MS; // a mistake while it is shown is the browser's to report; the page goes on
    try {
      this.after = body === null ? this.failed() : await this.answered(body, ok);
    } finally {
      if (!request.signal.aborted) {
        this.request = null;
        this.soon(this.after);
      }
    }
  }
}
