/* Breaks: whether our record and the drop copy agree, what does not, and the dialog in which a break is explained or closed. */

import { attribute, byId, hidden, keyed, make, text } from "./dom.js";
import { age, number } from "./format.js";

const NAMES = {
  missing_own: "Missing in our record", missing_copy: "Missing in the drop copy", duplicated: "Duplicated", altered: "Altered", late: "Late",
  position: "Positions differ", damaged: "Damaged", gap: "Gap", settlement: "Settlement differs",
};

export class Breaks {
  constructor(part, actions) {
    this.part = part;
    this.actions = actions;
    this.dialog();
  }

  show(checks) {
    const of = (state) => checks.breaks.filter((row) => row.state === state);
    const [open, explained, closed] = [of("open"), of("explained"), of("closed")];
    const count = checks.open_breaks ?? open.length;
    attribute(byId("o-checks"), "data-open", count ? "" : null);
    this.sentence(checks, count, open.length, explained.length);
    keyed(this.part("breaks"), [...open, ...explained], (row) => row.id, "li.alert", (element, row) => this.fill(element, row));
    const ended = this.part("closed");
    hidden(ended.parentElement, closed.length === 0);
    text(ended.parentElement.firstElementChild, `Closed last: ${closed.length}`);
    keyed(ended, closed, (row) => row.id, "li.alert.ended", (element, row) => this.fill(element, row));
  }

  sentence(checks, count, shown, explained) {
    const words = this.part("checks");
    const when = checks.age === null ? "" : `, checked ${age(checks.age)} ago`;
    const equal = number(checks.executions_equal_total);
    const all = checks.executions_broken_total ? `${equal} of ${number(checks.executions_equal_total + checks.executions_broken_total)} fills` : `All ${equal} fills`;
    const waiting = explained ? `; ${explained} explained, not closed` : "";
    const newest = count > shown ? ` (the newest ${shown} are shown)` : "";
    if (checks.why) say(words, "warning", `The breaks cannot be read: ${checks.why}`);
    else if (count) say(words, "critical", `${number(count)} open reconciliation ${count === 1 ? "break" : "breaks"}${newest}${waiting}; ${checks.age === null ? "nothing has been compared yet" : `${equal} fills equal to the drop copy${when}`}`);
    else if (checks.age === null) say(words, null, `The reconciliation has not compared anything yet${waiting}.`);
    else if (checks.age > 10) say(words, "warning", `The reconciliation is behind${when}; ${equal} fills were equal to the drop copy${waiting}`);
    else if (!checks.executions_equal_total && !checks.executions_broken_total) say(words, "resolved", `No fill to compare with the drop copy yet${when}${waiting}`);
    else say(words, "resolved", `${all} equal to the drop copy${when}${waiting}`);
  }

  /* One break; its content is made anew only where it has changed. */
  fill(element, row) {
    const key = JSON.stringify(row);
    if (element.shown === key) return;
    element.shown = key;
    const words = make("div.words", make("strong", title(row)), make("span", row.what), make("span.detail", `since ${stamp(row.t)}, found ${age((row.found - row.t) / 1000)} later`));
    if (row.explained_by) words.append(make("span.detail", `Explained by ${row.explained_by}: ${row.explanation}`));
    if (row.state === "closed") words.append(make("span.detail", `Closed by ${row.closed_by}, ${stamp(row.changed)}: ${row.closing}`));
    const mark = make(`span.mark.mark-${{ open: "critical", explained: "info" }[row.state] || "resolved"}`);
    element.replaceChildren(mark, words, make("div.differs", differs(row.differs)));
    if (row.state === "closed") return;
    const button = make("button", row.state === "open" ? "Explain or close" : "Close");
    button.type = "button";
    attribute(button, "aria-label", `${button.textContent} break ${row.id}`);
    button.addEventListener("click", () => this.ask(row));
    element.append(button);
  }

  dialog() {
    this.input = make("input");
    this.input.type = "text";
    this.input.maxLength = 1000;
    this.input.autocomplete = "off";
    byId("o-break-comment").append(this.input);
    byId("o-break-leave").addEventListener("click", () => byId("o-break-dialog").close());
    byId("o-break-explain").addEventListener("click", () => this.send("explain"));
    byId("o-break-close").addEventListener("click", () => this.send("close"));
  }

  ask(row) {
    this.row = row;
    text(byId("o-break-title"), title(row));
    text(byId("o-break-words"), row.state === "open" ? `${row.what} Explained, it no longer alerts and stays on the page until it is closed.` : `Explained by ${row.explained_by}: ${row.explanation}`);
    text(byId("o-break-said"), "");
    hidden(byId("o-break-explain"), row.state !== "open");
    this.input.value = "";
    byId("o-break-dialog").showModal();
    this.input.focus();
  }

  async send(verb) {
    const comment = this.input.value.trim();
    text(byId("o-break-said"), comment ? "" : "Say in a few words what is known of it.");
    if (!comment || this.isSending) return;
    this.isSending = true; // a slow answer must not be asked for twice
    try {
      if (await this.actions.send(`/api/desk/breaks/${this.row.id}/${verb}`, { comment })) byId("o-break-dialog").close();
    } finally {
      this.isSending = false;
    }
  }
}

function title(row) {
  return `${NAMES[row.kind] || row.kind}${row.symbol ? ` · ${row.symbol}` : ""} · break ${row.id}`;
}

/* A column for each field, our record above the drop copy; null where there is nothing to set side by side. */
function differs(fields) {
  if (!fields.length) return null;
  const line = (tag, name, k) => make("tr", make("th", name), ...fields.map((field) => make(tag, field[k])));
  return make("table", make("thead", line("th", "", 0)), make("tbody", line("td", "our record", 1), line("td", "drop copy", 2)));
}

function say(place, mark, words) {
  if (place.dataset.mark !== String(mark)) {
    place.dataset.mark = String(mark);
    place.replaceChildren(mark ? make(`span.mark.mark-${mark}`) : "", make("span"));
  }
  text(place.lastElementChild, words);
}

function stamp(ms) {
  return `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}
