/* Announcer: tells whoever has the console open of alerts, by a notification of the browser and a sound.

Both are off until somebody presses a button here, are kept per browser, and begin with a tier. What is firing when
the page opens is not told: only what begins or rises afterwards. */

import { attribute, make, text } from "./dom.js";

const TIERS = ["info", "warning", "critical", "emergency"];
const KEY = "deskvigil-announce";
const KEPT = 5000;
const TONES = { info: [660], warning: [660, 660], critical: [880, 660, 880], emergency: [988, 740, 988, 740, 988] };

export class Announcer {
  constructor() {
    this.seen = null; // alert id -> tier index; null: nothing has been heard of yet
    this.settings = { notify: false, sound: false, from: "critical" };
    try {
      Object.assign(this.settings, JSON.parse(localStorage.getItem(KEY) || "{}"));
    } catch {
      /* storage may be forbidden or hold nonsense: then everything is off */
    }
    if (!TIERS.includes(this.settings.from)) this.settings.from = "critical";
  }

  /* Draw the settings where the page has a place for them. */
  bind(place) {
    if (!place || place.childElementCount) return;
    const select = make("select", ...TIERS.map((tier) => make("option", tier)));
    select.value = this.settings.from;
    attribute(select, "aria-label", "Announce from this tier on");
    select.addEventListener("change", () => this.keep({ from: select.value }));
    this.notifyButton = this.button(() => this.toggleNotify());
    this.soundButton = this.button(() => this.toggleSound());
    this.note = make("span.note");
    place.append(make("label", "From tier ", select), this.notifyButton, this.soundButton, this.note);
    this.show();
  }

  button(act) {
    const button = make("button");
    button.type = "button";
    button.addEventListener("click", act);
    return button;
  }

  show(words = "") {
    if (!this.note) return;
    text(this.notifyButton, this.settings.notify ? "Notifications are on" : "Turn notifications on");
    text(this.soundButton, this.settings.sound ? "Sound is on" : "Turn sound on");
    attribute(this.notifyButton, "aria-pressed", String(this.settings.notify));
    attribute(this.soundButton, "aria-pressed", String(this.settings.sound));
    text(this.note, words);
  }

  keep(change) {
    Object.assign(this.settings, change);
    try {
      localStorage.setItem(KEY, JSON.stringify(this.settings));
    } catch {
      /* then it holds for this tab only */
    }
    this.show();
  }

  async toggleNotify() {
    if (this.settings.notify) return this.keep({ notify: false });
    if (!("Notification" in window)) return this.show("This browser has no notifications.");
    const answer = await Notification.requestPermission();
    if (answer !== "granted") return this.show("The browser does not allow notifications for this address.");
    return this.keep({ notify: true });
  }

  toggleSound() {
    if (this.settings.sound) return this.keep({ sound: false });
    this.keep({ sound: true });
    return this.play("info"); // the click is what allows this page to make a sound at all
  }

  /* Look at what is active now. */
  take(active) {
    const firing = active.filter((alert) => alert.state === "firing");
    const before = this.seen;
    this.seen = new Map(firing.slice(0, KEPT).map((alert) => [alert.id, TIERS.indexOf(alert.severity)]));
    if (before === null) return;
    const least = TIERS.indexOf(this.settings.from);
    const news = firing.filter((alert) => {
      const tier = TIERS.indexOf(alert.severity);
      return tier >= least && !alert.acked_by && tier > (before.get(alert.id) ?? -1);
    });
    if (news.length) this.announce(news);
  }

  announce(news) {
    const worst = news.reduce((a, b) => (TIERS.indexOf(b.severity) > TIERS.indexOf(a.severity) ? b : a));
    if (this.settings.sound) this.play(worst.severity);
    if (!this.settings.notify || !("Notification" in window) || Notification.permission !== "granted") return;
    const body = news.length > 1 ? `${worst.summary} and ${news.length - 1} more` : worst.summary;
    const shown = new Notification(`${worst.severity}: ${worst.name}`, { body, tag: `deskvigil-${worst.id}`, requireInteraction: worst.severity === "emergency" });
    shown.onclick = () => {
      window.focus();
      window.location.href = `/alerts?alert=${encodeURIComponent(worst.id)}`;
    };
  }

  /* Short tones, more and higher the worse it is; no file. */
  play(tier) {
    const Context = window.AudioContext || window.webkitAudioContext;
    if (!Context) return;
    this.audio ||= new Context();
    this.audio.resume().catch(() => {});
    (TONES[tier] || TONES.info).forEach((pitch, i) => {
      const at = this.audio.currentTime + i * 0.22;
      const tone = this.audio.createOscillator();
      const gain = this.audio.createGain();
      tone.frequency.value = pitch;
      gain.gain.setValueAtTime(0.0001, at);
      gain.gain.exponentialRampToValueAtTime(0.2, at + 0.02);
      gain.gain.exponentialRampToValueAtTime(0.0001, at + 0.18);
      tone.connect(gain).connect(this.audio.destination);
      tone.start(at);
      tone.stop(at + 0.2);
    });
  }
}
