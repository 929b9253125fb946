/* Charts: live Plotly charts, one redrawn per animation frame, each no more often than its pixels move. */

import { attribute, hidden, text, variable } from "./dom.js";
import { brief } from "./format.js";

const FASTEST_MS = 250;
const SLOWEST_MS = 1000;
const LABEL_PX = 13;
const MOST_LABELS = 6;
const MOST_NOTES = 6;
const FAR = 8;

export class Chart {
  constructor(panel) {
    this.panel = panel;
    this.plot = panel.querySelector("[data-chart]");
    this.absence = panel.querySelector("[data-absence]");
    this.spec = JSON.parse(this.plot.dataset.chart);
    this.config = { ...JSON.parse(this.plot.dataset.config), staticPlot: false };
    this.drawn = -1;
    this.due = 0;
    this.high = null;
    this.seen = true;
    this.observer = new IntersectionObserver((entries) => {
      this.seen = entries[entries.length - 1].isIntersecting;
    }, { rootMargin: "200px" });
    this.observer.observe(panel);
    // A neighbour that fills or empties changes the row's height, and no new data need come after it.
    this.resized = new ResizeObserver(() => Object.assign(this, { drawn: -1, due: 0 }));
    this.resized.observe(this.plot);
  }

  close() {
    this.observer.disconnect();
    this.resized.disconnect();
    if (window.Plotly && this.plot.data) window.Plotly.purge(this.plot);
  }

  /* True where drawing would show something new. */
  wants(model, now) {
    return this.seen && model.grid && now >= this.due && model.version !== this.drawn;
  }

  draw(model, now) {
    this.drawn = model.version;
    const width = Math.max(this.plot.clientWidth, 100);
    this.due = now + Math.min(Math.max((model.grid.range * 1000) / width, FASTEST_MS), SLOWEST_MS);
    const lines = this.lines(model);
    const has = lines.some((line) => line.values.some((value) => value !== null));
    this.say(has, model);
    if (!has) return;
    const colours = palette();
    const end = model.now();
    const layout = this.layout(model, lines, colours, end);
    window.Plotly.react(this.plot, this.traces(model, lines, colours), layout, this.config);
  }

  say(has, model) {
    hidden(this.absence, has);
    hidden(this.plot, !has);
    if (has) return;
    const kind = this.absence.dataset.absence;
    text(this.absence, kind === "gpu" ? gpuWords(model) : this.spec.empty || "No data in this time.");
  }

  /* The lines to draw: {label, values, weight, severity}. */
  lines(model) {
    const out = [];
    for (const line of this.spec.lines) {
      const found = line.family ? model.family(line.series, line.where) : [{ series: line.series, labels: {} }];
      for (const { series, labels } of found) {
        const past = line.rate ? model.rates(series) : model.columns(series);
        const values = past ? model.bridged(past).map((value) => (value === null ? null : value * line.scale)) : [];
        out.push({ label: line.label + (line.family ? labels[line.family] : ""), values, weight: line.weight, series });
      }
    }
    const verdict = (model.state.kpis || {})[this.spec.kpi] || {};
    if (this.spec.watched >= 0 && out[this.spec.watched]) out[this.spec.watched].severity = verdict.severity || null;
    return out;
  }

  traces(model, lines, colours) {
    const x = model.times();
    const traces = [];
    const trace = (values, more) => ({ type: "scatter", mode: "lines", x, y: values, hoverinfo: "skip", showlegend: false, connectgaps: false, ...more });
    const band = (low, high) => ({ ...between(x, low, high), type: "scatter", mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: colours.band, hoverinfo: "skip", showlegend: false });
    if (this.spec.ribbon && lines.length > 1) traces.push(band(lines[0].values, lines[lines.length - 1].values));
    if (this.spec.spread) {
      const [index, series, times] = this.spec.spread;
      const error = model.bridged(model.columns(series) || []);
      const scale = this.spec.lines[index].scale;
      const shift = (sign) => lines[index].values.map((value, i) => (value === null || error[i] == null ? null : value + sign * times * scale * error[i]));
      traces.push(band(shift(-1), shift(1)));
    }
    for (const line of lines) {
      const width = line.weight === "strong" ? 1.5 : line.weight === "soft" ? 1.3 : 1;
      traces.push(trace(line.values, { line: { width, color: colours[line.weight] }, hoverinfo: "x+y+name", name: line.label || this.spec.title }));
      if (line.severity && this.spec.threshold) {
        const limit = this.spec.threshold.value;
        const over = line.values.map((value) => (value !== null && value > limit ? value : null));
        traces.push(trace(over, { line: { width: 1.8, color: colours[line.severity] } }));
      }
    }
    return traces;
  }

