/* Profiler: asks for the list every two seconds, draws the profile that the address names, and takes a new one. */

import { attribute, byId, hidden, make, text } from "../live/dom.js";
import { follow } from "../live/follow.js";
import { Poll } from "../live/poll.js";
import { fill } from "../room/panels.js";
import { Flame } from "./flame.js";

const EVERY_MS = 2000;
const AFTER_FAILURE_MS = 4000;
const ALWAYS = "sampler";

class ProfilerPage {
  constructor(root) {
    this.root = root;
    this.flame = new Flame(byId("flame"), byId("flame-path"));
    this.controls = null;
    this.poll = new Poll(() => "/api/desk/profiles", (body) => this.take(body), () => {
      this.say("The console does not answer: what is shown is what it said last.", true);
      return AFTER_FAILURE_MS;
    });
    this.poll.ask();
    this.open(new URLSearchParams(location.search).get("profile") || ALWAYS);
  }

  close() {
    this.closed = true;
    this.poll.close();
    this.flame.close();
  }

  say(words, isStale) {
    text(byId("profiler-said"), words);
    this.root.toggleAttribute("data-stale", Boolean(isStale));
  }

  take(body) {
    this.say(body.error || "", body.error);
    if (body.error) return EVERY_MS;
    this.bottleneck(body.bottleneck);
    this.form(body);
    const { running } = body;
    const state = running ? `${running.process} is watched (${running.kind}, ${running.seconds} s)` : body.failed && `Not taken: ${body.failed}`;
    text(byId("take-note"), state || `one at a time, at most 60 s; watching the console all the time ${body.overhead === null ? "is switched off" : `costs ${(100 * body.overhead).toPrecision(2)} % of a core`}`);
    const always = { id: ALWAYS, t_ms: null, process: "console", kind: "cpu", seconds: null, unit: "samples", total: null, who: "always on", reason: "a few looks a second since the start" };
    fill(byId("profile-rows"), [always, ...body.profiles], (row) => this.cells(row));
    return EVERY_MS;
  }

  bottleneck(found) {
    if (!found) {
      text(byId("bottleneck-sentence"), "Nothing is looked for: collectors.sampler_hz is 0.");
      text(byId("bottleneck-note"), "");
      attribute(byId("bottleneck"), "data-severity", null);
      return;
    }
    const words = found.sentence || (found.waits_s > 0 ? `Nothing is said for another ${found.waits_s} s: there is no calm time to compare with yet.` : "None: nothing is slower than in the calm hour before.");
    text(byId("bottleneck-sentence"), words);
    text(byId("bottleneck-note"), found.sentence ? `since ${time(found.since_ms)} UTC` : "the last seconds against the calm hour before");
    attribute(byId("bottleneck"), "data-severity", found.sentence ? "warning" : null);
  }

  form(body) {
    const key = JSON.stringify([body.processes, body.kinds]);
    if (this.controls !== key) {
      this.controls = key;
      this.process = select("Process", body.processes.map((name) => [name, name, ""]));
      this.kind = select("What", [["cpu", "processor (py-spy)", body.kinds.cpu], ["memory", "memory (memray)", body.kinds.memory]]);
      this.seconds = select("Seconds", ["5", "10", "30", "60"].map((one) => [one, `${one} s`, ""]));
      this.reason = make("input");
      this.reason.type = "text";
      this.reason.maxLength = 200;
      this.reason.placeholder = "why (kept with it)";
      attribute(this.reason, "aria-label", "Why");
      this.button = make("button", "Take it");
      this.button.type = "button";
      this.button.addEventListener("click", () => this.start());
      const missing = Object.values(body.kinds).filter(Boolean).map((words) => make("span.note", words));
      byId("take-controls").replaceChildren(this.process, this.kind, this.seconds, this.reason, this.button, ...missing);
    }
    this.button.disabled = Boolean(body.running);
  }

  async start() {
    this.button.disabled = true;
    const asked = { process: this.process.value, kind: this.kind.value, seconds: Number(this.seconds.value), reason: this.reason.value.trim() };
    try {
      const response = await fetch("/api/desk/profiles", { method: "POST", headers: { "Content-Type": "application/json", "X-Deskvigil-Action": "1" }, body: JSON.stringify(asked) });
      const body = await response.json();
      text(byId("take-note"), body.message || `Not taken: ${body.error}`);
    } catch {
      text(byId("take-note"), "Not taken: the console does not answer.");
    }
    this.button.disabled = false;
  }

  cells(row) {
    const open = make("button.link", row.t_ms === null ? "now" : time(row.t_ms));
    open.type = "button";
    open.addEventListener("click", () => this.open(String(row.id)));
    const head = make("th", open);
    head.scope = "row";
    const weight = row.total === null ? "" : amount(row.total, row.unit);
    return [head, ...[row.process, row.kind === "cpu" ? "processor" : "memory", row.seconds ?? "", weight, row.who, row.reason].map((words) => make("td", String(words)))];
  }

  async open(name) {
    this.name = name;
    const search = name === ALWAYS ? "" : `?${new URLSearchParams({ profile: name })}`;
    history.replaceState(history.state, "", `${location.pathname}${search}`);
    let body;
    try {
      const response = await fetch(`/api/desk/profiles/${encodeURIComponent(name)}`);
      body = await response.json();
    } catch {
      body = { error: "The console does not answer." };
    }
    if (this.closed || this.name !== name) return;
    const boxes = body.boxes || [];
    hidden(byId("flame-nothing"), boxes.length > 0);
    text(byId("flame-nothing"), body.error || "Nothing was seen at work yet.");
    const { unit = "samples", total = 0, process = "" } = body.head || {};
    const share = (weight) => `${amount(weight, unit)}, ${((100 * weight) / Math.max(total, 1)).toFixed(1)} %`;
    text(byId("flame-note"), boxes.length ? `${process}: ${amount(total, unit)}; a click goes into a box` : "");
    this.flame.show(boxes, (box) => `${box[0]}\n${share(box[3])}, itself ${share(box[4])}`);
    fill(byId("function-rows"), body.functions || [], ([words, own, all]) => {
      const head = make("th", words);
      head.scope = "row";
      return [head, make("td", share(own)), make("td", share(all))];
    });
  }
}

function select(label, options) {
  const made = make("select", ...options.map(([value, words, missing]) => {
    const option = make("option", words);
    option.value = value;
    option.disabled = Boolean(missing);
    return option;
  }));
  attribute(made, "aria-label", label);
  return made;
}

function amount(weight, unit) {
  if (unit !== "bytes") return `${weight} ${unit}`;
  const power = Math.min(Math.floor(Math.log2(Math.max(weight, 1)) / 10), 3);
  return `${(weight / 1024 ** power).toPrecision(3)} ${["B", "KiB", "MiB", "GiB"][power]}`;
}

const time = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");

follow('[data-page="profiler"]', ProfilerPage);
