/* Main: binds what is on the page to the stream, and draws it: text as often as it changes (16 times a second at most), one chart a frame.

Pages come and go without a reload (Dash replaces #content), so bindings are made anew whenever that changes. */

import { Actions } from "./actions.js";
import { AlertList } from "./alerts.js";
import { Announcer } from "./announcer.js";
import { Chart, forgetColours, gpuWords } from "./charts.js";
import { attribute, byId, hidden, text } from "./dom.js";
import { Model } from "./model.js";
import { Orders } from "./orders.js";
import { LiveSocket } from "./socket.js";
import { Status } from "./status.js";
import { Fills, RowTable } from "./tables.js";
import { Tile } from "./tiles.js";

const TEXT_EVERY_MS = 60;
const SLOW_EVERY_MS = 1000;
const DEFAULT_RANGE = 900;
const LIVE_PAGES = ["desk", "host", "risk", "resources"];

function remembered(key, fallback) {
  try {
    return window.localStorage.getItem(key) || fallback;
  } catch {
    return fallback;
  }
}

function remember(key, value) {
  try {
    window.localStorage.setItem(key, value);
  } catch {
    /* storage may be forbidden: then nothing is remembered */
  }
}

class Live {
  constructor() {
    this.model = new Model();
    this.page = "";
    this.range = Number(remembered("deskvigil-range", DEFAULT_RANGE)) || DEFAULT_RANGE;
    this.tiles = [];
    this.charts = [];
    this.tables = [];
    this.lists = [];
    this.textDue = 0;
    this.slowDue = 0;
    this.alertsSeen = null;
    this.actions = new Actions();
    this.announcer = new Announcer();
    this.socket = new LiveSocket((message) => this.take(message), (isUp) => isUp && this.connected());
    this.status = new Status(this.socket, this.actions);
    this.bindBar();
    new MutationObserver(() => this.bind()).observe(byId("content"), { childList: true });
    this.bind();
    loadPlotly();
    const frame = (now) => {
      requestAnimationFrame(frame);
      this.frame(now);
    };
    requestAnimationFrame(frame);
    // A hidden page gets no animation frames; its title still tells how many alerts wait.
    setInterval(() => document.hidden && this.words(), SLOW_EVERY_MS);
  }

  take(message) {
    this.model.take(message);
    if (message.k === "orders" && this.orders) this.orders.take(message);
    if (message.k === "alerts" || message.k === "snapshot") {
      this.alertsChanged();
      if (this.model.alerts.k) this.announcer.take(this.model.alerts.active);
    }
  }

  /* Bind to the page that is in #content now. */
  bind() {
    const page = document.querySelector("#content [data-page]");
    this.charts.forEach((chart) => chart.close());
    const all = (selector, make) => [...document.querySelectorAll(selector)].map(make);
    this.tiles = all("[data-kpi]", (element, i) => new Tile(element, i));
    this.charts = all(".chart", (element) => new Chart(element));
    this.tables = [...all("[data-rows]", (element) => new RowTable(element)), ...all("[data-fills]", (element) => new Fills(element))];
    this.lists = all(".alerts-panel", (element) => new AlertList(element, this.actions));
    this.announcer.bind(document.querySelector("[data-announcer]"));
    if (this.orders) this.orders.close();
    const orders = document.querySelector("[data-orders]");
    this.orders = orders ? new Orders(orders, this.socket, this.actions) : null;
    this.page = page ? page.dataset.page : "";
    this.textDue = this.slowDue = 0;
    attribute(document.body, "data-at", this.page);
    byId("ranges").hidden = !LIVE_PAGES.includes(this.page);
    for (const link of document.querySelectorAll(".rail-link")) {
      attribute(link, "aria-current", link.getAttribute("href") === location.pathname ? "page" : null);
    }
    this.title = page ? `${page.dataset.title} · Deskvigil` : "Deskvigil";
    this.askHistory();
    this.alertsChanged();
  }

  connected() {
    this.askHistory();
    if (this.orders) this.orders.ask();
  }

