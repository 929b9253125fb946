/* State: the question that the address carries. The server reads the same words (dashboard/history/question.py). */

export const LETTERS = "ABCDEFGH";

export class State {
  constructor(more = {}) {
    this.expressions = [];
    this.hidden = new Set();
    this.range = "";
    this.start = "";
    this.end = "";
    this.compare = "";
    this.without = new Set();
    this.follow = false;
    this.lines = [];
    Object.assign(this, more);
  }

  static read(search, usual, preset) {
    const parameters = new URLSearchParams(search);
    const last = (name) => (parameters.getAll(name).pop() || "").trim();
    const expressions = parameters.getAll("expr").map((text) => text.trim());
    while (expressions.length && !expressions[expressions.length - 1]) expressions.pop();
    const start = last("start");
    const end = last("end");
    return new State({
      expressions: expressions.length ? expressions : last("metric") ? [] : [usual],
      metric: expressions.length ? "" : last("metric"),
      labels: last("labels"),
      hidden: new Set([...last("hide").toUpperCase()].filter((letter) => LETTERS.includes(letter))),
      range: start || end ? "" : last("range") || preset,
      start,
      end,
      compare: last("compare"),
      without: new Set(last("without").split(",").filter(Boolean)),
      follow: last("follow") === "1" && !end,
      lines: parameters.getAll("line").filter(Boolean),
    });
  }

  search() {
    const parameters = new URLSearchParams();
    for (const text of this.expressions) parameters.append("expr", text);
    if (!this.expressions.length && this.metric) {
      parameters.set("metric", this.metric);
      if (this.labels) parameters.set("labels", this.labels);
    }
    const pairs = {
      range: this.start || this.end ? "" : this.range,
      start: this.start,
      end: this.end,
      hide: [...this.hidden].sort().join(""),
      compare: this.compare,
      without: [...this.without].sort().join(","),
      follow: this.follow ? "1" : "",
    };
    for (const [name, value] of Object.entries(pairs)) if (value) parameters.set(name, value);
    for (const level of this.lines) parameters.append("line", level);
    return `?${parameters}`;
  }

  with(more) {
    return new State({ ...this, ...more });
  }

  /* Without one query: the letters after it move up, and what is hidden moves with them. */
  removed(index) {
    const hidden = new Set();
    for (const letter of this.hidden) {
      const at = LETTERS.indexOf(letter);
      if (at !== index) hidden.add(LETTERS[at > index ? at - 1 : at]);
    }
    return this.with({ expressions: this.expressions.filter((_, at) => at !== index), hidden });
  }
}
