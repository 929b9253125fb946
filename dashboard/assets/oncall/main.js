/* On-call: asks every two seconds who is on duty, what escalates and what is silenced; counts down in between. */

import { byId, hidden, make, text } from "../live/dom.js";
import { follow } from "../live/follow.js";
import { span } from "../live/format.js";
import { Poll } from "../live/poll.js";
import { mark } from "../room/panels.js";

const EVERY_MS = 2000;
const AFTER_FAILURE_MS = 3000;
const COUNT_EVERY_MS = 500;
const HOUR_MS = 3600000;

class OnCallPage {
  constructor(root) {
    this.root = root;
    this.body = null;
    this.ahead = 0; // of the console's clock before this browser's
    this.poll = new Poll(() => "/api/desk/oncall", (body) => this.take(body), () => {
      this.say("The console does not answer: what is shown is what it said last.", true);
      return AFTER_FAILURE_MS;
    });
    byId("oncall-override").addEventListener("click", () => this.askOverride());
    byId("oncall-silence").addEventListener("click", () => this.askSilence());
    byId("oncall-cancel").addEventListener("click", () => byId("oncall-dialog").close());
    byId("oncall-confirm").addEventListener("click", () => this.confirm());
    this.timer = setInterval(() => this.count(), COUNT_EVERY_MS);
    this.poll.ask();
  }

  close() {
    clearInterval(this.timer);
    this.poll.close();
  }

  say(words, isStale) {
    text(byId("oncall-said"), words || "");
    this.root.toggleAttribute("data-stale", Boolean(isStale));
  }

  take(body) {
    this.say(body.error, Boolean(body.error));
    if (body.error) return AFTER_FAILURE_MS;
    this.body = body;
    this.ahead = body.now - Date.now();
    this.list("rotas", body.rotas, (row) => row.name, rota, "The policy file (alerts.policy) has no rota: nobody is on duty.");
    this.list("escalations", body.escalations, (row) => row.alert_id, escalation, "Nothing escalates.");
    this.list("overrides", body.overrides, (row) => row.id, (row) => this.override(row), "Nobody stands in: the rotas stand as they are.");
    const none = body.silences === null ? "This console keeps no silences." : "Nothing is silenced.";
    this.list("silences", body.silences || [], (row) => row.id, (row) => this.silence(row), none);
    hidden(byId("oncall-override"), !body.rotas.length || !body.people.length);
    hidden(byId("oncall-silence"), body.silences === null);
    this.count();
    return EVERY_MS;
  }

  /* Rows are kept by key and made anew only where they have changed, so that focus stays. */
  list(name, rows, keyOf, cells, nothing) {
    const panel = this.root.querySelector(`[data-panel="${name}"]`);
    const table = panel.querySelector("table");
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    const body = panel.querySelector("tbody");
    const known = new Map([...body.children].map((line) => [line.dataset.row, line]));
    rows.forEach((row, i) => {
      const key = String(keyOf(row));
      const shown = JSON.stringify(row);
      let line = known.get(key);
      known.delete(key);
      if (!line || line.shown !== shown) {
        const made = make("tr", ...cells(row).map((cell, at) => {
          const element = make("td", ...[cell].flat().filter((part) => part !== ""));
          if (heads[at]) element.dataset.label = heads[at];
          if (at === 0) element.className = "main";
          return element;
        }));
        made.dataset.row = key;
        made.shown = shown;
        if (line) line.replaceWith(made);
        line = made;
      }
      if (body.children[i] !== line) body.insertBefore(line, body.children[i] || null);
    });
    for (const line of known.values()) line.remove();
    hidden(table, rows.length === 0);
    const absence = panel.querySelector("[data-nothing]");
    hidden(absence, rows.length > 0);
    text(absence, nothing);
    text(panel.querySelector("[data-note]"), rows.length > 1 ? String(rows.length) : "");
  }

  count() {
    const now = Date.now() + this.ahead;
    for (const place of this.root.querySelectorAll("[data-due]")) {
      const left = Number(place.dataset.due) - now;
      text(place, left > 0 ? span(left / 1000) : "now");
    }
  }

  override(row) {
    const end = button("Remove", `Remove ${row.person} from rota ${row.rota}`, () => this.ask({
      title: "Remove this override?",
      words: `${row.person} on rota ${row.rota} until ${stamp(row.ends)}: the rota names who is on duty again.`,
      fields: [NAME, { ...REASON, key: "comment" }],
      verb: "Remove",
      send: (said) => this.send(`/api/desk/oncall/overrides/${row.id}/remove`, said),
    }));
    return [row.person, row.rota, stamp(row.starts), stamp(row.ends), row.comment, row.by, end];
  }

  silence(row) {
    const end = button("End", `End the silence of ${row.matchers.join(", ")}`, () => this.ask({
      title: "End this silence?",
      words: `${row.matchers.join(", ")}: what fires is told again at once.`,
      fields: [NAME],
      verb: "End it",
      send: (said) => this.send(`/api/desk/silences/${encodeURIComponent(row.id)}/expire`, said),
    }));
    return [make("code", row.matchers.join(", ")), stamp(row.starts), stamp(row.ends), row.comment, row.by, end];
  }

