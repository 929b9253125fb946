/* Orders: puts the page's question to the hub and writes what it answers.

Only what stands in the blotter's window is asked for and in the document: its table is as high as all
orders, and padded above and below. Rows are reused; text is written only where it changes. */

import { Breaks } from "./breaks.js";
import { attribute, byId, hidden, keyed, make, text } from "./dom.js";
import { age, number, span } from "./format.js";

const ROW_PX = 27;
const ROWS_AHEAD = 8;
const STALE_S = 3;
const LEVELS = 10;
const LOUD = { rejected: "warning", unseen: "warning" };

export class Orders {
  constructor(root, socket, actions) {
    this.root = root;
    this.socket = socket;
    this.actions = actions;
    this.part = (name) => root.querySelector(`[data-o="${name}"]`);
    this.question = { k: "orders", symbol: "", instrument: "", strategy: "", state: "", first: 0, count: 30, order: 0, upto: 0 };
    this.selects = {};
    this.answer = null;
    this.heard = 0;
    this.opener = null;
    this.filters();
    this.window = byId("o-window");
    this.window.addEventListener("scroll", () => this.scrolled());
    // Rows that move under the pointer cannot be hit: the list stands still while it is looked into.
    for (const [event, held] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
      this.window.addEventListener(event, () => this.hold(held || this.window.scrollTop > 0));
    }
    this.dialogs();
    this.breaks = new Breaks(this.part, actions);
    this.scrolled();
    this.ask();
  }

  /* --- asking --- */

  ask() {
    this.socket.ask(this.question);
  }

  close() {
    this.socket.ask({ k: "orders", off: true });
  }

  hold(held) {
    if (held === Boolean(this.question.upto) || !this.answer) return;
    this.question.upto = held ? this.answer.blotter.newest : 0;
    this.ask();
  }

