/* Tables: rows of live values by one label (processes, filesystems), and the last fills. */

import { hidden, make, text } from "./dom.js";
import { brief, bytes, number, span } from "./format.js";

const ABSENT_S = 15;

export class RowTable {
  constructor(body) {
    this.body = body;
    this.key = body.dataset.key;
    this.columns = body.dataset.rows.split(",").map((column) => column.split(":"));
    this.absence = body.closest("section").querySelector("[data-rows-absence]");
    this.rows = new Map();
  }

  update(model) {
    const first = model.family(this.columns[0][0]);
    hidden(this.absence, first.length > 0);
    const keys = new Set();
    for (const { series, labels } of first) {
      const key = labels[this.key];
      keys.add(key);
      if (!this.rows.has(key)) this.add(key);
      this.fill(this.rows.get(key), key, model, model.age(series) < ABSENT_S);
    }
    for (const [key, row] of this.rows) {
      if (!keys.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
  }

  add(key) {
    const head = make("th", key);
    head.scope = "row";
    const row = make("tr", head, ...this.columns.map(() => make("td")));
    this.rows.set(key, row);
    this.body.append(row);
  }

  fill(row, key, model, alive) {
    row.classList.toggle("gone", !alive);
    this.columns.forEach(([name, kind], i) => {
      const one = model.family(name).find(({ labels }) => labels[this.key] === key);
      const value = one ? model.values.get(one.series) : null;
      text(row.children[i + 1], alive ? written(value, kind, model) : "–");
    });
  }
}

function written(value, kind, model) {
  if (value === null || value === undefined) return "–";
  if (kind === "percent") return `${number(value * 100, 1)} %`;
  if (kind === "bytes") return bytes(value);
  if (kind === "since") return span(model.now() / 1000 - value);
  return number(value, 0);
}

export class Fills {
  constructor(body) {
    this.body = body;
    this.absence = body.closest("section").querySelector("[data-fills-absence]");
    this.shown = "";
  }

  update(model) {
    const fills = model.state.fills || [];
    const key = JSON.stringify(fills);
    if (key === this.shown) return;
    this.shown = key;
    hidden(this.absence, fills.length > 0);
    this.body.replaceChildren(
      ...fills.map(([t, symbol, side, quantity, price, liquidity]) =>
        make("tr", make("td", new Date(t).toISOString().slice(11, 23)), make("td", symbol), make(`td.${side}`, side), make("td", brief(quantity)), make("td", number(price, price < 10 ? 4 : 2)), make("td", liquidity)),
      ),
    );
  }
}

