/* Views: questions kept under a name for everybody, and those asked before in this browser. */

import { attribute, byId, make, text } from "../live/dom.js";
import { utc } from "./format.js";

const KEY = "deskvigil-history-asked";
const MOST_RECENT = 40;

export class Views {
  /* on: {open(search), search(), ask(expression)} */
  constructor(on, toast) {
    this.on = on;
    this.toast = toast;
    this.dialog = byId("h-views");
    this.error = byId("h-views-error");
    this.list = byId("h-views-list");
    this.field = make("input");
    this.field.type = "text";
    this.field.maxLength = 120;
    this.field.autocomplete = "off";
    this.field.placeholder = "name for what is shown now";
    attribute(this.field, "aria-label", "Name of the view");
    this.save = make("button.primary", "Save");
    this.save.type = "button";
    byId("h-views-save").append(this.field, this.save);
    this.save.addEventListener("click", () => this.keep());
    this.field.addEventListener("keydown", (event) => event.key === "Enter" && this.keep());
    byId("h-views-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  async open() {
    text(this.error, "");
    this.dialog.showModal();
    this.field.focus();
    this.drawRecent();
    await this.load();
  }

  async load() {
    try {
      const answer = await fetch("/api/desk/views");
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.error);
      this.draw(said.views);
    } catch (error) {
      text(this.error, `The saved views cannot be read: ${error.message}`);
    }
  }

  draw(views) {
    this.list.replaceChildren(...views.map((view) => this.row(view)));
    if (!views.length) this.list.append(make("li.note", "None yet. A saved view keeps queries, range, comparison and annotations."));
  }

  row(view) {
    const open = link(view.name, `/history${view.search}`, () => this.go(view.search));
    open.title = `saved ${utc(view.t)} UTC by ${view.by || "somebody"}`;
    const row = make("li", open);
    row.append(
      action("Share", `Share ${view.name}: copy its address`, () => this.share(view)),
      action("Rename", `Rename ${view.name}`, () => this.rename(row, view)),
      action("Delete", `Delete ${view.name}`, (button) => this.remove(button, view)),
    );
    return row;
  }

  go(search) {
    this.dialog.close();
    this.on.open(search);
  }

  async keep() {
    const name = this.field.value.trim();
    if (!name) {
      text(this.error, "A view needs a name.");
      this.field.focus();
      return;
    }
    if (await this.post("/api/desk/views", { name, search: this.on.search() })) this.field.value = "";
  }

  rename(row, view) {
    const field = make("input");
    field.type = "text";
    field.value = view.name;
    field.maxLength = 120;
    attribute(field, "aria-label", `New name of ${view.name}`);
    const send = () => this.post(`/api/desk/views/${view.id}/rename`, { name: field.value.trim() });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") send();
      if (event.key === "Escape") {
        event.preventDefault();
        row.replaceWith(this.row(view));
      }
    });
    row.replaceChildren(field, action("Keep", "Keep this name", send));
    field.focus();
    field.select();
  }

  /* Once asks, twice deletes. */
  remove(button, view) {
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "";
      text(button, "Delete?");
      button.addEventListener("blur", () => {
        delete button.dataset.sure;
        text(button, "Delete");
      }, { once: true });
      return;
    }
    this.post(`/api/desk/views/${view.id}/delete`, {});
  }

  async share(view) {
    const address = `${location.origin}/history${view.search}`;
    try {
      await navigator.clipboard.writeText(address);
      this.toast("The address is copied.", false);
    } catch {
      window.prompt("Address of this view", address);
    }
  }

  async post(path, body) {
    text(this.error, "");
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Deskvigil-Action": "1" },
        body: JSON.stringify(body),
      });
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(said.error || `the console answered ${answer.status}`);
      await this.load();
      return true;
    } catch (error) {
      text(this.error, error.message);
      return false;
    }
  }

  /* --- asked before --- */

  recent() {
    try {
      const known = JSON.parse(window.localStorage.getItem(KEY) || "[]");
      return Array.isArray(known) ? known.filter((one) => typeof one === "string") : [];
    } catch {
      return [];
    }
  }

  remember(expressions) {
    const asked = expressions.filter(Boolean);
    const known = this.recent();
    const now = [...asked, ...known.filter((one) => !asked.includes(one))].slice(0, MOST_RECENT);
    if (JSON.stringify(now) === JSON.stringify(known)) return;
    try {
      window.localStorage.setItem(KEY, JSON.stringify(now));
    } catch {
      /* storage may be forbidden: then nothing is remembered */
    }
  }

  drawRecent() {
    const rows = this.recent().slice(0, 20).map((expression) => {
      const button = make("button.link", make("code", expression));
      button.type = "button";
      button.addEventListener("click", () => {
        this.dialog.close();
        this.on.ask(expression);
      });
      return make("li", button);
    });
    byId("h-recent").replaceChildren(...(rows.length ? rows : [make("li.note", "Nothing yet.")]));
  }
}

function link(words, href, go) {
  const one = make("a", words);
  one.href = href;
  one.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go();
  });
  return one;
}

function action(words, label, act) {
  const button = make("button", words);
  button.type = "button";
  attribute(button, "aria-label", label);
  button.addEventListener("click", () => act(button));
  return button;
}
