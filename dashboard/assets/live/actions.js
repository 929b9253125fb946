/* Actions: what an operator does. Each asks first, is sent once, and says what came of it. */

import { byId, hidden, make, text } from "./dom.js";

const TOAST_MS = 7000;

export class Actions {
  constructor() {
    this.fields();
    this.tableButtons();
    this.alert = null;
    this.order = "halt";
    byId("halt").addEventListener("click", () => this.askOrder());
    this.dialog("order", () => this.send(`/api/desk/${this.asked}`, { reason: this.value("order-reason"), scope: this.value("order-scope") }));
    byId("order-other").addEventListener("click", () => this.ask(this.asked === "halt" ? "resume" : "halt"));
    this.dialog("ack", () => this.send(`/api/desk/alerts/${encodeURIComponent(this.alert.id)}/acknowledge`, { comment: this.value("ack-comment") }));
  }

  /* Buttons of tables that Dash draws anew: what they post to is written on them. */
  tableButtons() {
    document.addEventListener("click", async (event) => {
      const button = event.target.closest?.("button[data-post]");
      if (!button || button.disabled) return;
      button.disabled = true; // a slow answer must not be asked for twice
      try {
        await this.send(button.dataset.post, {});
      } finally {
        button.disabled = false;
      }
    });
  }

  /* The dialogs' text fields; outside any form, so that Enter sends nothing. */
  fields() {
    for (const place of document.querySelectorAll("[data-field]")) {
      const input = make("input");
      input.type = "text";
      input.maxLength = Number(place.dataset.field);
      input.autocomplete = "off";
      place.append(input);
    }
  }

  value(id) {
    return byId(id).querySelector("input").value.trim();
  }

  dialog(name, confirm) {
    const dialog = byId(`${name}-dialog`);
    const button = byId(`${name}-confirm`);
    byId(`${name}-cancel`).addEventListener("click", () => dialog.close());
    button.addEventListener("click", async () => {
      if (button.disabled) return;
      button.disabled = true; // an answer that is slow must not be asked for twice
      try {
        await confirm();
        dialog.close();
      } finally {
        button.disabled = false;
      }
    });
  }

  open(name) {
    const dialog = byId(`${name}-dialog`);
    for (const input of dialog.querySelectorAll("input")) input.value = "";
    dialog.showModal();
    byId(`${name}-cancel`).focus();
  }

  askOrder() {
    // What is confirmed is what was asked, even where the trading state changes while the dialog is open.
    this.ask(this.order);
    this.open("order");
  }

  /* Says what the confirming button will do; the other one is there for a scope whose state is not the desk's. */
  ask(order) {
    this.asked = order;
    const halts = this.asked === "halt";
    text(byId("order-title"), halts ? "Halt trading?" : "Resume trading?");
    text(
      byId("order-words"),
      halts
        ? "Every working order is cancelled at once and no new one is sent. Positions stay as they are. Trading goes on only when somebody resumes it."
        : "The strategy may send orders again at once.",
    );
    text(byId("order-confirm"), halts ? "Halt trading" : "Resume trading");
    text(byId("order-other"), halts ? "Resume instead" : "Halt instead");
  }

  acknowledge(alert) {
    this.alert = alert;
    text(byId("ack-words"), alert.summary);
    this.open("ack");
  }

  /* The button resumes only what is halted; in every other state it must be possible to halt. */
  follow(state) {
    this.order = state === "HALTED" ? "resume" : "halt";
    const button = byId("halt");
    text(button, this.order.toUpperCase());
    button.dataset.order = this.order;
  }

  /* True where it was done; what came of it is said in any case. */
  async send(path, body) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Deskvigil-Action": "1" },
        body: JSON.stringify(body),
      });
      const said = await answer.json().catch(() => ({}));
      this.toast(said.message || said.error || `the console answered ${answer.status}`, !answer.ok);
      return answer.ok;
    } catch (error) {
      this.toast(`the console cannot be reached: ${error.message}`, true);
      return false;
    }
  }

  toast(words, isBad) {
    const toast = byId("toast");
    text(toast, words);
    toast.className = isBad ? "shown bad" : "shown";
    hidden(toast, false);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => toast.classList.remove("shown", "bad"), TOAST_MS);
  }
}
