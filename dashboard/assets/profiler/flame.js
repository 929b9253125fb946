/* Flame graph: boxes [name, depth, start, width, own] as SVG, the outermost on top; a click goes into a box. Names are text nodes and never markup. */

import { make } from "../live/dom.js";

const ROW = 20;
const LETTER = 6.6;
const SVG = "http://www.w3.org/2000/svg";

export class Flame {
  constructor(place, path) {
    this.place = place;
    this.path = path;
    this.boxes = [];
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(place);
  }

  close() {
    this.resized.disconnect();
  }

  show(boxes, say) {
    this.boxes = boxes;
    this.say = say;
    this.chosen = boxes[0];
    this.draw();
  }

  choose(box) {
    this.chosen = box;
    this.draw();
  }

  draw() {
    const width = this.place.clientWidth;
    if (!this.chosen || !width) {
      this.place.replaceChildren();
      this.path.replaceChildren();
      return;
    }
    const [, depth, start, whole] = this.chosen;
    const scale = width / whole;
    const inside = (box) => box[2] < start + whole && box[2] + box[3] > start;
    const above = this.boxes.filter((box) => box[1] < depth && inside(box));
    const shown = this.boxes.filter((box) => box[1] >= depth && inside(box) && box[3] * scale >= 1);
    const deepest = Math.max(...shown.map((box) => box[1]));
    const svg = element("svg", { width, height: (deepest - depth + 1) * ROW, role: "img", "aria-label": `Flame graph of ${this.chosen[0]}` });
    svg.append(...shown.map((box) => this.rectangle(box, (box[2] - start) * scale, (box[1] - depth) * ROW, Math.min(box[3] * scale, width))));
    this.place.replaceChildren(svg);
    this.path.replaceChildren(...above.map((box) => {
      const button = make("button", box[0]);
      button.type = "button";
      button.addEventListener("click", () => this.choose(box));
      return button;
    }));
  }

  rectangle(box, x, y, width) {
    const group = element("g", { transform: `translate(${x.toFixed(1)} ${y})`, class: "flame-box" });
    group.append(element("rect", { width: Math.max(width - 1, 0.5).toFixed(1), height: ROW - 1, class: `flame-${hue(box[0])}` }));
    const letters = Math.floor((width - 6) / LETTER);
    if (letters > 2) {
      const words = element("text", { x: 4, y: ROW - 6 });
      words.textContent = box[0].length > letters ? `${box[0].slice(0, letters - 1)}…` : box[0];
      group.append(words);
    }
    const title = element("title", {});
    title.textContent = this.say(box);
    group.append(title);
    group.addEventListener("click", () => this.choose(box));
    return group;
  }
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/* One of four greys by the file's name, so that neighbours can be told apart; colour is for what is abnormal. */
function hue(name) {
  let sum = 0;
  for (const sign of name.split("(").pop()) sum = (sum * 31 + sign.codePointAt(0)) % 4;
  return sum;
}
