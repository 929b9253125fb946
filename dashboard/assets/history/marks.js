/* Marks: what happened, on a strip above the chart, so that no datum is covered: alerts as bars in their tier's colour, the rest as small signs. */

import { attribute, hidden, make } from "../live/dom.js";
import { lasting, utc } from "./format.js";

const LANE_PX = 13;
const MOST_LANES = 4;
const NEAR_PX = 11;
const LEAST_PX = 12;

export class Marks {
  constructor(strip, chips, tip, onToggle) {
    Object.assign(this, { strip, chips, tip, onToggle });
    this.data = null;
    this.left = 0;
    this.width = 0;
    strip.addEventListener("pointerover", (event) => this.hint(event.target.closest(".happened")));
    strip.addEventListener("pointerout", () => this.hint(null));
    strip.addEventListener("focusin", (event) => this.hint(event.target.closest(".happened")));
    strip.addEventListener("focusout", () => this.hint(null));
  }

  show(answer, without) {
    this.data = answer;
    this.kinds(answer, without);
    this.draw();
  }

  /* Without a chart there is nothing to lie above. */
  empty(isEmpty) {
    this.isEmpty = isEmpty;
  }

  /* Times of the instants that get a line in the chart. */
  lines(answer) {
    return answer.marks.filter((mark) => !mark.span).map((mark) => mark.t);
  }

  kinds(answer, without) {
    const present = new Set(answer.marks.map((mark) => mark.kind));
    const shown = Object.entries(answer.kinds).filter(([kind]) => kind !== "other" || present.has(kind) || without.has(kind));
    const key = JSON.stringify([shown, [...without], answer.marks_left_out]);
    if (key === this.key) return;
    this.key = key;
    const buttons = shown.map(([kind, words]) => {
      const button = make("button.chip", make(`i.sign.sign-${kind}`), words);
      button.type = "button";
      attribute(button, "aria-pressed", String(!without.has(kind)));
      button.title = without.has(kind) ? `Show: ${words}` : `Hide: ${words}`;
      button.addEventListener("click", () => this.onToggle(kind));
      return button;
    });
    this.chips.replaceChildren(...buttons, ...(answer.marks_left_out ? [make("span.note", `${answer.marks_left_out} older ones left out`)] : []));
  }

  place(left, width) {
    if (left === this.left && width === this.width) return;
    this.left = left;
    this.width = width;
    this.draw();
  }

  draw() {
    if (!this.data || !this.width) return;
    const { start, end, marks } = this.data;
    const at = (t) => ((Math.min(Math.max(t, start), end) - start) / (end - start)) * this.width;
    const spans = marks.filter((mark) => mark.span).map((mark) => ({ marks: [mark], x: at(mark.t), to: Math.max(at(mark.end ?? end), at(mark.t) + LEAST_PX) }));
    const points = [];
    for (const mark of marks.filter((one) => !one.span)) {
      const x = at(mark.t);
      const last = points[points.length - 1];
      if (last && x - last.x < NEAR_PX) last.marks.push(mark);
      else points.push({ marks: [mark], x, to: x + NEAR_PX });
    }
    // Instants have the first lane to themselves.
    const lanes = points.length ? [Infinity] : [];
    const placed = points.map((one) => this.element(one, 0));
    for (const one of spans.sort((a, b) => a.x - b.x)) {
      let lane = lanes.findIndex((until) => until <= one.x);
      if (lane < 0) lane = lanes.length < MOST_LANES ? lanes.length : MOST_LANES - 1;
      lanes[lane] = Math.max(lanes[lane] ?? 0, one.to + 2);
      placed.push(this.element(one, lane));
    }
    this.strip.style.height = `${Math.max(lanes.length, 1) * LANE_PX}px`;
    hidden(this.strip, !marks.length || this.isEmpty);
    this.strip.replaceChildren(...placed);
  }

  element(one, lane) {
    const [first] = one.marks;
    const element = make(first.href ? "a.happened" : "button.happened");
    if (first.href) element.href = first.href;
    else element.type = "button";
    const words = one.marks.map(told).join("; ");
    attribute(element, "aria-label", words);
    element.words = one.marks.map(told);
    element.style.top = `${lane * LANE_PX}px`;
    if (first.span) {
      element.style.left = `${this.left + one.x}px`;
      element.style.width = `${one.to - one.x}px`;
      element.classList.add("lasting");
      if (first.severity) element.dataset.severity = first.severity;
      element.append(make(`i.mark${first.severity ? `.mark-${first.severity}` : ""}`));
      if (first.end === null || first.end === undefined) element.dataset.open = "";
    } else {
      element.style.left = `${this.left + one.x - 6}px`;
      element.append(make(`i.sign.sign-${first.kind}`));
      if (one.marks.length > 1) element.append(make("span.many", String(one.marks.length)));
    }
    return element;
  }

  hint(element) {
    if (!element) {
      hidden(this.tip, true);
      return;
    }
    this.tip.replaceChildren(...element.words.slice(0, 12).map((words) => make("p", words)));
    if (element.words.length > 12) this.tip.append(make("p", `and ${element.words.length - 12} more`));
    hidden(this.tip, false);
    const rect = element.getBoundingClientRect();
    const left = Math.max(8, Math.min(rect.left, document.documentElement.clientWidth - this.tip.offsetWidth - 8));
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${rect.bottom + 6}px`;
  }
}

/* "09:30:00 UTC  engine restarted", and of a span how long. */
function told(mark) {
  const tier = mark.severity ? `${mark.severity}: ` : "";
  if (!mark.span) return `${utc(mark.t)} UTC · ${mark.text}${mark.detail ? ` (${mark.detail})` : ""}`;
  const length = mark.end === null || mark.end === undefined ? "still going on" : lasting(mark.end - mark.t);
  return `${utc(mark.t)} UTC · ${tier}${mark.text} · ${length}`;
}
