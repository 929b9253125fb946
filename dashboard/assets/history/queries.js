/* Queries: the rows A, B, C, ...: text with colours under it, completion, and what is wrong with it in place. */

import { attribute, hidden, make } from "../live/dom.js";
import { Completion } from "./completion.js";
import { inks } from "./language.js";
import { LETTERS } from "./state.js";

export class Queries {
  /* on: {run, remove, hide, ask, recent} */
  constructor(place, vocabulary, on) {
    Object.assign(this, { place, vocabulary, on });
    this.rows = [];
    this.active = 0;
  }

  get expressions() {
    return this.rows.map((row) => row.area.value.trim());
  }

  /* Show these queries; a row whose text is the same already keeps its caret. */
  set(expressions, hiddenLetters) {
    const wanted = expressions.length ? expressions : [""];
    while (this.rows.length > wanted.length) this.rows.pop().close();
    wanted.forEach((expression, at) => {
      if (!this.rows[at]) this.rows.push(new Row(at, this));
      this.rows[at].set(expression);
      this.rows[at].hide(hiddenLetters.has(LETTERS[at]));
      this.rows[at].only(wanted.length === 1);
    });
    this.active = Math.min(this.active, this.rows.length - 1);
  }

  add(expression = "") {
    const empty = this.rows.find((row) => !row.area.value.trim());
    const row = empty || new Row(this.rows.length, this);
    if (!empty) this.rows.push(row);
    row.set(expression);
    for (const one of this.rows) one.only(this.rows.length === 1);
    row.area.focus();
    return row;
  }

  /* What the answer says of each: mistakes, why there is nothing, units that found no axis, warnings. */
  tell(parts) {
    const byLetter = new Map(parts.map((part) => [part.letter, part]));
    this.rows.forEach((row, at) => row.tell(byLetter.get(LETTERS[at])));
  }

  repaint() {
    for (const row of this.rows) row.paint();
  }
}

class Row {
  constructor(at, queries) {
    this.letter = LETTERS[at];
    this.at = at;
    this.queries = queries;
    this.problem = null;
    this.past = -1;
    const { letter } = this;
    this.ink = make("pre.ink");
    attribute(this.ink, "aria-hidden", "true");
    this.area = make("textarea");
    this.area.id = `h-expr-${letter}`;
    this.area.rows = 1;
    this.area.spellcheck = false;
    this.area.placeholder = at ? "another PromQL query" : "a PromQL query: type a metric's name";
    for (const [name, value] of Object.entries({ autocomplete: "off", autocapitalize: "off", autocorrect: "off", "aria-label": `Query ${letter}`, "aria-describedby": `h-said-${letter}` })) attribute(this.area, name, value);
    this.box = make("div.box", this.ink, this.area);
    this.toggle = make("button.letter", letter);
    this.toggle.type = "button";
    this.remove = make("button.plain.remove", "×");
    this.remove.type = "button";
    attribute(this.remove, "aria-label", `Remove query ${letter}`);
    this.remove.title = `Remove query ${letter}`;
    this.said = make("div.said");
    this.said.id = `h-said-${letter}`;
    attribute(this.said, "aria-live", "polite");
    this.element = make("div.query", this.toggle, this.box, this.remove, this.said);
    this.element.dataset.letter = letter;
    queries.place.append(this.element);
    this.completion = new Completion(this.area, this.box, queries.vocabulary, (place) => this.rect(place), () => this.changed());
    this.bind();
    this.paint();
  }

