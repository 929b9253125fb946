/* Explorer: every metric by room, with kind, unit and help; a click asks the usual question about it. */

import { attribute, byId, make } from "../live/dom.js";
import { described, ranked } from "./vocabulary.js";

const MOST = 400;

export class Explorer {
  /* onPick(expression, isNew) */
  constructor(vocabulary, onPick) {
    this.vocabulary = vocabulary;
    this.onPick = onPick;
    this.dialog = byId("h-explorer");
    this.list = byId("h-explorer-list");
    this.field = make("input");
    this.field.type = "text";
    this.field.placeholder = "search name or help";
    attribute(this.field, "aria-label", "Search metrics");
    this.field.autocomplete = "off";
    byId("h-explorer-search").append(this.field);
    this.field.addEventListener("input", () => this.draw());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.move(event, 0);
      if (event.key === "Enter") {
        const first = this.list.querySelector("button.metric");
        if (first && this.field.value.trim()) first.click();
      }
    });
    this.list.addEventListener("keydown", (event) => {
      const all = [...this.list.querySelectorAll("button.metric")];
      const at = all.indexOf(document.activeElement);
      if (at < 0) return;
      if (event.key === "ArrowDown") this.move(event, at + 1);
      if (event.key === "ArrowUp") this.move(event, at - 1);
    });
    this.list.addEventListener("click", (event) => {
      const button = event.target.closest("[data-question]");
      if (!button) return;
      this.dialog.close();
      this.onPick(button.dataset.question, button.dataset.new !== undefined);
    });
    byId("h-explorer-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  async open() {
    this.dialog.showModal();
    this.field.focus();
    this.field.select();
    await this.vocabulary.refresh();
    this.draw();
  }

  move(event, to) {
    const all = [...this.list.querySelectorAll("button.metric")];
    event.preventDefault();
    if (to < 0) this.field.focus();
    else if (all[to]) all[to].focus();
  }

  draw() {
    const wanted = this.field.value.trim().toLowerCase();
    const words = wanted.split(/\s+/).filter(Boolean);
    let found = this.vocabulary.metrics;
    if (words.length) {
      const items = found.map((metric) => ({ text: metric.name, kind: "metric", metric }));
      const byName = ranked(items, words.join("_")).map((one) => one.metric);
      const byHelp = found.filter((metric) => !byName.includes(metric) && words.every((word) => `${metric.name} ${metric.help}`.toLowerCase().includes(word)));
      found = [...byName, ...byHelp];
    }
    const rooms = new Map();
    for (const metric of found.slice(0, MOST)) rooms.set(metric.room, [...(rooms.get(metric.room) || []), metric]);
    this.list.replaceChildren(
      ...[...rooms].map(([room, metrics]) => {
        const group = make("details.room", make("summary", room, make("span.note", ` ${metrics.length}`)), ...metrics.map((metric) => this.row(metric)));
        group.open = words.length > 0 || rooms.size === 1;
        return group;
      }),
    );
    if (found.length > MOST) this.list.append(make("p.absence", `${found.length - MOST} more: search for them.`));
    if (!found.length) this.list.append(make("p.absence", this.vocabulary.metrics.length ? "No metric is called or described so." : "The list of metrics could not be read."));
  }

  row(metric) {
    const ask = make("button.metric", make("code", metric.name), make("span.note", described(metric)), make("span.help", metric.help));
    ask.type = "button";
    ask.dataset.question = metric.question;
    ask.title = metric.question;
    attribute(ask, "data-late", metric.series ? null : "");
    const add = make("button.plain", "+");
    add.type = "button";
    add.dataset.question = metric.question;
    add.dataset.new = "";
    add.title = "Ask as a further query";
    attribute(add, "aria-label", `Ask ${metric.name} as a further query`);
    return make("div.metric-row", ask, add);
  }
}

