/* Room: the Latency and the Engine page: asks once a second for what the server has put into words, and writes down what has changed. */

import { byId, text } from "../live/dom.js";
import { LatencyPage } from "./latency.js";
import { showEngine } from "./panels.js";

const EVERY_MS = 1000;
const AFTER_FAILURE_MS = 3000;

class RoomPage {
  constructor(root) {
    this.root = root;
    this.what = root.dataset.room;
    this.latency = this.what === "latency" ? new LatencyPage(root) : null;
    this.ask = this.ask.bind(this);
    this.visible = () => document.hidden || this.soon(0);
    document.addEventListener("visibilitychange", this.visible);
    this.soon(0);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    if (this.request) this.request.abort();
    document.removeEventListener("visibilitychange", this.visible);
    if (this.latency) this.latency.close();
  }

  soon(ms) {
    clearTimeout(this.timer);
    if (!this.closed && !document.hidden) this.timer = setTimeout(this.ask, ms);
  }

  async ask() {
    this.request = new AbortController();
    let after = EVERY_MS;
    try {
      const response = await fetch(`/api/desk/${this.what}`, { signal: this.request.signal });
      const body = await response.json();
      if (this.closed) return;
      if (body.error) this.say(body.error, true);
      else this.show(body);
    } catch (error) {
      if (this.closed || error.name === "AbortError") return;
      after = AFTER_FAILURE_MS;
      this.say("The console does not answer: what is shown is what it said last.", true);
    }
    this.soon(after);
  }

  show(body) {
    this.say(body.said, body.stale);
    if (this.latency) this.latency.show(body);
    else showEngine(this.root, body);
  }

  say(words, isStale) {
    text(byId("room-said"), words);
    this.root.toggleAttribute("data-stale", Boolean(isStale));
  }
}

/* Dash puts pages into #content and takes them away: follow it. */
let page = null;

function bind() {
  const root = document.querySelector("#content [data-room]");
  if (page && page.root === root) return;
  if (page) page.close();
  page = root ? new RoomPage(root) : null;
}

function begin() {
  if (!byId("content")) {
    requestAnimationFrame(begin);
    return;
  }
  new MutationObserver(bind).observe(byId("content"), { childList: true });
  bind();
}

begin();
