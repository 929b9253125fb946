/* History: the address says what is asked; controls write the address; the answer is drawn. One question at a time: the next one drops it. */

import { attribute, byId, hidden, make, text } from "../live/dom.js";
import { follow } from "../live/follow.js";
import { Poll } from "../live/poll.js";
import { Chart } from "./chart.js";
import { Explorer } from "./explorer.js";
import { withUnit } from "./format.js";
import { Marks } from "./marks.js";
import { Queries } from "./queries.js";
import { State } from "./state.js";
import { Legend, showStatistics, showValues } from "./tables.js";
import { Views } from "./views.js";
import { Vocabulary } from "./vocabulary.js";

const BUSY_AFTER_MS = 300;
const FOLLOW_MS = [2000, 60000];
const LEAST_SPAN_MS = 5000;

class HistoryPage {
  constructor(root) {
    this.root = root;
    this.usual = root.dataset.usual;
    this.preset = root.dataset.default;
    this.most = Number(root.dataset.most);
    this.answer = null;
    this.vocabulary = new Vocabulary();
    const again = (more) => this.go(this.typed().with(more));
    this.queries = new Queries(byId("h-queries"), this.vocabulary, {
      run: () => this.run(),
      remove: (at) => this.go(this.typed().removed(at)),
      hide: (letter) => again({ hidden: toggled(this.state.hidden, letter) }),
      span: (start, end) => this.span(start, end),
      recent: () => this.views.recent(),
    });
    this.chart = new Chart(byId("h-graph"), {
      span: (start, end) => this.span(start, end),
      move: (word) => this.move(word),
      drawn: (left, width) => this.marks && this.marks.place(left, width),
    });
    this.marks = new Marks(byId("h-marks"), byId("h-kinds"), byId("h-tip"), (kind) => again({ without: toggled(this.state.without, kind) }));
    this.legend = new Legend(byId("h-legend"), this.chart);
    this.explorer = new Explorer(this.vocabulary, (expression, isNew) => this.pick(expression, isNew));
    this.views = new Views(
      { open: (search) => this.go(this.read(search)), search: () => this.typed().search(), ask: (expression) => this.pick(expression, false) },
      (words, isBad) => window.deskvigil && window.deskvigil.actions.toast(words, isBad),
    );
    this.times();
    this.buttons();
    this.load = this.load.bind(this);
    this.poll = new Poll(() => `/api/desk/history${this.state.search()}`, (said, ok) => this.take(said, ok), () => this.fail("The console cannot be reached; the last answer is shown."));
    this.theme = new MutationObserver(() => this.redraw());
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.scheme = window.matchMedia("(prefers-color-scheme: light)");
    this.redraw = this.redraw.bind(this);
    this.scheme.addEventListener("change", this.redraw);
    window.addEventListener("popstate", this.load);
    window.addEventListener("_dashprivate_pushstate", this.load);
    this.load();
  }

  close() {
    this.poll.close();
    clearTimeout(this.busyTimer);
    this.theme.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    window.removeEventListener("popstate", this.load);
    window.removeEventListener("_dashprivate_pushstate", this.load);
    this.chart.close();
  }

  /* --- controls --- */

  times() {
    this.fields = {};
    for (const place of this.root.querySelectorAll("[data-time]")) {
      const input = make("input");
      input.type = "text";
      input.id = `h-${place.dataset.time}`;
      input.autocomplete = "off";
      input.placeholder = place.dataset.time === "start" ? "2026-11-23 09:30:00" : "now";
      place.append(make("label", place.dataset.label, input));
      input.addEventListener("keydown", (event) => event.key === "Enter" && this.run());
      input.addEventListener("change", () => this.run());
      this.fields[place.dataset.time] = input;
    }
  }

