/* Status: the bar and the sentence above every page, and the stale state of the whole page. */

import { attribute, byId, hidden, make, text } from "./dom.js";
import { age, clock, span } from "./format.js";

const OFFLINE_S = 3;
const REMOTE_LATE_S = 10;
const TIERS = ["emergency", "critical", "warning", "info"];

export class Status {
  constructor(socket, actions) {
    this.socket = socket;
    this.actions = actions;
    this.said = "";
    this.counted = "";
  }

  /* Why a collector's numbers are missing, in words; "" where nothing is known. */
  reason(model, collector) {
    const { processes = [], engine = {} } = model.state;
    const child = processes.find((one) => one.name === collector);
    if (child && child.state !== "running") return `the ${collector} process is ${child.state}`;
    if (collector === "engine" && engine.state === "DOWN") return engine.reason || "there is no engine";
    if (collector === "risk" && model.values.get("deskvigil_risk_up") === 0) return "the risk process does not answer";
    if (collector === "risk") return riskState(model);
    return "";
  }

  update(model) {
    this.connection(model);
    if (!model.state.k) return;
    this.alerts(model);
    this.sentence(model.state.sentence);
    const { engine } = model.state;
    this.pairs(byId("status-clock"), sessionWords(model));
    const feed = model.values.get("deskvigil_engine_feed_age_seconds");
    const seconds = feed === null || feed === undefined ? Infinity : feed + model.age("deskvigil_engine_feed_age_seconds");
    const live = liveFeed(model);
    const words = Number.isFinite(seconds) ? age(seconds) : "silent";
    this.pairs(byId("status-feed"), live ? [["feed", `${live.name} ${live.state === "live" ? words : live.state.replace("_", " ")}`]] : [["feed", words]]);
    attribute(byId("status-feed"), "data-severity", live && live.state !== "live" ? "critical" : null);
    attribute(byId("status-feed"), "title", live ? live.title : null);
    this.remote(model.state.remote);
    this.pairs(byId("status-trading"), [["trading", engine.state]]);
    attribute(byId("status-trading"), "data-severity", { HALTED: "critical", DOWN: "critical", REDUCING: "warning" }[engine.state] || null);
    const simulated = byId("status-simulated");
    hidden(simulated, false);
    text(simulated, engine.simulated_market ? "SIMULATED" : "SIMULATED ORDERS");
    attribute(simulated, "title", engine.simulated_market ? `Orders and market are simulated. Source: ${engine.source}` : `Orders are simulated; the market is ${engine.source}`);
    this.actions.follow(engine.state);
  }

  /* How old the queue to the remote store is; nothing where there is no remote store. */
  remote(remote) {
    const place = byId("status-remote");
    hidden(place, !remote);
    if (!remote) return;
    this.pairs(place, [["remote", remote.ok && remote.age < REMOTE_LATE_S ? "ok" : `${span(remote.age)} behind`]]);
    attribute(place, "data-severity", remote.ok && remote.age < REMOTE_LATE_S ? null : "warning");
    attribute(place, "title", `${remote.pending.toLocaleString("en")} samples wait for the remote store${remote.reason ? `: ${remote.reason}` : ""}`);
  }

  connection(model) {
    const silent = this.socket.silence();
    const off = silent > OFFLINE_S;
    attribute(document.body, "data-offline", off ? "" : null);
    const banner = byId("offline");
    hidden(banner, !off);
    if (off) {
      const wait = this.socket.timer ? Math.max((this.socket.retryAt - performance.now()) / 1000, 0) : 0;
      const again = wait >= 1 ? `trying again in ${Math.ceil(wait)} s` : "trying to connect";
      text(banner, `No connection for ${span(silent)}. What is shown is old; ${again}.`);
    }
  }

  alerts(model) {
    const waiting = model.alerts.active.filter((alert) => alert.state === "firing" && !alert.acked_by);
    const worst = TIERS.find((tier) => waiting.some((alert) => alert.severity === tier));
    const count = waiting.filter((alert) => alert.severity === worst).length;
    const words = worst ? `${count} ${worst}${worst === "warning" && count > 1 ? "s" : ""}` : "no alert";
    if (words === this.counted) return;
    this.counted = words;
    const place = byId("status-alerts");
    place.replaceChildren(worst ? make(`span.mark.mark-${worst}`) : "", make("b", words), worst ? " unacknowledged" : "");
  }

  sentence(sentence) {
    const key = JSON.stringify(sentence);
    if (key === this.said) return;
    this.said = key;
    const place = byId("sentence");
    const words = sentence.words.map(([words, href]) => {
      if (!href) return words;
      const link = make("a", words);
      link.href = href;
      return link;
    });
    place.replaceChildren(make(`span.mark.mark-${sentence.severity || "resolved"}`), ...words);
    attribute(place, "data-severity", sentence.severity);
  }

  /* Words with their values in bold, rebuilt only where the number of them changes. */
  pairs(place, pairs) {
    if (place.children.length !== pairs.length * 2) {
      place.replaceChildren(...pairs.flatMap(() => [make("span"), make("b")]));
    }
    pairs.forEach(([word, value], i) => {
      text(place.children[2 * i], `${word} `);
      text(place.children[2 * i + 1], value);
    });
  }
}

function sessionWords(model) {
  const { session_ends: ends } = model.state.engine;
  const words = [["session", `${clock(model.now())} UTC`]];
  if (ends && ends > model.now()) words.push([" closes in", span((ends - model.now()) / 1000)]);
  return words;
}

/* Which live feed the engine trades on and its state; null where the market is a recording or synthetic. */
function liveFeed(model) {
  const up = model.values.get("deskvigil_feed_up");
  if (up === null || up === undefined) return null;
  if (up === 0) return { name: "process", state: "down", title: "The feed process does not answer: nothing is traded until it does" };
  const found = { feeds: [], states: new Map(), active: "" };
  for (const [key, value] of model.values) {
    if (value !== 1) continue;
    const [, name] = key.match(/^deskvigil_feed_active\{feed="([^"]+)"\}$/) || [];
    if (name) found.active = name;
    const [, feed, state] = key.match(/^deskvigil_feed_state\{feed="([^"]+)",state="([^"]+)"\}$/) || [];
    if (feed) found.states.set(feed, state);
  }
  if (!found.active) return null;
  const title = [...found.states].map(([feed, state]) => `${feed}: ${state.replace("_", " ")}${feed === found.active ? " (traded on)" : ""}`).join("; ");
  return { name: found.active, state: found.states.get(found.active) || "unknown", title };
}

function riskState(model) {
  const words = { no_engine: "the risk process waits for the engine", stale: "the engine's positions are too old to price", no_marks: "a position has no price yet" };
  const now = Object.keys(words).find((state) => model.values.get(`deskvigil_risk_state{state="${state}"}`) === 1);
  return now ? words[now] : "";
}