  askOverride() {
    const now = Date.now() + this.ahead;
    this.ask({
      title: "Put somebody on duty",
      words: "For this time the person stands in for whoever the rota names.",
      fields: [
        { key: "rota", label: "Rota", options: this.body.rotas.map((rota_) => rota_.name) },
        { key: "person", label: "Person", options: this.body.people },
        { key: "starts", label: "From (UTC)", time: now },
        { key: "ends", label: "Until (UTC)", time: now + 8 * HOUR_MS },
        NAME,
        REASON,
      ],
      verb: "Put on duty",
      send: (said) => this.send("/api/desk/oncall/overrides", said),
    });
  }

  askSilence() {
    const now = Date.now() + this.ahead;
    this.ask({
      title: "Silence alerts",
      words: "Nobody is told of alerts that all of these matchers fit; they stay on the page, and are told if they still fire when it ends.",
      fields: [
        { key: "matchers", label: 'Matchers, with commas between them: alertname="Busy", host=~"a.*"' },
        { key: "starts", label: "From (UTC)", time: now },
        { key: "ends", label: "Until (UTC)", time: now + 2 * HOUR_MS },
        NAME,
        REASON,
      ],
      verb: "Silence",
      send: (said) => this.send("/api/desk/silences", { ...said, matchers: split(said.matchers) }),
    });
  }

  ask(question) {
    this.question = question;
    text(byId("oncall-title"), question.title);
    text(byId("oncall-words"), question.words);
    text(byId("oncall-missing"), "");
    text(byId("oncall-confirm"), question.verb);
    byId("oncall-fields").replaceChildren(...question.fields.map(field));
    byId("oncall-dialog").showModal();
    byId("oncall-cancel").focus();
  }

  async confirm() {
    const said = {};
    for (const one of this.question.fields) {
      const value = byId("oncall-fields").querySelector(`[data-key="${one.key}"]`).value.trim();
      if (!value) {
        text(byId("oncall-missing"), `Missing: ${one.label.split(/[,(]/)[0].trim()}`);
        return;
      }
      said[one.key] = one.time === undefined ? value : Date.parse(`${value}Z`);
    }
    const button_ = byId("oncall-confirm");
    if (button_.disabled) return;
    button_.disabled = true; // an answer that is slow must not be asked for twice
    try {
      if (await this.question.send(said)) byId("oncall-dialog").close();
    } finally {
      button_.disabled = false;
    }
  }

  async send(path, said) {
    const done = await window.deskvigil.actions.send(path, said);
    if (done) this.poll.ask();
    return done;
  }
}

const NAME = { key: "name", label: "Your name" };
const REASON = { key: "comment", label: "Reason" };

function rota(row) {
  const [now, next, then] = row.duties;
  const place = row.zone;
  const named = (duty) => (duty ? `${duty.person || "nobody"}${duty.stands_in ? " (stands in)" : ""}` : "–");
  const begins = (duty) => (duty ? `${named(duty)}, from ${local(duty.begins, place)}` : "as now for four weeks");
  const who = make("strong", named(now));
  return [
    [`${row.name} `, make("span.note", place)],
    now && now.person ? who : [mark("warning"), who],
    next ? local(now.ends, place) : "",
    begins(next),
    then ? begins(then) : "",
  ];
}

function escalation(row) {
  const link = make("a", row.summary);
  link.href = `/alerts?alert=${encodeURIComponent(row.alert_id)}`;
  const left = row.due === null ? "" : make("span");
  if (left) left.dataset.due = row.due;
  const again = row.round ? `, time ${row.round + 1}` : "";
  const step = { running: `${row.step} of ${row.steps}${again}`, acknowledged: `acknowledged by ${row.acked_by}`, exhausted: "none: all were told" };
  return [[mark(row.severity), link], step[row.state] || row.state, left, row.state === "running" ? row.words : "", row.policy, stamp(row.started), row.assigned_to || ""];
}

function field(one) {
  let input;
  if (one.options) {
    input = make("select", ...one.options.map((option) => make("option", option)));
  } else {
    input = make("input");
    input.type = one.time === undefined ? "text" : "datetime-local";
    input.maxLength = 1000;
    input.autocomplete = "off";
    if (one.time !== undefined) input.value = new Date(one.time).toISOString().slice(0, 16);
  }
  input.dataset.key = one.key;
  return make("label", one.label, input);
}

/* At commas outside quotation marks. */
function split(matchers) {
  return (matchers.match(/(?:"(?:\\.|[^"\\])*"|[^,"])+/g) || []).map((one) => one.trim()).filter(Boolean);
}

function button(words, label, act) {
  const made = make("button", words);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

function stamp(ms) {
  return `${local(ms, "UTC")} UTC`;
}

function local(ms, zone) {
  const parts = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false };
  return new Intl.DateTimeFormat("en-GB", { ...parts, timeZone: zone }).format(new Date(ms));
}

follow("[data-oncall]", OnCallPage);
