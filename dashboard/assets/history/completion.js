/* Completion: the list under the caret: an ARIA combobox, for keyboard and mouse, with help beside. */

import { attribute, hidden, make, text } from "../live/dom.js";
import { contextAt } from "./language.js";

let number = 0;

export class Completion {
  constructor(area, box, vocabulary, caretRect, onInsert) {
    Object.assign(this, { area, box, vocabulary, caretRect, onInsert });
    number += 1;
    this.items = [];
    this.at = -1;
    this.context = null;
    this.list = make("ul.suggestions");
    this.list.id = `h-suggest-${number}`;
    attribute(this.list, "role", "listbox");
    attribute(this.list, "aria-label", "Suggestions");
    this.help = make("div.suggestion-help");
    this.help.id = `h-suggest-help-${number}`;
    this.popup = make("div.popup", this.list, this.help);
    this.popup.hidden = true;
    box.append(this.popup);
    attribute(area, "role", "combobox");
    attribute(area, "aria-autocomplete", "list");
    attribute(area, "aria-expanded", "false");
    attribute(area, "aria-controls", this.list.id);
    // The mouse must not take the caret away from the text.
    this.popup.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.insert(Number(row.dataset.at));
    });
    area.addEventListener("blur", () => this.close());
  }

  get open() {
    return !this.popup.hidden;
  }

  /* Look what fits at the caret; asked: the user wants to see even what needs nothing typed. */
  async show(asked = false) {
    this.stop();
    const { value, selectionStart, selectionEnd } = this.area;
    if (selectionStart !== selectionEnd) return this.close();
    const context = contextAt(value, selectionStart);
    const wanted = asked || context.prefix || context.kind === "label" || context.kind === "value" || context.kind === "duration";
    if (context.kind === "none" || !wanted) return this.close();
    this.request = new AbortController();
    const { signal } = this.request;
    const items = await this.vocabulary.suggest(context, value, signal);
    const moved = this.area.selectionStart !== selectionStart || this.area.value !== value;
    if (signal.aborted || moved || document.activeElement !== this.area) return undefined;
    // One suggestion that is there already helps nobody.
    if (!items.length || (items.length === 1 && items[0].text === context.prefix)) return this.close();
    this.context = context;
    this.items = items;
    this.draw();
    this.choose(0);
    return undefined;
  }

  stop() {
    if (this.request) this.request.abort();
    this.request = null;
  }

  close() {
    this.stop();
    hidden(this.popup, true);
    attribute(this.area, "aria-expanded", "false");
    attribute(this.area, "aria-activedescendant", null);
  }

  draw() {
    const prefix = this.context.prefix.toLowerCase();
    this.list.replaceChildren(
      ...this.items.map((one, at) => {
        const row = make("li", make("span.word", ...marked(one.text, prefix)), make("span.sort", one.kind));
        row.id = `${this.list.id}-${at}`;
        row.dataset.at = at;
        attribute(row, "role", "option");
        return row;
      }),
    );
    hidden(this.popup, false);
    attribute(this.area, "aria-expanded", "true");
    this.place();
  }

  /* Under the line of the caret, within the box. */
  place() {
    const caret = this.caretRect(this.context.from);
    const box = this.box.getBoundingClientRect();
    const room = Math.max(box.width - this.popup.offsetWidth, 0);
    this.popup.style.left = `${Math.max(0, Math.min(caret.left - box.left - 8, room))}px`;
    this.popup.style.top = `${caret.bottom - box.top + 5}px`;
  }

  choose(at) {
    const before = this.list.children[this.at];
    if (before) attribute(before, "aria-selected", null);
    this.at = (at + this.items.length) % this.items.length;
    const row = this.list.children[this.at];
    attribute(row, "aria-selected", "true");
    attribute(this.area, "aria-activedescendant", row.id);
    row.scrollIntoView({ block: "nearest" });
    const one = this.items[this.at];
    this.help.replaceChildren(make("code", one.text), make("span.note", one.note), make("p", one.help));
    hidden(this.help, !one.note && !one.help);
    if (!one.help) text(this.help.lastChild, "");
  }

  /* True where the key was for the list. */
  key(event) {
    if (!this.open) return false;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.altKey || event.ctrlKey || event.metaKey) return false;
    if (event.key in steps) this.choose(Math.abs(steps[event.key]) === 1 ? this.at + steps[event.key] : Math.max(0, Math.min(this.items.length - 1, this.at + steps[event.key])));
    else if (event.key === "Escape") this.close();
    else if (event.key === "Tab" && !event.shiftKey) this.insert(this.at);
    else if (event.key === "Enter" && !event.shiftKey) {
      // What is typed in full already is not completed: Enter runs it.
      if (this.items[this.at].text === this.context.prefix) return false;
      this.insert(this.at);
    } else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  insert(at) {
    const one = this.items[at];
    const { kind, from, quote } = this.context;
    const rest = this.area.value.slice(this.area.selectionStart);
    let insert = one.insert;
    if (kind === "value") insert += rest.startsWith(quote) ? "" : quote;
    if (insert.endsWith("(") && rest.startsWith("(")) insert = insert.slice(0, -1);
    if (insert.endsWith('="') && /^\s*[=!]/.test(rest)) insert = insert.slice(0, -2);
    // The rest of a word that the caret stands in goes with it.
    const tail = kind === "value" || kind === "duration" ? 0 : rest.match(/^[\w:]*/)[0].length;
    this.close();
    this.area.setSelectionRange(from, this.area.selectionStart + tail);
    // Goes through the browser's own undo.
    if (!document.execCommand("insertText", false, insert)) this.area.setRangeText(insert, from, this.area.selectionEnd, "end");
    this.onInsert();
    if (insert.endsWith('"') && kind === "label") this.show();
  }
}

/* What was typed stands out in the word. */
function marked(word, prefix) {
  const at = prefix ? word.toLowerCase().indexOf(prefix) : -1;
  if (at < 0) return [word];
  return [word.slice(0, at), make("b", word.slice(at, at + prefix.length)), word.slice(at + prefix.length)];
}
