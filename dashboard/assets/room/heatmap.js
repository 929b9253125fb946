/* Heatmap: one stage's latencies over a window: time, logarithmic latency, share of the column. Stage and window stand in the address. */

import { attribute, byId, hidden, text, variable } from "../live/dom.js";
import { Poll } from "../live/poll.js";

const EVERY_MS = 5000;
const SLOWEST_MS = 60000;
const WORDS = ["100 ns", "1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"];

export class Heatmap {
  constructor(panel) {
    this.panel = panel;
    this.graph = byId("heat-graph");
    this.config = { ...JSON.parse(this.graph.dataset.config), doubleClick: false };
    this.stage = pressed(panel, "stage");
    this.range = pressed(panel, "window");
    for (const button of panel.querySelectorAll("[data-stage], [data-window]")) button.addEventListener("click", () => this.choose(button));
    this.poll = new Poll(
      () => `/api/desk/latency/heatmap?${new URLSearchParams({ stage: this.stage, range: this.range })}`,
      (body) => this.take(body),
      () => this.fail(),
    );
    this.redraw = () => this.answer && this.draw();
    this.theme = new MutationObserver(this.redraw);
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.scheme = window.matchMedia("(prefers-color-scheme: light)");
    this.scheme.addEventListener("change", this.redraw);
    this.ask();
  }

  close() {
    this.closed = true;
    this.poll.close();
    this.theme.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    if (window.Plotly && this.graph.data) window.Plotly.purge(this.graph);
  }

  choose(button) {
    const kind = button.dataset.stage ? "stage" : "window";
    for (const one of this.panel.querySelectorAll(`[data-${kind}]`)) attribute(one, "aria-pressed", String(one === button));
    this.stage = pressed(this.panel, "stage");
    this.range = pressed(this.panel, "window");
    const search = new URLSearchParams({ stage: this.stage, range: this.range });
    history.replaceState(history.state, "", `${location.pathname}?${search}`);
    this.ask();
  }

  ask() {
    attribute(this.panel, "aria-busy", "true");
    this.poll.ask();
  }

  /* The page says by itself that the console does not answer; what was drawn last stays. */
  fail() {
    attribute(this.panel, "aria-busy", null);
    if (!this.answer) this.say("The console does not answer.");
    return EVERY_MS;
  }

  async take(body) {
    attribute(this.panel, "aria-busy", null);
    if (body.error) {
      this.say(`Cannot be read now: ${body.error}.`);
      return EVERY_MS;
    }
    this.answer = body;
    await this.draw();
    return Math.min(Math.max(1000 * body.step_s, EVERY_MS), SLOWEST_MS);
  }

  say(words) {
    hidden(this.graph, true);
    hidden(byId("heat-nothing"), false);
    text(byId("heat-nothing"), words);
  }

  async draw() {
    const { answer } = this;
    text(byId("heat-note"), `${answer.words} · columns of ${answer.step_s} s; lines: p50 and p99 of the minute before`);
    if (!(answer.recorded > 0)) {
      this.say(`${answer.title}: nothing was recorded in the last ${answer.range}.`);
      return;
    }
    hidden(byId("heat-nothing"), true);
    hidden(this.graph, false);
    while (!window.Plotly) await new Promise((done) => setTimeout(done, 20));
    if (this.closed || answer !== this.answer) return;
    const colour = Object.fromEntries(["panel", "raised", "line", "text", "muted", "faint-line", "strong-line", "info"].map((name) => [name, variable(name)]));
    await window.Plotly.react(this.graph, traces(answer, colour), layout(answer, colour, this.graph.clientWidth < 560), this.config);
    attribute(this.graph, "aria-label", `${answer.title} over the last ${answer.range}: ${Math.round(answer.recorded)} recorded${answer.limit_words ? `; limit: ${answer.limit_words}` : ""}`);
  }
}

function pressed(panel, kind) {
  return panel.querySelector(`[data-${kind}][aria-pressed="true"]`).dataset[kind];
}

