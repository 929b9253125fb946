/* Risk: the distribution of profit and loss, positions' shares, how VaR settles, and the stress grid. */

import { attribute, byId, hidden, make, text, variable } from "../live/dom.js";
import { brief } from "../live/format.js";
import { fill, states } from "./panels.js";

export class RiskPage {
  constructor(root) {
    this.root = root;
    this.graphs = { loss: new Graph("loss"), settling: new Graph("settling") };
    this.redraw = () => Object.values(this.graphs).forEach((graph) => graph.draw());
    this.theme = new MutationObserver(this.redraw);
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.scheme = window.matchMedia("(prefers-color-scheme: light)");
    this.scheme.addEventListener("change", this.redraw);
  }

  close() {
    this.theme.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    for (const graph of Object.values(this.graphs)) graph.close();
  }

  show(body) {
    states(this.root.querySelector("[data-states]"), body.states);
    this.graphs.loss.show(body.histogram && lossFigure(body.histogram), body.nothing);
    this.graphs.settling.show(body.convergence && settlingFigure(body.convergence), body.nothing);
    this.shares(body);
    this.stress(body);
  }

  shares(body) {
    const total = { name: "Total", shares: body.total, part: null, held: ["", ""] };
    const rows = body.positions.length ? [...body.positions, total] : [];
    fill(byId("shares-rows"), rows, shareCells);
    absent("shares", rows.length > 0, body.nothing || "Nothing is held.");
  }

  stress({ stress, nothing }) {
    absent("stress", stress !== null, nothing);
    if (!stress) return;
    const key = stress.spots.join();
    const heads = byId("stress-heads");
    if (heads.shown !== key) {
      heads.shown = key;
      heads.replaceChildren(...["Volatility", ...stress.spots].map((words) => {
        const head = make("th", words);
        head.scope = "col";
        return head;
      }));
    }
    fill(byId("stress-rows"), stress.rows, stressCells);
  }
}

function absent(name, has, words) {
  hidden(byId(`${name}-rows`).parentElement, !has);
  hidden(byId(`${name}-nothing`), has);
  text(byId(`${name}-nothing`), words);
}

function shareCells(row) {
  const head = make("th", row.name);
  head.scope = "row";
  const track = make("div.share-track");
  if (row.part !== null) {
    const bar = make(row.part < 0 ? "i.less" : "i.more");
    bar.style.width = `${(50 * Math.abs(row.part)).toFixed(2)}%`;
    track.append(make("i.zero"), bar);
  }
  attribute(track, "aria-hidden", "true");
  const cells = (words) => words.map((one) => make("td", one));
  return [head, ...cells(row.shares), make("td.share-cell", row.part === null ? null : track), ...cells(row.held)];
}

function stressCells(row) {
  const head = make("th", row.name);
  head.scope = "row";
  return [head, ...row.cells.map((cell) => {
    const element = make(cell.weight < 0 ? "td.less" : "td.more", cell.text);
    element.style.setProperty("--weight", `${Math.round(45 * Math.sqrt(Math.abs(cell.weight)))}%`);
    return element;
  })];
}

/* A graph that is drawn anew only where its figure has changed, or the theme. */
class Graph {
  constructor(name) {
    this.name = name;
    this.place = byId(`${name}-graph`);
    this.config = JSON.parse(this.place.dataset.config);
    this.figure = null;
    this.drawn = "";
    this.resized = new ResizeObserver(() => {
      if (this.place.data && !this.place.hidden) window.Plotly.Plots.resize(this.place);
    });
    this.resized.observe(this.place);
  }

  close() {
    this.closed = true;
    this.resized.disconnect();
    if (window.Plotly && this.place.data) window.Plotly.purge(this.place);
  }

  show(figure, words) {
    hidden(this.place, !figure);
    hidden(byId(`${this.name}-nothing`), Boolean(figure));
    text(byId(`${this.name}-nothing`), words);
    const key = JSON.stringify(figure && figure.key);
    if (!figure || key === this.drawn) return;
    this.drawn = key;
    this.figure = figure;
    attribute(this.place, "aria-label", figure.words);
    this.draw();
  }