  buttons() {
    const click = (id, act) => byId(id).addEventListener("click", act);
    click("h-add", () => this.queries.rows.length < this.most && this.queries.add());
    click("h-run", () => this.run());
    click("h-explore", () => this.explorer.open());
    click("h-views-open", () => this.views.open());
    for (const word of ["earlier", "later", "in", "out"]) click(`h-${word}`, () => this.move(word));
    click("h-follow", () => this.go(this.state.follow ? this.typed().with({ follow: false }) : this.following()));
    for (const button of this.root.querySelectorAll("[data-preset]")) {
      button.addEventListener("click", () => this.go(this.typed().with({ range: button.dataset.preset, start: "", end: "" })));
    }
    for (const button of this.root.querySelectorAll("[data-compare]")) {
      button.addEventListener("click", () => this.go(this.typed().with({ compare: button.dataset.compare })));
    }
  }

  /* The question as the fields have it now. */
  typed() {
    const start = this.fields.start.value.trim();
    const end = this.fields.end.value.trim();
    const expressions = this.queries.expressions;
    while (expressions.length && !expressions[expressions.length - 1]) expressions.pop();
    const lines = expressions[0] === this.state.expressions[0] ? this.state.lines : []; // levels belong to the first query
    return this.state.with({ expressions, lines, metric: "", start, end, range: start || end ? "" : this.state.range || this.preset, follow: this.state.follow && !end });
  }

  /* To now, from as far back as the window is long. */
  following() {
    const typed = this.typed();
    if (!typed.end) return typed.with({ follow: true });
    return typed.with({ start: "", end: "", range: this.preset, follow: true });
  }

  run() {
    const typed = this.typed();
    if (typed.search() === this.state.search()) this.ask();
    else this.go(typed);
  }

  pick(expression, isNew) {
    const expressions = [...this.queries.expressions];
    const empty = expressions.indexOf("");
    if (!isNew) expressions[this.queries.active] = expression;
    else if (empty >= 0) expressions[empty] = expression;
    else if (expressions.length < this.most) expressions.push(expression);
    else return;
    this.go(this.typed().with({ expressions }));
  }

  span(start, end) {
    const from = Math.round(Math.min(start, end) / 1000) * 1000;
    const to = Math.max(Math.round(Math.max(start, end) / 1000) * 1000, from + LEAST_SPAN_MS);
    const words = (t) => new Date(t).toISOString().slice(0, 19).replace("T", " ");
    this.go(this.typed().with({ start: words(from), end: words(to), range: "", follow: false }));
  }

  move(word) {
    if (!this.answer) return;
    const { start, end } = this.answer;
    const half = (end - start) / 2;
    const now = Date.now();
    if (word === "earlier") this.span(start - half, end - half);
    if (word === "later") this.span(Math.min(start + half, now - half), Math.min(end + half, now + half));
    if (word === "in") this.span(start + half / 2, end - half / 2);
    if (word === "out") {
      // Out of the newest stretch: there is nothing yet on its right.
      const right = Math.min(end + half, Math.max(now, end));
      this.span(right - 4 * half, right);
    }
  }

  /* --- address --- */

  read(search) {
    return State.read(search, this.usual, this.preset);
  }

  /* Write the address; Dash's Location does it, so that its idea of the address stays the true one. */
  go(state) {
    this.state = state;
    const search = state.search();
    if (search !== location.search) window.dash_clientside.set_props("url", { search });
    this.controls();
    this.ask();
  }

  load() {
    if (location.pathname !== "/history") return;
    this.state = this.read(location.search);
    this.controls();
    this.ask();
  }

  controls() {
    const { state } = this;
    if (state.expressions.length || !state.metric) this.queries.set(state.expressions, state.hidden);
    for (const name of ["start", "end"]) if (this.fields[name].value !== state[name]) this.fields[name].value = state[name];
    for (const button of this.root.querySelectorAll("[data-preset]")) attribute(button, "aria-pressed", String(button.dataset.preset === state.range));
    for (const button of this.root.querySelectorAll("[data-compare]")) attribute(button, "aria-pressed", String(button.dataset.compare === state.compare));
    attribute(byId("h-follow"), "aria-pressed", String(state.follow));
    byId("h-add").disabled = state.expressions.length >= this.most;
  }

  /* --- question and answer --- */

