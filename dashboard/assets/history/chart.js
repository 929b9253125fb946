/* Chart: draws the figure that the server made, in the theme's colours, and tells what was dragged open. */

import { attribute, hidden, variable } from "../live/dom.js";

const KEY_STEPS = { ArrowLeft: "earlier", ArrowRight: "later", "+": "in", "=": "in", "-": "out" };

export class Chart {
  /* on: {span(start, end), move(word), drawn(left, width)} */
  constructor(element, on) {
    this.element = element;
    this.on = on;
    this.config = { ...JSON.parse(element.dataset.config), doubleClick: false };
    this.figure = null;
    this.lines = [];
    this.off = new Set(); // traces switched off in the legend, by name
    this.drawing = false;
    element.addEventListener("keydown", (event) => {
      const word = KEY_STEPS[event.key];
      if (!word || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.on.move(word);
    });
  }

  close() {
    if (window.Plotly && this.element.data) window.Plotly.purge(this.element);
  }

  show(figure, lines) {
    this.figure = figure;
    this.lines = lines;
    return this.draw();
  }

  /* Times of instants that get a dotted line, behind the data. */
  shapes() {
    const colour = variable("muted");
    return this.lines.map((t) => ({ type: "line", layer: "below", x0: t, x1: t, yref: "paper", y0: 0, y1: 1, line: { color: colour, width: 1, dash: "dot" } }));
  }

  async draw() {
    if (!this.figure || !window.Plotly) return;
    const figure = themed(this.figure);
    for (const trace of figure.data) trace.visible = !this.off.has(trace.name);
    const isTouch = window.matchMedia("(pointer: coarse)").matches;
    const isNarrow = this.element.clientWidth < 560;
    if (isNarrow) Object.assign(figure.layout.margin, { l: 44, r: figure.layout.yaxis2 ? 44 : 8 });
    figure.layout.shapes = [...(figure.layout.shapes || []), ...this.shapes()];
    figure.layout.xaxis.nticks = isNarrow ? 4 : 9;
    // A finger that scrolls the page must not zoom.
    figure.layout.dragmode = isTouch ? false : "zoom";
    const isFirst = !this.element.data;
    await window.Plotly.react(this.element, figure.data, figure.layout, this.config);
    if (isFirst) this.listen();
    this.placed();
  }

  listen() {
    this.element.on("plotly_relayout", (change) => {
      const start = change["xaxis.range[0]"];
      const end = change["xaxis.range[1]"];
      if (start !== undefined && end !== undefined) this.on.span(instant(start), instant(end));
    });
    this.element.on("plotly_doubleclick", () => this.on.move("out"));
    this.element.on("plotly_afterplot", () => this.placed());
  }

  /* Where the data's area lies within the element, for what is drawn around it. */
  placed() {
    const layout = this.element._fullLayout;
    if (layout && layout._size) this.on.drawn(layout._size.l, layout._size.w);
  }

  toggle(name) {
    if (this.off.has(name)) this.off.delete(name);
    else this.off.add(name);
    return this.draw();
  }

  empty(isEmpty) {
    hidden(this.element, isEmpty);
  }

  describe(words) {
    attribute(this.element, "aria-label", words);
  }
}

/* Plotly tells an edge as "2026-11-23 10:00:00.123", UTC, or as a number. */
function instant(edge) {
  if (typeof edge === "number") return edge;
  return Date.parse(`${String(edge).replace(" ", "T")}Z`);
}

/* A copy with every var(--name) replaced by the theme's colour; long arrays are shared, not copied. */
function themed(value) {
  if (typeof value === "string") return value.replace(/var\(--([\w-]+)\)/g, (_, name) => variable(name));
  if (Array.isArray(value)) return value.length && typeof value[0] === "object" && value[0] !== null ? value.map(themed) : value;
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, themed(one)]));
  return value;
}
