/* Tables: legend, statistics and values of an answer. */

import { attribute, byId, hidden, make, text } from "../live/dom.js";
import { brief, quantity, utc } from "./format.js";

const MOST_COLUMNS = 24;
const WORDS = [["last", "last"], ["min", "min"], ["mean", "mean"], ["max", "max"], ["p50", "p50"], ["p95", "p95"], ["p99", "p99"], ["change", "change"]];
const COMPARED = [["before", "mean before"], ["versus", "difference"]];

function swatch(colour, isBefore = false) {
  const one = make(`i.swatch${isBefore ? ".dashed" : ""}`);
  one.style.setProperty("--ink", colour);
  return one;
}

export class Legend {
  constructor(place, chart) {
    this.place = place;
    this.chart = chart;
  }

  show(answer) {
    const traces = answer.figure.data;
    const rows = new Map(answer.series.map((row) => [`${row.letter}${row.curve}`, row]));
    const rowOf = (trace) => rows.get(`${trace.meta.letter}${trace.meta.curve}`);
    const valueOf = (trace) => {
      const { statistics, unit } = rowOf(trace);
      return trace.meta.before ? `mean ${brief(statistics.before, unit)}` : brief(statistics.last, unit);
    };
    // Followed, the same entries stay where they are, with their focus; only their values change.
    const key = JSON.stringify(traces.map((trace) => [trace.name, rowOf(trace).colour]));
    if (key === this.key) {
      [...this.place.querySelectorAll(".value")].forEach((value, at) => text(value, valueOf(traces[at])));
      return;
    }
    this.key = key;
    this.place.replaceChildren(
      ...traces.map((trace) => {
        const row = rowOf(trace);
        const { before } = trace.meta;
        const button = make("button.entry", swatch(row.colour, before), make("b", row.letter), make("span.name", before ? `${row.name}, ${answer.comparison.words}` : row.name), make("span.value", valueOf(trace)));
        button.type = "button";
        button.title = `${row.full}${before ? `, ${answer.comparison.words}` : ""}: show or hide`;
        attribute(button, "aria-pressed", String(!this.chart.off.has(trace.name)));
        button.addEventListener("click", () => {
          this.chart.toggle(trace.name);
          attribute(button, "aria-pressed", String(!this.chart.off.has(trace.name)));
        });
        return make("li", button);
      }),
    );
    hidden(this.place, !traces.length);
  }
}

export function showStatistics(place, note, answer) {
  const isCompared = Boolean(answer.comparison && answer.comparison.offset_ms);
  const words = isCompared ? [...WORDS, ...COMPARED] : WORDS;
  if (!answer.series.length) {
    place.replaceChildren(make("p.absence", "There is nothing to count."));
    text(note, "");
    return;
  }
  const head = make("tr", ...["series", ...words.map(([, word]) => word), "n", "unit"].map((word) => {
    const cell = make("th", word);
    cell.scope = "col";
    return cell;
  }));
  const rows = answer.series.map((row) => {
    const name = make("th", swatch(row.colour), make("b", row.letter), ` ${row.name}`);
    name.scope = "row";
    name.title = row.full;
    const cells = words.map(([key, word]) => {
      const isSigned = key === "change" || key === "versus";
      const cell = make("td", quantity(row.statistics[key], isSigned));
      if (key === "versus" && row.ratio !== null) cell.append(` (${quantity(Math.round(row.ratio * 1000) / 10, true)}\u202f%)`);
      if (key === "before" && row.missing) cell.replaceChildren("no data");
      cell.dataset.label = word;
      return cell;
    });
    const count = make("td", quantity(row.n));
    count.dataset.label = "n";
    const unit = make("td.unit", row.unit || "count");
    unit.dataset.label = "unit";
    return make("tr", name, ...cells, count, unit);
  });
  const table = make("table.rows.statistics", make("thead", head), make("tbody", ...rows));
  place.replaceChildren(make("div.scroll", table));
  text(note, isCompared ? `over the points shown; difference of the means to ${answer.comparison.words}` : "over the points shown");
}

/* The table of values gets its rows from the figure: the same numbers in the same units. */
export function showValues(answer) {
  const traces = answer.figure.data.slice(0, MOST_COLUMNS);
  const rows = new Map(answer.series.map((row) => [`${row.letter}${row.curve}`, row]));
  const columns = [{ field: "time", headerName: "Time (UTC)", width: 165, pinned: document.documentElement.clientWidth > 600 ? "left" : null }];
  traces.forEach((trace, at) => {
    const unit = rows.get(`${trace.meta.letter}${trace.meta.curve}`).unit;
    columns.push({
      field: `c${at}`,
      headerName: `${trace.name}${unit && unit !== "no unit" ? `, ${unit}` : ""}`,
      headerTooltip: trace.name,
      valueFormatter: { function: "params.value == null ? '' : d3.format(',.6~r')(params.value)" },
      type: "rightAligned",
      minWidth: 130,
      flex: 1,
    });
  });
  const steps = traces.reduce((most, trace) => Math.max(most, trace.y.length), 0);
  const data = [];
  for (let step = steps - 1; step >= 0; step -= 1) {
    const t = answer.first + step * answer.step;
    const row = { t: String(t), time: utc(t) };
    let has = false;
    traces.forEach((trace, at) => {
      const value = trace.y[step];
      if (value === null || value === undefined) return;
      row[`c${at}`] = value;
      has = true;
    });
    if (has) data.push(row);
  }
  const left = answer.figure.data.length - traces.length;
  text(byId("h-values-note"), data.length ? `${data.length} steps, newest first${left > 0 ? `; ${left} more series in the files` : ""}` : "nothing to list");
  const key = JSON.stringify(columns);
  const set = window.dash_clientside && window.dash_clientside.set_props;
  if (!set) return;
  if (key !== showValues.key || !data.length) set("h-values", { columnDefs: data.length ? columns : [], rowData: data });
  else set("h-values", { rowData: data });
  showValues.key = data.length ? key : "";
}
