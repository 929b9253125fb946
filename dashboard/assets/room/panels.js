/* Panels: tables of words from the server; a row is touched only where it has changed. */

import { attribute, hidden, make, text } from "../live/dom.js";

/* Every panel of the page. A row with `group` is a heading, one with `part` (0 .. 1) ends in a bar. */
export function showPanels(root, body) {
  for (const panel of root.querySelectorAll("[data-panel]")) {
    const { rows, note, nothing, severity } = body.panels[panel.dataset.panel];
    const table = panel.querySelector("table");
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    fill(panel.querySelector("tbody"), rows, (row) => cellsOf(row, heads));
    hidden(table, rows.length === 0);
    const absence = panel.querySelector("[data-nothing]");
    hidden(absence, rows.length > 0);
    text(absence, nothing);
    text(panel.querySelector("[data-note]"), note);
    attribute(panel, "data-severity", severity || (rows.length && rows[0].severity) || null);
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
  if (row.group) return [headingOf(row.group, heads.length || 2)];
  const cells = row.cells.map((cell, i) => {
    const element = i === 0 ? make("th", mark(row.severity), cell) : make("td", cell);
    if (i === 0) element.scope = "row";
    else if (heads[i]) element.dataset.label = heads[i];
    return element;
  });
  if (row.part !== undefined) cells.push(barOf(row.part, heads.length - cells.length));
  return cells;
}

function headingOf(words, columns) {
  const heading = make("th.group", words);
  heading.scope = "colgroup";
  heading.colSpan = columns;
  return heading;
}

function barOf(part, columns) {
  const bar = make("i");
  bar.style.width = `${(100 * part).toFixed(2)}%`;
  const cell = make("td.bar-cell", bar);
  cell.colSpan = Math.max(columns, 1);
  attribute(cell, "aria-hidden", "true");
  return cell;
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
