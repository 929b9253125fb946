/* Room: the Latency, the Engine, the Risk and the Resources page: asks once a second for what the server has put into words, and writes down what has changed. */

import { byId, text } from "../live/dom.js";
import { follow } from "../live/follow.js";
import { Poll } from "../live/poll.js";
import { LatencyPage } from "./latency.js";
import { showPanels } from "./panels.js";
import { showResources } from "./resources.js";
import { RiskPage } from "./risk.js";

const EVERY_MS = 1000;
const AFTER_FAILURE_MS = 3000;

class RoomPage {
  constructor(root) {
    this.root = root;
    this.what = root.dataset.room;
    this.filled = this.what === "latency" ? new LatencyPage(root) : this.what === "risk" ? new RiskPage(root) : null;
    this.poll = new Poll(() => `/api/desk/${this.what}`, (body) => this.take(body), () => {
      this.say("The console does not answer: what is shown is what it said last.", true);
      return AFTER_FAILURE_MS;
    });
    this.poll.ask();
  }

  close() {
    this.poll.close();
    if (this.filled) this.filled.close();
  }

  take(body) {
    this.say(body.error || body.said, body.error || body.stale);
    if (!body.error && this.filled) this.filled.show(body);
    else if (!body.error) (this.what === "resources" ? showResources : showPanels)(this.root, body);
    return EVERY_MS;
  }

  say(words, isStale) {
    text(byId("room-said"), words);
    this.root.toggleAttribute("data-stale", Boolean(isStale));
  }
}

follow("[data-room]", RoomPage);