  bindBar() {
    for (const button of document.querySelectorAll("[data-range]")) {
      button.addEventListener("click", () => {
        this.range = Number(button.dataset.range);
        remember("deskvigil-range", String(this.range));
        this.pressRange();
        this.askHistory();
      });
    }
    this.pressRange();
    const redraw = () => {
      forgetColours();
      for (const chart of this.charts) chart.drawn = -1;
      for (const tile of this.tiles) tile.sparkDue = 0;
    };
    byId("theme-switch").addEventListener("click", () => {
      const root = document.documentElement;
      const dark = getComputedStyle(root).colorScheme.includes("dark");
      root.dataset.theme = dark ? "light" : "dark";
      remember("deskvigil-theme", root.dataset.theme);
      redraw();
    });
    window.matchMedia("(prefers-color-scheme: light)").addEventListener("change", redraw);
  }

  pressRange() {
    for (const button of document.querySelectorAll("[data-range]")) {
      attribute(button, "aria-pressed", String(Number(button.dataset.range) === this.range));
    }
  }

  askHistory() {
    if (LIVE_PAGES.includes(this.page)) this.socket.ask({ k: "history", page: this.page, range: this.range });
  }

  /* Tell the Alerts page's tables that there is something new. */
  alertsChanged() {
    if (this.page !== "alerts" || !window.dash_clientside || !window.dash_clientside.set_props) return;
    const key = JSON.stringify((this.model.alerts.active || []).map((alert) => [alert.id, alert.state, alert.severity, alert.acked_by])) + JSON.stringify(this.model.alerts.resolved);
    if (key === this.alertsSeen) return;
    const isFirst = this.alertsSeen === null;
    this.alertsSeen = key;
    if (!isFirst) window.dash_clientside.set_props("alerts-version", { data: Date.now() });
  }

  frame(now) {
    if (now >= this.textDue) {
      this.textDue = now + TEXT_EVERY_MS;
      this.words();
      return;
    }
    if (!window.Plotly) return;
    let next = null;
    for (const chart of this.charts) {
      if (chart.wants(this.model, now) && (next === null || chart.due < next.due)) next = chart;
    }
    if (next) next.draw(this.model, now);
    else for (const tile of this.tiles) if (tile.spark(this.model, now)) break;
  }

  words() {
    const { model } = this;
    this.status.update(model);
    if (!this.socket.up && !model.state.k) return;
    const reason = (collector) => this.status.reason(model, collector);
    for (const tile of this.tiles) tile.update(model, reason);
    for (const list of this.lists) list.update(model);
    const now = performance.now();
    if (now >= this.slowDue) {
      this.slowDue = now + SLOW_EVERY_MS;
      this.slow();
    }
  }

  slow() {
    for (const table of this.tables) table.update(this.model);
    for (const chart of this.charts) chart.describe(this.model);
    if (this.orders) this.orders.update();
    this.gpu();
    const waiting = this.model.alerts.active.filter((alert) => alert.state === "firing" && !alert.acked_by).length;
    const title = waiting ? `(${waiting}) ${this.title}` : this.title;
    if (document.title !== title) document.title = title;
  }

  /* The Host page shows GPU charts where there is one, else words. */
  gpu() {
    const none = Boolean(this.model.state.gpu);
    for (const part of document.querySelectorAll("[data-gpu]")) hidden(part, (part.dataset.gpu === "present") === none);
    for (const part of document.querySelectorAll("[data-gpu-words]")) text(part, gpuWords(this.model));
  }
}

/* Plotly is the largest script; Dash would load it only when a graph appears. */
function loadPlotly() {
  if (window.Plotly) return;
  const script = document.createElement("script");
  script.src = "/_dash-component-suites/plotly/package_data/plotly.min.js";
  script.async = true;
  document.head.append(script);
}

/* Dash fills the page after its scripts have run: begin when the shell is there. */
function begin() {
  if (!byId("content")) {
    requestAnimationFrame(begin);
    return;
  }
  window.deskvigil = new Live();
}

begin();