  ask() {
    this.busy(true);
    this.poll.ask();
  }

  async take(said, ok) {
    if (!ok) return this.fail(said.error || "The console cannot answer this now.");
    await this.show(said, this.state);
    this.busy(false);
    return this.after();
  }

  fail(words) {
    this.busy(false);
    text(byId("h-error"), words);
    return this.after();
  }

  /* Until the same is asked again: only where the window's end is now. */
  after() {
    if (!this.state.follow) return null;
    return Math.min(Math.max(this.answer ? this.answer.step : 0, FOLLOW_MS[0]), FOLLOW_MS[1]);
  }

  async show(answer, state) {
    text(byId("h-error"), "");
    this.answer = answer;
    answer.first = answer.figure.data.length ? answer.figure.data[0].x0 : answer.start;
    if (!state.expressions.length) {
      // An address that names a metric only: the server made the question.
      state.expressions = answer.parts.map((part) => part.expression);
      state.metric = "";
      this.queries.set(state.expressions, state.hidden);
    }
    if (!state.follow) this.views.remember(answer.parts.filter((part) => !part.problem && part.series).map((part) => part.expression));
    this.queries.tell(answer.parts);
    const comparison = answer.comparison && !answer.comparison.offset_ms ? ` · ${answer.comparison.words}` : "";
    text(byId("h-note"), answer.note + comparison);
    this.nothing(answer);
    this.marks.show(answer, state.without);
    await plotly();
    await this.chart.show(answer.figure, this.marks.lines(answer));
    this.legend.show(answer);
    showStatistics(byId("h-statistics"), byId("h-statistics-note"), answer);
    showValues(answer);
    this.describe(answer);
    this.files(answer, state);
    attribute(this.root, "data-shown", state.search());
  }

  /* Where no query drew anything the chart's place says why. */
  nothing(answer) {
    const isEmpty = answer.figure.data.length === 0;
    const place = byId("h-nothing");
    this.chart.empty(isEmpty);
    this.marks.empty(isEmpty);
    hidden(place, !isEmpty);
    if (!isEmpty) return;
    const wrong = answer.parts.filter((part) => part.problem);
    const [only] = answer.parts;
    let words = "No query has anything to draw in this time; each says why.";
    if (!answer.parts.length) words = "No query is shown.";
    else if (wrong.length === answer.parts.length) words = "Nothing is shown because the question has a mistake.";
    else if (answer.parts.length === 1 && only.absence) words = only.absence.text.replace(/ Did you mean$/, "");
    text(place, words);
  }

  describe(answer) {
    const words = answer.series.slice(0, 8).map((row) => `${row.letter} ${row.name}: last ${withUnit(row.statistics.last, row.unit)}, mean ${withUnit(row.statistics.mean, row.unit)}`);
    this.chart.describe(`Answer over ${answer.note}. ${words.join("; ")}. Arrow keys move, plus and minus zoom.`);
  }

  /* Files hold exactly the window that is shown. */
  files(answer, state) {
    const search = state.with({ start: String(answer.start), end: String(answer.end), range: "", follow: false }).search();
    byId("h-csv").href = `/api/desk/history.csv${search}`;
    byId("h-parquet").href = `/api/desk/history.parquet${search}`;
  }

  redraw() {
    this.chart.draw();
  }

  busy(isBusy) {
    clearTimeout(this.busyTimer);
    const panel = this.root.querySelector(".history-chart");
    if (isBusy) this.busyTimer = setTimeout(() => attribute(panel, "aria-busy", "true"), BUSY_AFTER_MS);
    else attribute(panel, "aria-busy", "false");
  }
}

function toggled(set, one) {
  const next = new Set(set);
  if (!next.delete(one)) next.add(one);
  return next;
}

/* live/main.js loads Plotly on every page; here it is waited for. */
function plotly() {
  return new Promise((done) => {
    const look = () => (window.Plotly ? done() : setTimeout(look, 20));
    look();
  });
}

follow('[data-page="history"]', HistoryPage);
