/* Alerts: the list of what is active. Rows are kept by identity, so that focus and hover survive updates. */

import { attribute, hidden, make, text } from "./dom.js";
import { clock, span } from "./format.js";

const BRIEF_ROWS = 6;

export class AlertList {
  constructor(panel, actions) {
    this.list = panel.querySelector("[data-alerts]");
    this.full = this.list.dataset.alerts === "full";
    this.absence = panel.querySelector("[data-alerts-absence]");
    this.count = panel.querySelector("[data-alert-count]");
    this.actions = actions;
    this.rows = new Map();
    const page = panel.closest("[data-page]");
    this.highlight = (page && page.dataset.highlight) || new URLSearchParams(location.search).get("alert") || "";
  }

  update(model) {
    if (!model.alerts.k) return;
    const active = model.alerts.active;
    const shown = this.full ? active : active.slice(0, BRIEF_ROWS);
    const keys = new Set();
    const order = [];
    for (const alert of shown) {
      keys.add(alert.id);
      order.push(this.row(alert, model));
    }
    if (!this.full) {
      for (const ended of model.alerts.resolved.slice(0, Math.max(BRIEF_ROWS - shown.length, 0))) {
        const key = `ended ${ended.name} ${ended.t}`;
        keys.add(key);
        order.push(this.ended(key, ended));
      }
    }
    for (const [key, row] of this.rows) {
      if (!keys.has(key)) {
        row.element.remove();
        this.rows.delete(key);
      }
    }
    order.forEach((element, i) => {
      if (this.list.children[i] !== element) this.list.insertBefore(element, this.list.children[i] || null);
    });
    this.summary(active, shown.length, order.length, model);
  }

  summary(active, shown, rows, model) {
    const firing = active.filter((alert) => alert.state === "firing").length;
    const more = model.alerts.total - shown;
    text(this.count, `${firing} active · ${active.length - firing} pending${more > 0 ? ` · ${more} more` : ""}`);
    hidden(this.absence, rows > 0);
    text(this.absence, "Nothing is wrong: no rule fires.");
  }

  row(alert, model) {
    let row = this.rows.get(alert.id);
    if (!row) {
      row = this.make(alert);
      this.rows.set(alert.id, row);
    }
    row.alert = alert;
    attribute(row.mark, "class", `mark mark-${alert.severity}${alert.state === "pending" ? " mark-pending" : ""}`);
    attribute(row.mark, "title", alert.severity);
    text(row.title, alert.summary);
    text(row.detail, detail(alert, model.now()));
    text(row.more, this.full ? explain(alert) : "");
    hidden(row.button, alert.state !== "firing" || Boolean(alert.acked_by));
    attribute(row.element, "data-acked", alert.acked_by ? "" : null);
    return row.element;
  }

  make(alert) {
    const mark = make("span.mark");
    const title = make("strong");
    const detailed = make("span.detail");
    const more = make("span.detail");
    const button = make("button", "Acknowledge");
    button.type = "button";
    const words = make("div.words", title, detailed, more);
    if (alert.chart) words.append(this.chart(alert));
    const element = make("li.alert", mark, words, button);
    element.dataset.alert = alert.id;
    if (this.highlight && alert.id === this.highlight) {
      element.classList.add("highlight");
      requestAnimationFrame(() => element.scrollIntoView({ block: "center" }));
    }
    const row = { element, mark, title, detail: detailed, more, button, alert };
    button.addEventListener("click", () => this.actions.acknowledge(row.alert));
    return row;
  }

  /* What the rule looks at, with its threshold, from before the alert on. */
  chart(alert) {
    const link = make("a.chart-link", "Chart");
    link.href = alert.chart;
    attribute(link, "aria-label", `Chart of ${alert.name}`);
    return link;
  }

  ended(key, alert) {
    let row = this.rows.get(key);
    if (!row) {
      const lasted = alert.fired ? `, ${span((alert.t - alert.fired) / 1000)}` : "";
      const words = make("div.words", make("strong", alert.name), make("span.detail", `resolved ${clock(alert.t)}${lasted}`));
      const mark = make("span.mark.mark-resolved");
      row = { element: make("li.alert.ended", mark, words) };
      this.rows.set(key, row);
    }
    return row.element;
  }
}

const MEETS = { ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b, "==": (a, b) => a === b, "!=": (a, b) => a !== b };

/* The comparison that makes it fire; where the value is back on the good side, that it is still held. */
function limit(alert) {
  const [operator, threshold] = alert.comparison.split(" ");
  const meets = MEETS[operator];
  return meets && !meets(alert.value, Number(threshold)) ? `${alert.limit} no longer; held until it stays so` : alert.limit;
}

function detail(alert, now) {
  const parts = [];
  if (alert.value !== null) parts.push(`${alert.shown}${alert.limit ? ` (${limit(alert)})` : ""}`);
  parts.push(`${alert.state === "pending" ? "pending for" : "for"} ${span((now - (alert.fired || alert.since)) / 1000)}`);
  if (alert.acked_by) parts.push(`acknowledged by ${alert.acked_by}${alert.comment ? `: ${alert.comment}` : ""}`);
  if (alert.untold) parts.push(`nobody is told: ${alert.untold}`);
  if (alert.sender) parts.push(`sent by ${alert.sender}`);
  return parts.join(" · ");
}

function explain(alert) {
  const labels = Object.entries(alert.labels).map(([name, value]) => `${name}=${value}`);
  return [alert.name, alert.severity, alert.description, labels.join(", "), `since ${clock(alert.since)} UTC`].filter(Boolean).join(" · ");
}
