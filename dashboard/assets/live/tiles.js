/* Tiles: the key figures. Text is written only where it changes; the spark is drawn once a second. */

import { attribute, text, variable } from "./dom.js";
import { age, figure, number } from "./format.js";

const SPARK_S = 300;
const SPARK_EVERY_MS = 1000;
export const STALE_S = 3;

export class Tile {
  constructor(element, order) {
    this.element = element;
    this.spec = JSON.parse(element.dataset.kpi);
    const part = (name) => element.querySelector(`[data-${name}]`);
    this.parts = Object.fromEntries(["age", "value", "unit", "spark", "fill", "goal", "change", "why", "mark"].map((name) => [name, part(name)]));
    this.sparkDue = performance.now() + order * 40;
    const goal = this.place(this.spec.target);
    this.parts.goal.style.left = `${goal}%`;
  }

  /* Where a value lies on the bullet bar, in percent. */
  place(value) {
    const { low, high } = this.spec;
    return Math.min(Math.max(((value - low) / (high - low)) * 100, 0), 100);
  }

  update(model, reason) {
    const { spec, parts } = this;
    const raw = model.values.get(spec.series);
    const seconds = model.age(spec.series);
    const known = raw !== null && raw !== undefined;
    const value = known ? raw * spec.scale : null;
    const [shown, unit] = figure(value, spec);
    const verdict = (model.state.kpis || {})[spec.key] || {};
    const stale = !known || seconds > STALE_S;
    text(parts.value, shown);
    text(parts.unit, known ? unit : "");
    text(parts.age, Number.isFinite(seconds) ? age(seconds) : "");
    parts.fill.style.width = `${known ? this.place(value) : 0}%`;
    attribute(this.element, "data-stale", stale ? "" : null);
    attribute(this.element, "data-severity", known && !stale ? verdict.severity || null : null);
    attribute(parts.mark, "class", known && !stale && verdict.severity ? `mark mark-${verdict.severity}` : "mark");
    const why = stale ? absent(seconds, model, spec, reason) : "";
    text(parts.why, why);
    attribute(parts.why, "title", why || null);
  }

  /* Redraw the spark where it is time; true where something was drawn. */
  spark(model, now) {
    if (now < this.sparkDue || !model.grid) return false;
    this.sparkDue = now + SPARK_EVERY_MS;
    const past = model.columns(this.spec.series);
    const points = Math.min(Math.round((SPARK_S * 1000) / model.grid.step), model.grid.n);
    const values = past ? model.bridged(past.slice(past.length - points)) : [];
    draw(this.parts.spark, values, this.element.dataset.severity);
    text(this.parts.change, change(values, this.spec, model.grid.step / 1000));
    return true;
  }
}

/* How much the figure moved over the spark, in words; less time than the spark shows is said as what it is. */
function change(values, spec, stepS) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return "";
  const seconds = (values.length - 1 - values.findIndex((value) => value !== null)) * stepS;
  const span = seconds < 60 ? `${Math.max(Math.round(seconds), 1)} s` : `${Math.round(seconds / 60)} min`;
  const moved = (known[known.length - 1] - known[0]) * spec.scale;
  const text = Math.abs(moved) >= 9999.5 ? `${number(moved / 1000, 1, true)} k` : number(moved, spec.decimals, true);
  return ` · ${text === number(0, spec.decimals) ? `±${text}` : text} in ${span}`;
}

/* Why there is no number: what is known of the process that makes it, and for how long. */
function absent(seconds, model, spec, reason) {
  const why = reason(spec.collector);
  if (!Number.isFinite(seconds)) return why || "no figure yet: nothing happened in its window";
  if (why) return `no data for ${age(seconds)}: ${why}`;
  return model.values.get(spec.series) === null ? `nothing in its window for ${age(seconds)}` : `no data for ${age(seconds)}`;
}

function draw(canvas, values, severity) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return;
  const flat = high - low < Math.max(Math.abs(high), 1e-12) * 1e-6;
  const y = (value) => (flat ? height / 2 : height - 2 - ((value - low) / (high - low)) * (height - 4));
  context.strokeStyle = variable(severity || "strong-line");
  context.lineWidth = 1.2;
  context.lineJoin = "round";
  context.beginPath();
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) {
      pen = false;
      return;
    }
    const x = (i / Math.max(values.length - 1, 1)) * (width - 1);
    if (pen) context.lineTo(x, y(value));
    else context.moveTo(x, y(value));
    pen = true;
  });
  context.stroke();
}