  bind() {
    const { on } = this.queries;
    this.area.addEventListener("input", () => {
      this.changed();
      this.completion.show();
    });
    this.area.addEventListener("click", () => this.completion.close());
    this.area.addEventListener("focus", () => {
      this.queries.active = this.at;
      this.queries.vocabulary.refresh().then((came) => came && this.queries.repaint());
    });
    this.area.addEventListener("keydown", (event) => {
      if (this.completion.key(event)) return;
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.completion.close();
        on.run();
      } else if (event.key === " " && event.ctrlKey) {
        event.preventDefault();
        this.completion.show(true);
      } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
        event.preventDefault();
        this.recall(event.key === "ArrowUp" ? 1 : -1);
      } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && this.completion.open) this.completion.close();
    });
    this.toggle.addEventListener("click", () => on.hide(this.letter));
    this.remove.addEventListener("click", () => on.remove(this.at));
  }

  /* Alt and an arrow: what was asked before. */
  recall(step) {
    const past = this.queries.on.recent();
    const at = Math.max(-1, Math.min(past.length - 1, this.past + step));
    if (at === this.past) return;
    if (this.past < 0) this.draft = this.area.value;
    this.past = at;
    this.area.value = at < 0 ? this.draft : past[at];
    this.changed();
  }

  close() {
    this.completion.close();
    this.element.remove();
  }

  set(expression) {
    this.past = -1;
    if (this.area.value.trim() === expression) return;
    this.area.value = expression;
    this.changed();
  }

  hide(isHidden) {
    attribute(this.toggle, "aria-pressed", String(!isHidden));
    this.toggle.title = isHidden ? `Show query ${this.letter}` : `Hide query ${this.letter}`;
    attribute(this.toggle, "aria-label", `Query ${this.letter}: ${isHidden ? "hidden" : "shown"}`);
    attribute(this.element, "data-hidden", isHidden ? "" : null);
  }

  only(isOnly) {
    hidden(this.remove, isOnly);
  }

  changed() {
    this.problem = null;
    this.paint();
  }

  /* The text again in colours, under the text that is written in; the place of a mistake is underlined. */
  paint() {
    const value = this.area.value;
    const mark = this.problem && this.problem.start !== null ? this.problem : null;
    const pieces = [];
    for (const token of inks(value, this.queries.vocabulary)) {
      const cuts = mark ? [mark.start, mark.end].filter((cut) => cut > token.start && cut < token.end) : [];
      let from = token.start;
      for (const to of [...cuts, token.end]) {
        const piece = make(`span${token.ink ? `.ink-${token.ink}` : ""}`, value.slice(from, to));
        if (mark && from >= mark.start && to <= mark.end) piece.classList.add("wrong");
        pieces.push(piece);
        from = to;
      }
    }
    // A mistake at the very end still needs a place to be marked at.
    if (mark && mark.start >= value.length) pieces.push(make("span.wrong", " "));
    this.ink.replaceChildren(...pieces, "\n");
  }

  /* Where a character stands on the screen. */
  rect(place) {
    let left = place;
    for (const piece of this.ink.childNodes) {
      const node = piece.nodeType === Node.TEXT_NODE ? piece : piece.firstChild;
      if (node && left <= node.length) {
        const range = document.createRange();
        range.setStart(node, left);
        range.collapse(true);
        const rect = range.getClientRects()[0];
        if (rect) return rect;
      }
      left -= node ? node.length : 0;
    }
    const box = this.area.getBoundingClientRect();
    return { left: box.left, bottom: box.bottom };
  }

  tell(part) {
    const lines = [];
    // An answer to an older text says nothing about what is being written now.
    const isOf = part && part.expression === this.area.value.trim();
    this.problem = isOf && part.problem ? part.problem : null;
    attribute(this.element, "data-wrong", this.problem ? "" : null);
    attribute(this.area, "aria-invalid", this.problem ? "true" : null);
    if (isOf) {
      if (part.problem) lines.push(make("p.problem", place(part.problem, part.expression), part.problem.message));
      if (part.absence) lines.push(this.absence(part.absence));
      if (part.refusal) lines.push(make("p.problem", part.refusal));
      if (part.left_out) lines.push(make("p", `${part.left_out} more series are left out; narrow the labels, or use topk.`));
      for (const words of part.warnings) lines.push(make("p.problem", words));
      for (const words of part.infos) lines.push(make("p", words));
    }
    const words = lines.map((line) => line.textContent).join("\n");
    if (words !== this.told) this.said.replaceChildren(...lines);
    this.told = words;
    this.paint();
  }

  absence(absence) {
    const line = make("p", absence.text);
    const words = absence.text.endsWith("Did you mean") ? " " : absence.similar.length ? " Try " : "";
    if (absence.similar.length) line.append(words);
    absence.similar.forEach((name, i) => {
      const button = make("button.link", name);
      button.type = "button";
      button.addEventListener("click", () => this.replace(absence.meant, name));
      line.append(i ? ", " : "", button);
    });
    if (absence.text.endsWith("Did you mean")) line.append("?");
    if (absence.data_from_ms !== null) {
      const button = make("button.link", "Show that time");
      button.type = "button";
      button.addEventListener("click", () => this.queries.on.span(absence.data_from_ms, absence.data_to_ms));
      line.append(" ", button);
    }
    return line;
  }

  replace(meant, name) {
    this.area.value = this.area.value.replace(meant, () => name);
    this.changed();
    this.queries.on.run();
  }
}

/* "line 2, character 7: " where the place is known. */
function place(problem, expression) {
  if (problem.start === null) return "";
  const before = expression.slice(0, problem.start).split("\n");
  const column = before[before.length - 1].length + 1;
  return before.length > 1 ? `line ${before.length}, character ${column}: ` : `character ${column}: `;
}