  layout(model, lines, colours, end) {
    const top = this.extent(lines);
    const notes = this.notes(model, end, colours);
    const compact = this.spec.compact;
    const shapes = [...notes.shapes];
    const annotations = [...notes.annotations, ...this.labels(lines, top, colours)];
    if (this.spec.threshold) {
      const { value, text: words } = this.spec.threshold;
      const label = { xref: "paper", x: 0.004, showarrow: false, xanchor: "left", font: { size: 11, color: colours.muted } };
      if (top.isFar) {
        annotations.push({ ...label, yref: "paper", y: 1, yanchor: "top", text: `${words}, far above` });
      } else {
        shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: { color: colours.muted, width: 1, dash: "dash" } });
        annotations.push({ ...label, y: value, yanchor: "bottom", text: words });
      }
    }
    return {
      autosize: true,
      margin: { l: 40, r: annotations.some((one) => one.x === 1) ? 62 : 10, t: compact ? 6 : 14, b: 22 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "inherit", size: 11, color: colours.muted },
      hovermode: "x",
      hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, font: { color: colours.text } },
      dragmode: false,
      showlegend: false,
      uirevision: "live",
      shapes,
      annotations,
      xaxis: { type: "date", range: [end - model.grid.range * 1000, end], fixedrange: true, showgrid: false, zeroline: false, nticks: compact ? 3 : 7, tickformat: "%H:%M", ticks: "", linecolor: colours.line, hoverformat: "%H:%M:%S" },
      yaxis: { range: [top.low, top.high], fixedrange: true, gridcolor: colours.line, zeroline: false, nticks: compact ? 4 : 6, ticks: "", hoverformat: ".4~g", exponentformat: "SI" },
    };
  }

  /* The axis: round ends, and no shrinking before the data need less than two thirds of it. A threshold so far above
     that the data would be a line on the floor is told in words instead. */
  extent(lines) {
    let low = this.spec.low ?? Infinity;
    let high = this.spec.high ?? -Infinity;
    for (const line of lines) {
      for (const value of line.values) {
        if (value === null) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    const threshold = this.spec.threshold ? this.spec.threshold.value : -Infinity;
    const isFar = high > 0 && threshold > FAR * high;
    if (!isFar) high = Math.max(high, threshold * 1.06);
    if (!(high > low)) high = low + 1;
    const room = this.spec.high !== undefined && high <= this.spec.high ? this.spec.high : roundUp(low + (high - low) * 1.06);
    if (this.high === null || room > this.high || high - low < (this.high - low) * 0.62) this.high = room;
    return { low, high: Math.max(this.high, high), isFar };
  }

  /* Direct labels at the right end, pushed apart where lines end close together. */
  labels(lines, extent, colours) {
    const named = lines.filter((line) => line.label);
    if (named.length > MOST_LABELS) return [];
    const height = Math.max(this.plot.clientHeight - 36, 40);
    const perPx = (extent.high - extent.low) / height;
    const ends = [];
    for (const line of named) {
      const last = lastOf(line.values);
      if (last !== null) ends.push({ line, y: last });
    }
    ends.sort((a, b) => a.y - b.y);
    let floor = extent.low + 2 * perPx;
    for (const end of ends) {
      end.y = Math.max(end.y, floor);
      floor = end.y + LABEL_PX * perPx;
    }
    let ceiling = extent.high;
    for (const end of ends.reverse()) {
      end.y = Math.min(end.y, ceiling);
      ceiling = end.y - LABEL_PX * perPx;
    }
    return ends.map(({ line, y }) => ({
      xref: "paper",
      x: 1,
      y,
      text: `${line.label.length > 9 ? `${line.label.slice(0, 8)}…` : line.label}`,
      showarrow: false,
      xanchor: "left",
      xshift: 3,
      font: { size: 11, color: line.severity ? colours[line.severity] : colours[line.weight === "strong" ? "strong" : "muted"] },
    }));
  }

  /* What happened, as dotted lines with words. */
  notes(model, end, colours) {
    const shapes = [];
    const annotations = [];
    if (!this.spec.annotations) return { shapes, annotations };
    const start = end - model.grid.range * 1000;
    const shown = (model.state.annotations || []).filter(([t]) => t >= start && t <= end).slice(-MOST_NOTES);
    shown.forEach(([t, words], i) => {
      shapes.push({ type: "line", x0: t, x1: t, yref: "paper", y0: 0, y1: 1, line: { color: colours.info, width: 1, dash: "dot" } });
      const left = (t - start) / (end - start) > 0.75;
      const short = words.length > 44 ? `${words.slice(0, 43)}…` : words;
      annotations.push({ x: t, yref: "paper", y: 1 - 0.09 * (i % 3), text: escapeHtml(short), showarrow: false, xanchor: left ? "right" : "left", yanchor: "top", xshift: left ? -4 : 4, font: { size: 11, color: colours.info } });
    });
    return { shapes, annotations };
  }

  /* What a person who cannot see the chart is told. */
  describe(model) {
    const words = this.lines(model)
      .slice(0, 8)
      .map((line) => `${line.label || "now"} ${brief(lastOf(line.values))}`);
    attribute(this.plot, "aria-label", `${this.spec.title}${this.spec.unit ? `, ${this.spec.unit}` : ""}: ${words.join(", ")}`);
  }
}

let colours = null;

export function forgetColours() {
  colours = null;
}

function palette() {
  if (!colours) {
    colours = { strong: variable("strong-line"), soft: variable("soft-line"), faint: variable("faint-line") };
    for (const name of ["muted", "line", "text", "band", "raised", "info", "warning", "critical", "emergency"]) colours[name] = variable(name);
  }
  return colours;
}

export function gpuWords(model) {
  const none = model.state.gpu;
  if (none === undefined) return "waiting for the GPU collector";
  if (!none) return "The GPU answers, but has sent no figures in this time.";
  const micros = riskMicros(model);
  const runs = micros === null ? "Monte-Carlo runs on the" : `Monte-Carlo runs on the ${model.state.risk_device}: ${brief(micros)} µs per 1,000 scenarios.`;
  return `${none.charAt(0).toUpperCase()}${none.slice(1).replace(/\.$/, "")}. ${micros === null ? `${runs} ${model.state.risk_device}.` : runs}`;
}

/* Measured microseconds per thousand scenarios over the last steps: growth of the sum over growth of the count. */
function riskMicros(model) {
  const sums = model.columns("deskvigil_risk_run_seconds_sum");
  const counts = model.columns("deskvigil_risk_run_seconds_count");
  const scenarios = model.values.get("deskvigil_risk_scenarios");
  if (!sums || !counts || !scenarios) return null;
  const known = [];
  for (let i = sums.length - 1; i >= 0 && known.length < 31; i -= 1) {
    if (sums[i] !== null && counts[i] !== null) known.push(i);
  }
  const last = known[0];
  const first = known.filter((i) => counts[i] <= counts[last] && sums[i] <= sums[last]).pop();
  const runs = counts[last] - counts[first];
  return runs > 0 ? (((sums[last] - sums[first]) / runs) * 1e6 * 1000) / scenarios : null;
}

function lastOf(values) {
  for (let i = values.length - 1; i >= 0; i -= 1) if (values[i] !== null) return values[i];
  return null;
}

/* The area between two lines as closed outlines, one for each stretch where both are known. */
function between(times, low, high) {
  const x = [];
  const y = [];
  let start = -1;
  for (let i = 0; i <= times.length; i += 1) {
    const known = i < times.length && low[i] != null && high[i] != null;
    if (known && start < 0) start = i;
    if (!known && start >= 0) {
      if (x.length) {
        x.push(null);
        y.push(null);
      }
      for (let k = start; k < i; k += 1) x.push(times[k]), y.push(high[k]);
      for (let k = i - 1; k >= start; k -= 1) x.push(times[k]), y.push(low[k]);
      start = -1;
    }
  }
  return { x, y };
}

function roundUp(value) {
  if (value <= 0) return 0;
  const unit = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]) if (step * unit >= value) return step * unit;
  return value;
}

function escapeHtml(words) {
  return words.replace(/[<>&]/g, (sign) => ({ "<": "&lt;", ">": "&gt;", "&": "&amp;" })[sign]);
}
