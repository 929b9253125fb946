/* Latency: the stages on one logarithmic axis, the slowest orders in their parts, and the heatmap. */

import { attribute, byId, hidden, make, text } from "../live/dom.js";
import { Heatmap } from "./heatmap.js";
import { fill, mark } from "./panels.js";

const LOWEST_S = 128e-9;
const HIGHEST_S = 8.6;
const DECADES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1];

export class LatencyPage {
  constructor(root) {
    this.heatmap = new Heatmap(root.querySelector("#heatmap"));
    this.parts = "";
  }

  close() {
    this.heatmap.close();
  }

  show(body) {
    fill(byId("stages-rows"), body.stages, stageCells);
    text(byId("recorder-cost"), `Recording itself costs ${body.cost.map((one) => `${one.text} for ${one.words}`).join(", ")}, measured when the engine started.`);
    if (this.parts !== body.parts.join()) {
      this.parts = body.parts.join();
      byId("slow-parts").replaceChildren(...body.parts.map((words, i) => make("li", make(`i.part.part-${i}`), words)));
    }
    const most = Math.max(...body.slowest.map((order) => order.total));
    fill(byId("slow-rows"), body.slowest, (order) => slowCells(order, most, body.parts));
    hidden(byId("slow-nothing"), body.slowest.length > 0);
    hidden(byId("slow-rows").parentElement, body.slowest.length === 0);
    hidden(byId("slow-parts"), body.slowest.length === 0);
    text(byId("slow-nothing"), body.said || "No order has been sent in these two minutes.");
  }
}

function stageCells(stage) {
  const head = make("th", make("span", mark(stage.severity), stage.title), make("span.note", stage.words));
  head.scope = "row";
  const labels = ["p50", "p95", "p99", "p99.9", "max, 2 s"];
  return [
    head,
    make("td.track-cell", track(stage)),
    ...stage.texts.map((words, i) => {
      const cell = make("td", words);
      cell.dataset.label = labels[i];
      return cell;
    }),
  ];
}

const at = (seconds) => `${(100 * Math.min(Math.max(Math.log(seconds / LOWEST_S) / Math.log(HIGHEST_S / LOWEST_S), 0), 1)).toFixed(2)}%`;

/* From p50 to p99.9 a bar, p99 a line in it, the longest a point, the limit a dashed line. */
function track(stage) {
  const [p50, , p99, p999, longest] = stage.values;
  const element = make("div.track", ...DECADES.map((one) => placed("i.decade", one)));
  if (p50 !== null) {
    const bar = placed("i.extent", p50);
    bar.style.width = `calc(${at(p999)} - ${at(p50)})`;
    element.append(bar, placed("i.p99", p99));
    if (longest !== null) element.append(placed("i.longest", longest));
  }
  if (stage.limit !== null) element.append(placed("i.limit", stage.limit));
  attribute(element, "role", "img");
  const words = p50 === null ? "nothing recorded in the last minute" : `p50 ${stage.texts[0]}, p99 ${stage.texts[2]}, longest of the last 2 s ${stage.texts[4]}`;
  attribute(element, "aria-label", stage.limit_words ? `${words}; limit: ${stage.limit_words}` : words);
  element.title = element.getAttribute("aria-label");
  return element;
}

function placed(kind, seconds) {
  const element = make(kind);
  element.style.left = at(seconds);
  return element;
}

function slowCells(order, most, names) {
  const head = make("th", order.time);
  head.scope = "row";
  const bar = make("div.stack", ...order.parts.map((seconds, i) => {
    const part = make(`i.part.part-${i}`);
    part.style.width = `${((100 * seconds) / most).toFixed(2)}%`;
    return part;
  }));
  attribute(bar, "role", "img");
  const words = order.texts.map((one, i) => `${names[i]} ${one}`).join(", ");
  attribute(bar, "aria-label", words);
  bar.title = words;
  return [head, make("td", order.order), make("td", order.kind), make("td", order.text), make("td.stack-cell", bar)];
}
