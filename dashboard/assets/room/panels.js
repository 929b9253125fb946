/* Panels: tables of words from the server; a row is touched only where it has changed. */

import { attribute, hidden, make, text } from "../live/dom.js";

export function showEngine(root, body) {
  for (const panel of root.querySelectorAll("[data-panel]")) {
    const { rows, note, nothing } = body.panels[panel.dataset.panel];
    const table = panel.querySelector("table");
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    fill(panel.querySelector("tbody"), rows, (row) => cellsOf(row, heads));
    hidden(table, rows.length === 0);
    const absence = panel.querySelector("[data-nothing]");
    hidden(absence, rows.length > 0);
    text(absence, nothing);
    text(panel.querySelector("[data-note]"), note);
    attribute(panel, "data-severity", rows.length ? rows[0].severity || null : null);
  }
  states(root.querySelector("[data-states]"), body.panels.summary.rows);
}

/* Make `body` hold one tr for each row; build(row) gives its cells. Unchanged rows keep their elements. */
export function fill(body, rows, build) {
  rows.forEach((row, i) => {
    const key = JSON.stringify(row);
    const old = body.children[i];
    if (old && old.shown === key) return;
    const line = make("tr", ...build(row));
    attribute(line, "data-severity", row.severity || null);
    line.shown = key;
    if (old) old.replaceWith(line);
    else body.append(line);
  });
  while (body.children.length > rows.length) body.lastChild.remove();
}

export function mark(severity) {
  if (!severity) return null;
  const shape = make(`span.mark.mark-${severity}`);
  attribute(shape, "role", "img");
  attribute(shape, "aria-label", severity);
  return shape;
}

function cellsOf(row, heads) {
  return row.cells.map((cell, i) => {
    const element = i === 0 ? make("th", mark(row.severity), cell) : make("td", cell);
    if (i === 0) element.scope = "row";
    else if (heads[i]) element.dataset.label = heads[i];
    return element;
  });
}

/* The strip on top: name, state and a few words each. */
export function states(strip, rows) {
  rows.forEach((row, i) => {
    const key = JSON.stringify(row);
    const old = strip.children[i];
    if (old && old.shown === key) return;
    const [name, state, words] = row.cells;
    const cell = make("section.state", make("h2", name), make("p.reading", mark(row.severity), make("b", state)), make("p.words", words));
    attribute(cell, "data-severity", row.severity || null);
    if (row.title) cell.title = row.title;
    cell.shown = key;
    if (old) old.replaceWith(cell);
    else strip.append(cell);
  });
}
