/* Model: what the page knows: the newest value of every live series, their recent past, and the words.

The past lies on a grid of steps: `columns(series)` is an array with one value (or null) per step, and
the newest step is overwritten until its time is over. Ages are counted on the browser's monotonic
clock from what the server said the age was: no wall clock is compared with another. */

const RECENT_MS = 20000;
const MOST_RECENT = 2000;
const BRIDGE_MS = 2500;

export class Model {
  constructor() {
    this.layouts = new Map();
    this.values = new Map();
    this.valueAt = new Map();
    this.frameAt = new Map();
    this.state = {};
    this.alerts = { active: [], resolved: [], total: 0 };
    this.grid = null;
    this.past = new Map();
    this.version = 0;
    this.offset = 0;
    this.families = new Map();
    this.recent = [];
  }

  /* The server's wall clock now, ms. */
  now() {
    return performance.now() + this.offset;
  }

  take(message) {
    if (message.now !== undefined) this.offset = message.now - performance.now();
    if (message.k === "snapshot") this.takeSnapshot(message);
    else if (message.k === "tick") this.takeTick(message);
    else if (message.k === "state") this.state = message;
    else if (message.k === "alerts") this.alerts = message;
    else if (message.k === "history") this.takeHistory(message);
  }

  takeSnapshot(message) {
    this.layouts.clear();
    this.takeLayouts(message.layouts);
    for (const row of message.frames) this.takeFrame(row);
    if (message.state.k) this.state = message.state;
    if (message.alerts.k) this.alerts = message.alerts;
  }

  takeTick(message) {
    if (message.layouts) this.takeLayouts(message.layouts);
    for (const row of message.f) this.takeFrame(row);
  }

  takeLayouts(layouts) {
    for (const [collector, series] of Object.entries(layouts)) this.layouts.set(collector, series);
    this.families.clear();
  }

  takeFrame([collector, t, ageMs, values]) {
    const series = this.layouts.get(collector);
    if (!series || series.length !== values.length) return;
    const at = performance.now() - ageMs;
    this.frameAt.set(collector, at);
    for (let i = 0; i < series.length; i += 1) {
      this.values.set(series[i], values[i]);
      if (values[i] !== null) this.valueAt.set(series[i], at);
    }
    this.place(series, t, values);
    this.recent.push([series, t, values]);
    while (this.recent[0][1] < t - RECENT_MS || this.recent.length > MOST_RECENT) this.recent.shift();
    this.version += 1;
  }

  /* Write one frame's values into the grid's column of its time. */
  place(series, t, values) {
    const column = this.columnOf(t);
    if (column < 0) return;
    for (let i = 0; i < series.length; i += 1) {
      const past = this.past.get(series[i]);
      if (past) past[column] = values[i];
      else this.past.set(series[i], this.emptyWith(column, values[i]));
    }
  }

  emptyWith(column, value) {
    const past = new Array(this.grid.n).fill(null);
    past[column] = value;
    return past;
  }

  /* The grid's column of a time, moving the grid on where the time is beyond its end; -1 where it is before. */
  columnOf(t) {
    const grid = this.grid;
    if (!grid) return -1;
    let column = Math.floor((t - grid.t0) / grid.step);
    const beyond = column - (grid.n - 1);
    if (beyond > grid.n) return -1;
    if (beyond > 0) {
      for (const past of this.past.values()) {
        past.splice(0, beyond);
        for (let i = 0; i < beyond; i += 1) past.push(null);
      }
      grid.t0 += beyond * grid.step;
      grid.times = null;
      column -= beyond;
    }
    return column;
  }

  takeHistory(message) {
    if (message.error) return;
    this.grid = { t0: message.t0, step: message.step, n: message.n, range: message.range, times: null };
    this.past = new Map(Object.entries(message.series));
    this.version += 1;
    // What arrived while the history was under way is in nobody's answer: put it in its place.
    const end = message.t0 + (message.n - 1) * message.step;
    for (const [series, t, values] of this.recent) if (t >= end) this.place(series, t, values);
  }

  /* The times of the grid's columns, ms. */
  times() {
    const grid = this.grid;
    if (!grid) return [];
    if (!grid.times) {
      grid.times = new Array(grid.n);
      for (let i = 0; i < grid.n; i += 1) grid.times[i] = grid.t0 + i * grid.step;
    }
    return grid.times;
  }

  columns(series) {
    return this.past.get(series) || null;
  }

  /* The columns for drawing: a second or two without a sample is jitter, not a gap, and is bridged. */
  bridged(values) {
    const most = Math.max(Math.round(BRIDGE_MS / this.grid.step), 1);
    let before = -1;
    let out = values;
    for (let i = 0; i < values.length; i += 1) {
      if (values[i] === null) continue;
      if (before >= 0 && i - before > 1 && i - before - 1 <= most) {
        if (out === values) out = values.slice();
        for (let k = before + 1; k < i; k += 1) out[k] = values[before];
      }
      before = i;
    }
    return out;
  }

  /* Increase per second of a counter, per column; a counter that fell began anew. */
  rates(series) {
    const past = this.past.get(series);
    if (!past) return null;
    const out = new Array(past.length).fill(null);
    let before = -1;
    for (let i = 0; i < past.length; i += 1) {
      if (past[i] === null) continue;
      if (before >= 0 && past[i] >= past[before] && i - before <= 5) {
        out[i] = (past[i] - past[before]) / (((i - before) * this.grid.step) / 1000);
      }
      before = i;
    }
    return out;
  }

  /* Every live series of a metric as {series, labels}; `where` keeps those whose labels have these values. */
  family(name, where = null) {
    const key = name + JSON.stringify(where);
    if (!this.families.has(key)) {
      const found = [];
      for (const layout of this.layouts.values()) {
        for (const series of layout) {
          if (series !== name && !series.startsWith(`${name}{`)) continue;
          const labels = labelsOf(series);
          if (!where || Object.entries(where).every(([label, value]) => labels[label] === value)) found.push({ series, labels });
        }
      }
      this.families.set(key, found);
    }
    return this.families.get(key);
  }

  /* Seconds since a series last had a value; Infinity where it never had one. */
  age(series) {
    const at = this.valueAt.get(series);
    return at === undefined ? Infinity : (performance.now() - at) / 1000;
  }
}

const labelPattern = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

export function labelsOf(series) {
  const labels = {};
  for (const [, name, value] of series.matchAll(labelPattern)) {
    labels[name] = value.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
  }
  return labels;
}