function traces(answer, colour) {
  const middle = answer.t.slice(0, -1).map((t, i) => (t + answer.t[i + 1]) / 2);
  // A share of one in a thousand must still be seen: the colour goes with its logarithm.
  const z = answer.share.map((row) => row.map((share) => (share === null ? null : Math.max(Math.log10(share), -4))));
  const words = answer.share.map((row) => row.map((share, i) => (share === null ? "" : `${(100 * share).toPrecision(3)} % of ${Math.round(answer.counts[i])}`)));
  const heat = {
    type: "heatmap", x: answer.t, y: answer.edges, z, text: words, zmin: -4, zmax: 0, showscale: false, hoverongaps: false, xgap: 0, ygap: 1,
    colorscale: [[0, colour.raised], [0.45, colour["faint-line"]], [1, colour.text]],
    hovertemplate: "%{x|%H:%M:%S}, %{y:.3s}s<br>%{text}<extra></extra>",
  };
  const lines = answer.lines.map((line) => ({
    type: "scatter", mode: "lines", x: middle, y: line.values, name: line.name, showlegend: false, connectgaps: false,
    line: { color: colour.info, width: line.name === "p99" ? 2 : 1.4, dash: line.name === "p99" ? "solid" : "dot" }, hoverinfo: "skip",
  }));
  return [heat, ...lines];
}

function layout(answer, colour, isNarrow) {
  const shapes = [];
  const annotations = [];
  if (answer.limit !== null) {
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: answer.limit, y1: answer.limit, line: { color: colour.text, width: 1, dash: "dash" } });
    annotations.push({ xref: "paper", x: 0.004, y: Math.log10(answer.limit), text: escaped(answer.limit_words), showarrow: false, xanchor: "left", yanchor: "bottom", font: { size: 11, color: colour.text }, bgcolor: colour.panel });
  }
  const [low, high] = extent(answer);
  let before = null; // labels that would touch are pushed apart
  for (const line of [...answer.lines].sort((a, b) => a.name.localeCompare(b.name))) {
    const last = line.values.filter((value) => value !== null).pop();
    if (!last) continue;
    const touches = before !== null && Math.abs(Math.log10(last) - before) < (high - low) * 0.05;
    before = Math.log10(last);
    annotations.push({ xref: "paper", x: 1, y: before, yshift: touches ? -12 : 0, text: line.name, showarrow: false, xanchor: "left", xshift: 3, font: { size: 11, color: colour.info } });
  }
  return {
    autosize: true,
    margin: { l: 58, r: 36, t: 8, b: 26 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "inherit", size: 11, color: colour.muted },
    hoverlabel: { bgcolor: colour.raised, bordercolor: colour.line, font: { color: colour.text } },
    dragmode: false,
    shapes,
    annotations,
    xaxis: { type: "date", range: [answer.t[0], answer.t[answer.t.length - 1]], fixedrange: true, showgrid: false, zeroline: false, nticks: isNarrow ? 4 : 9, tickformat: answer.range === "7d" ? "%d.%m. %H:%M" : "%H:%M", linecolor: colour.line },
    yaxis: { type: "log", range: [low, high], fixedrange: true, gridcolor: colour.line, zeroline: false, tickvals: WORDS.map((_, i) => 10 ** (i - 7)), ticktext: WORDS },
  };
}

/* The axis shows the rows with something in them and the limit, and no more. */
function extent(answer) {
  const used = answer.share.map((row, i) => (row.some((share) => share !== null) ? i : -1)).filter((i) => i >= 0);
  let low = answer.edges[used[0]];
  let high = answer.edges[used[used.length - 1] + 1];
  if (answer.limit !== null) {
    low = Math.min(low, answer.limit / 1.5);
    high = Math.max(high, answer.limit * 1.5);
  }
  return [Math.log10(low), Math.log10(high)];
}

function escaped(words) {
  return words.replace(/[<>&]/g, (sign) => ({ "<": "&lt;", ">": "&gt;", "&": "&amp;" })[sign]);
}