  async draw() {
    const { figure } = this;
    if (!figure) return;
    while (!window.Plotly) await new Promise((done) => setTimeout(done, 20));
    if (this.closed || figure !== this.figure || this.place.hidden) return;
    const colour = Object.fromEntries(["panel", "raised", "line", "text", "muted", "faint-line", "soft-line", "strong-line", "band", "info", "critical"].map((name) => [name, variable(name)]));
    const { traces, shapes, annotations, xaxis, yaxis } = figure.make(colour);
    const axis = { fixedrange: true, zeroline: false, gridcolor: colour.line, linecolor: colour.line };
    window.Plotly.react(this.place, traces, {
      autosize: true,
      margin: { l: 52, r: 14, t: 22, b: 34 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "inherit", size: 11, color: colour.muted },
      hoverlabel: { bgcolor: colour.raised, bordercolor: colour.line, font: { color: colour.text } },
      dragmode: false, showlegend: false, bargap: 0.06, shapes, annotations,
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis },
    }, this.config);
  }
}

function lossFigure(answer) {
  const middle = answer.low.map((low, i) => (low + answer.high[i]) / 2);
  const marks = [["VaR", -answer.var], ["ES", -answer.shortfall]];
  return {
    key: answer,
    words: `Profit and loss from ${brief(answer.low[0])} to ${brief(answer.high[answer.high.length - 1])} USD; VaR ${brief(answer.var)}, ES ${brief(answer.shortfall)}`,
    make: (colour) => ({
      traces: [{
        type: "bar", x: middle, y: answer.share.map((share) => 100 * share), width: answer.high.map((high, i) => (high - answer.low[i]) * 0.94),
        marker: { color: middle.map((x) => (x < -answer.var ? colour.critical : colour["soft-line"])) },
        hovertemplate: "%{x:.3s} USD: %{y:.2f} %<extra></extra>",
      }],
      shapes: marks.map(([, x], i) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x, line: { color: colour.text, width: 1.4, dash: i ? "dot" : "dash" } })),
      // Both lie close together: one label stands left of its line, the other right of it.
      annotations: marks.map(([name, x], i) => ({ yref: "paper", y: 1, x, yanchor: "bottom", text: `${name} ${brief(-x)}`, showarrow: false, xanchor: (x < marks[1 - i][1]) ? "right" : "left", font: { size: 11, color: colour.text } })),
      xaxis: { title: { text: "USD", standoff: 4 }, nticks: 7 },
      yaxis: { ticksuffix: " %", rangemode: "tozero", nticks: 5 },
    }),
  };
}

function settlingFigure(answer) {
  const shifted = (sign) => answer.var.map((var_, i) => var_ + sign * 2 * answer.error[i]);
  const last = answer.var.length - 1;
  return {
    key: answer,
    words: `VaR of the first n scenarios: ${brief(answer.var[0])} after ${answer.scenarios[0]}, ${brief(answer.var[last])} after ${answer.scenarios[last]}; the figure is ${brief(answer.figure)}`,
    make: (colour) => ({
      traces: [
        { type: "scatter", mode: "lines", x: [...answer.scenarios, ...[...answer.scenarios].reverse()], y: [...shifted(1), ...shifted(-1).reverse()], fill: "toself", fillcolor: colour.band, line: { width: 0 }, hoverinfo: "skip" },
        { type: "scatter", mode: "lines", x: answer.scenarios, y: answer.var, line: { color: colour["strong-line"], width: 1.5 }, hovertemplate: "%{x:,.0f}: %{y:,.0f} USD<extra></extra>" },
      ],
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: answer.figure, y1: answer.figure, line: { color: colour.info, width: 1.2, dash: "dash" } }],
      annotations: [{ xref: "paper", x: 1, y: 1, yref: "paper", xanchor: "right", yanchor: "bottom", showarrow: false, text: `dashed: the figure, ${brief(answer.figure)} (${answer.draw})`, font: { size: 11, color: colour.info } }],
      xaxis: { type: "log", title: { text: "scenarios", standoff: 4 }, tickformat: "~s", nticks: 6 },
      yaxis: { nticks: 5, tickformat: "~s" },
    }),
  };
}