  scrolled() {
    if (this.window.scrollTop > 0) this.hold(true);
    const first = Math.max(Math.floor(this.window.scrollTop / ROW_PX) - ROWS_AHEAD, 0);
    const count = Math.min(Math.ceil(this.window.clientHeight / ROW_PX) + 2 * ROWS_AHEAD, 100);
    if (first === this.question.first && count === this.question.count) return;
    Object.assign(this.question, { first, count });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), 40);
  }

  filters() {
    for (const [name, word] of [["instrument", "Symbol"], ["strategy", "Strategy"], ["state", "State"]]) {
      this.selects[name] = this.select(byId("o-filters"), word, "all", (value) => {
        this.question[name] = value;
        this.window.scrollTop = 0;
        this.question.first = 0;
        this.ask();
      });
    }
    this.selects.symbol = this.select(byId("o-symbol"), "Symbol", null, (value) => {
      this.question.symbol = value;
      this.ask();
    });
  }

  select(place, word, all, changed) {
    const select = make("select");
    if (all) select.append(new Option(all, ""));
    select.addEventListener("change", () => changed(select.value));
    place.append(make("label", word, select));
    return select;
  }

  fillSelect(select, values, all) {
    const key = values.join(" ");
    if (select.dataset.key === key) return;
    select.dataset.key = key;
    const chosen = select.value;
    select.replaceChildren(...(all ? [new Option("all", "")] : []), ...values.map((value) => new Option(value, value)));
    if (values.includes(chosen)) select.value = chosen;
  }

  /* --- dialogs --- */

  dialogs() {
    const timeline = byId("o-timeline");
    byId("o-timeline-close").addEventListener("click", () => timeline.close());
    timeline.addEventListener("close", () => {
      this.question.order = 0;
      this.ask();
      if (this.opener && this.opener.isConnected) this.opener.focus();
    });
    const input = make("input");
    input.type = "text";
    input.maxLength = 200;
    input.autocomplete = "off";
    byId("o-cancel-reason").append(input);
    const dialog = byId("o-cancel-dialog");
    byId("o-cancel-keep").addEventListener("click", () => dialog.close());
    const confirm = byId("o-cancel-confirm");
    confirm.addEventListener("click", async () => {
      if (confirm.disabled) return;
      confirm.disabled = true; // a slow answer must not be asked for twice
      try {
        await this.actions.send("/api/desk/cancel", { scope: `order:${this.cancelling.id}`, reason: input.value.trim() });
        dialog.close();
      } finally {
        confirm.disabled = false;
      }
    });
  }

  askCancel(order) {
    this.cancelling = { ...order };
    const again = order.strategy === "clients" ? "" : ` The strategy may send another in its place; to stop it, halt strategy:${order.strategy}.`;
    text(byId("o-cancel-words"), `${order.side} ${units(order.left)} ${order.symbol} at ${price(order.price, order.tick)}, order ${order.id}.${again}`);
    byId("o-cancel-reason").querySelector("input").value = "";
    byId("o-cancel-dialog").showModal();
    byId("o-cancel-keep").focus();
  }

  open(order, opener) {
    this.opener = opener;
    this.question.order = order.n;
    text(byId("o-timeline-title"), `${order.side} ${order.symbol}`);
    this.part("timeline").replaceChildren();
    text(this.part("timeline-words"), "");
    byId("o-timeline").showModal();
    this.ask();
  }

  /* --- answers --- */

  take(message) {
    if (message.error) {
      text(this.part("stale"), message.error);
      hidden(this.part("stale"), false);
      return;
    }
    this.answer = message;
    this.heard = performance.now();
    this.show();
  }

  show() {
    const said = this.answer;
    if (!said.symbols) return;
    this.fillSelect(this.selects.instrument, said.symbols, true);
    this.fillSelect(this.selects.strategy, said.strategies, true);
    this.fillSelect(this.selects.state, said.states, true);
    this.fillSelect(this.selects.symbol, said.symbols, false);
    this.breaks.show(said.checks);
    this.blotter(said.blotter, said.missed);
    this.working(said.working, said.working_total);
    this.depth(said.depth);
    this.parents(said.parents);
    this.positions(said.positions);
    this.timeline(said.timeline);
    this.update();
  }

  /* Ages, a few times a second, also where no answer comes. */
  update() {
    const said = this.answer;
    if (!said) return;
    const seconds = said.age === null ? Infinity : said.age + (performance.now() - this.heard) / 1000;
    const stale = !said.alive || seconds > STALE_S;
    const place = this.part("stale");
    hidden(place, !stale);
    attribute(this.root, "data-stale", stale ? "" : null);
    if (stale) text(place, `${said.why || "nothing new has come"}${Number.isFinite(seconds) ? `; what is shown is ${age(seconds)} old` : ""}`);
  }

  blotter(blotter, missed) {
    const { rows, first, matching, total, newer } = blotter;
    hidden(this.part("blotter-absence"), matching > 0);
    hidden(this.window, matching === 0);
    text(this.part("blotter-absence"), total ? "No order matches these filters." : "No own order has been seen yet.");
    const kept = matching === total ? `${number(total)} kept` : `${number(matching)} of ${number(total)}`;
    text(this.part("o-blotter-note"), `newest first, ${kept}${newer ? ` · held, ${number(newer)} newer` : ""}${missed ? ` · ${number(missed)} events missed` : ""}`);
    const body = this.part("blotter");
    const table = body.parentElement;
    table.style.marginTop = `${first * ROW_PX}px`;
    table.style.marginBottom = `${Math.max(matching - first - rows.length, 0) * ROW_PX}px`;
    while (body.children.length > rows.length) body.lastElementChild.remove();
    while (body.children.length < rows.length) body.append(this.blotterRow());
    rows.forEach((row, i) => this.fillBlotter(body.children[i], row));
  }

  blotterRow() {
    const button = make("button.link");
    button.type = "button";
    const element = make("tr", make("td", button), ...Array.from({ length: 9 }, () => make("td")));
    element.addEventListener("click", () => this.open(element.order, button));
    return element;
  }

  fillBlotter(element, row) {
    element.order = row;
    attribute(element, "data-severity", LOUD[row.state] || null);
    attribute(element, "data-ended", row.state === "cancelled" || row.state === "filled" ? "" : null);
    const [time, symbol, side, type, strategy, at, qty, filled, state, reason] = element.children;
    text(time.firstChild, stamp(row.t));
    attribute(time.firstChild, "aria-label", `Timeline of ${row.side} ${row.symbol}, ${stamp(row.t)}`);
    text(symbol, row.symbol);
    text(side, row.side);
    text(type, row.type);
    text(strategy, row.client || row.strategy);
    text(at, price(row.price, row.tick));
    text(qty, row.qty === null ? "–" : units(row.qty));
    text(filled, row.filled ? units(row.filled) : "–");
    text(state, row.state);
    text(reason, row.reason.replaceAll("_", " "));
    attribute(reason, "title", row.reason || null);
  }

  working(rows, total) {
    hidden(this.part("working-absence"), rows.length > 0);
    text(this.part("working-absence"), "No own order rests.");
    text(this.part("o-working-note"), total > rows.length ? `${rows.length} of ${number(total)}` : `${number(total)}`);
    hidden(this.part("working").closest(".scroll"), rows.length === 0);
    keyed(this.part("working"), rows, (row) => row.id, "tr", (element, row) => {
      if (!element.childElementCount) this.workingRow(element);
      element.order = row;
      const [symbol, side, type, strategy, at, left, away, old, act] = element.children;
      text(symbol, row.symbol);
      text(side, row.side);
      text(type, row.type);
      text(strategy, row.client || row.strategy);
      text(at, price(row.price, row.tick));
      text(left, units(row.left));
      text(away, row.away === null ? "–" : row.away < 0.005 ? "at touch" : `${number(row.away, row.away < 10 ? 1 : 0)} bps`);
      text(old, age(row.age));
      attribute(act.firstChild, "aria-label", `Cancel ${row.side} ${row.symbol} at ${price(row.price, row.tick)}`);
    });
  }

  workingRow(element) {
    const button = make("button", "Cancel");
    button.type = "button";
    button.addEventListener("click", () => this.askCancel(element.order));
    element.append(...Array.from({ length: 8 }, () => make("td")), make("td", button));
  }

  depth(depth) {
    const empty = !depth || (!depth.bids.length && !depth.asks.length);
    const body = this.part("depth");
    hidden(this.part("depth-absence"), !empty);
    hidden(body.parentElement, empty);
    text(this.part("depth-absence"), "The book is empty.");
    text(this.part("o-depth-note"), depth ? spreadWords(depth) : "");
    if (empty) return;
    // Always as many rows, so that the touch stays where it is.
    const side = (name, found) => Array.from({ length: LEVELS }, (_, k) => [name, ...(found[k] || [null, null, 0])]);
    const levels = [...side("ask", depth.asks).reverse(), ...side("bid", depth.bids)];
    const most = Math.max(...levels.map(([, , lots]) => lots || 0));
    while (body.children.length > levels.length) body.lastElementChild.remove();
    while (body.children.length < levels.length) body.append(make("tr", make("td"), make("td"), make("td"), make("td.bar-cell", make("i"))));
    levels.forEach(([side, at, lots, own], i) => {
      const [ours, size, cost, bar] = (body.children[i].className = side, body.children[i].children);
      attribute(body.children[i], "data-touch", i === LEVELS ? "" : null);
      text(ours, own ? units(own) : "");
      attribute(ours, "class", own ? "own" : null);
      attribute(ours, "aria-label", own ? `${units(own)} of our own` : null);
      text(size, lots === null ? "" : units(lots));
      text(cost, at === null ? "" : price(at, depth.tick));
      bar.firstChild.style.width = `${((lots || 0) / most) * 100}%`;
    });
  }

  parents(rows) {
    hidden(this.part("parents-absence"), rows.length > 0);
    text(this.part("parents-absence"), "No parent order is at work.");
    text(this.part("o-parents-note"), rows.length ? "filled · the mark is the time that is over" : "");
    keyed(this.part("parents"), rows, (row) => `${row.symbol} ${row.number}`, "li", (element, row) => {
      if (!element.childElementCount) {
        element.append(make("div.line", make("strong"), make("span.note")), make("div.bullet", make("i.fill"), make("i.goal")), make("p.aim"));
      }
      const [line, bullet, aim] = element.children;
      text(line.children[0], `${row.side} ${units(row.target)} ${row.symbol}`);
      text(line.children[1], `${row.algo}${row.control ? ", control" : ""} · ${span(row.left_s)} left`);
      bullet.children[0].style.width = `${Math.min(row.done, 1) * 100}%`;
      bullet.children[1].style.left = `${row.due * 100}%`;
      const cost = row.slippage === null ? "nothing filled" : `${number(row.slippage, 1, true)} bps from arrival`;
      text(aim, `${number(row.done * 100, 0)} % filled at ${number(row.due * 100, 0)} % of its time · ${cost} · ${row.orders} children`);
    });
  }

  positions(rows) {
    hidden(this.part("positions-absence"), rows.length > 0);
    hidden(this.part("positions").closest(".scroll"), rows.length === 0);
    const pnl = rows.reduce((sum, row) => sum + (row.pnl ?? 0), 0);
    text(this.part("o-positions-note"), rows.length ? `P&L after fees ${number(pnl, 0, true)} USD this session` : "");
    keyed(this.part("positions"), rows, (row) => row.symbol, "tr", (element, row) => {
      if (!element.childElementCount) element.append(...Array.from({ length: 9 }, () => make("td")));
      const values = [
        row.symbol, row.qty > 0 ? `+${units(row.qty)}` : units(row.qty), price(row.avg, row.tick), price(row.mark, row.tick), number(row.realised, 0, true), number(row.unrealised, 0, true), number(row.fees, 0), number(row.pnl, 0, true), row.state === "ACTIVE" ? "" : row.state,
      ];
      values.forEach((value, i) => text(element.children[i], value));
      attribute(element, "data-severity", { HALTED: "critical", REDUCING: "warning" }[row.state] || null);
    });
  }

  timeline(timeline) {
    if (!byId("o-timeline").open) return;
    const words = this.part("timeline-words");
    if (!timeline) {
      text(words, "This order is not kept any more.");
      return;
    }
    const { order, events } = timeline;
    text(byId("o-timeline-title"), `${order.side} ${order.qty === null ? "" : units(order.qty)} ${order.symbol} at ${price(order.price, order.tick)}`);
    const parent = order.strategy === "parents" ? ` · child of parent ${timeline.parent}` : "";
    text(words, `${order.type} · ${order.client || order.strategy}${parent} · ${order.state}${order.id ? ` · order ${order.id}` : ""}${order.qty === null ? " · its beginning was not seen" : ""}`);
    const first = events[0].t;
    const steps = events.flatMap((event) => this.steps(event, order, first));
    if (timeline.dropped) steps.push(["", `${timeline.dropped} more events`, ""]);
    const list = this.part("timeline");
    while (list.children.length > steps.length) list.lastElementChild.remove();
    while (list.children.length < steps.length) list.append(make("li", make("time"), make("strong"), make("span.detail")));
    steps.forEach((step, i) => step.forEach((value, k) => text(list.children[i].children[k], value)));
  }

  /* One event as steps [when, what, detail]; an accepted order brings its way to the book along. */
  steps(event, order, first) {
    const when = event.t === first ? stamp(event.t) : `+${duration((event.t - first) * 1e6)}`;
    const at = `${units(event.qty)} at ${price(event.price, order.tick)}`;
    const reason = event.reason.replaceAll("_", " ");
    if (event.what === "accepted") {
      const { stages } = event;
      const way = [];
      if (stages && (stages.market_data || stages.decision)) {
        way.push(["", "event into the book", duration(stages.market_data)], ["", "decision", duration(stages.decision)]);
      }
      if (stages) way.push(["", "gates", duration(stages.gate)]);
      const took = stages ? ` · ${duration(stages.total)} from the intended time` : "";
      return [...way, [when, "accepted by the book", at + took]];
    }
    if (event.what === "rejected") return [[when, "rejected", `${reason} · ${at}`]];
    if (event.what === "fill") return [[when, `fill, ${reason}`, `${at} · ${units(event.left)} left`]];
    if (event.what === "cancelled") return [[when, "cancelled", `${reason} · ${units(event.qty)}${event.left ? `, ${units(event.left)} left` : ""}`]];
    return [[when, "changed", at]];
  }
}

/* Whole units as they are, parts with four significant digits. */
function units(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  return Number.isInteger(value) ? number(value) : number(value, Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 3 : 5);
}

function spreadWords(depth) {
  if (!depth.bids.length || !depth.asks.length) return "one side is empty";
  const [bid, ask] = [depth.bids[0][0], depth.asks[0][0]];
  return `spread ${number(((ask - bid) / ((ask + bid) / 2)) * 1e4, 1)} bps`;
}

/* As many decimals as a multiple of the tick can have: 2 for 0.01 and for 0.25. */
function price(value, tick) {
  if (value === null || value === undefined) return "–";
  let decimals = 0;
  while (decimals < 8 && Math.abs(Number(tick.toFixed(decimals)) - tick) > 1e-6 * tick) decimals += 1;
  return number(value, decimals);
}

function stamp(ms) {
  return new Date(ms).toISOString().slice(11, 23);
}

function duration(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${number(ns / 1e3, 1)} µs`;
  if (ns < 1e9) return `${number(ns / 1e6, 1)} ms`;
  return age(ns / 1e9);
}
