/* Socket: the connection to the hub, kept up, with what was missed asked for after each break. */

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
const SILENCE_MS = 3500; // the hub says something at least every second

export class LiveSocket {
  /* handle(message) gets each message once and in order; changed() is called when the connection comes or goes. */
  constructor(handle, changed) {
    this.handle = handle;
    this.changed = changed;
    this.epoch = "";
    this.sequence = -1;
    this.wait = FIRST_WAIT_MS;
    this.heard = performance.now();
    this.up = false;
    this.decoder = new TextDecoder();
    setInterval(() => this.watch(), 500);
    window.addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.up || this.retry());
    this.open();
  }

  /* Seconds since the hub was last heard. */
  silence() {
    return (performance.now() - this.heard) / 1000;
  }

  ask(message) {
    if (this.up) this.socket.send(JSON.stringify(message));
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ k: "hello", epoch: this.epoch, seq: this.sequence }));
    socket.onmessage = (event) => this.socket === socket && this.take(event.data);
    socket.onclose = () => this.socket === socket && this.lost();
    this.socket = socket;
    this.opened = performance.now();
  }

  take(data) {
    const message = JSON.parse(this.decoder.decode(data));
    this.heard = performance.now();
    this.wait = FIRST_WAIT_MS;
    if (message.k === "snapshot") {
      this.epoch = message.epoch;
      this.sequence = message.seq;
    } else if (message.seq !== undefined) {
      if (message.seq <= this.sequence) return;
      if (message.seq !== this.sequence + 1) {
        // A gap cannot happen on one connection; where it does, starting over is what is certain.
        this.sequence = -1;
        this.socket.close();
        return;
      }
      this.sequence = message.seq;
    }
    const isNew = !this.up;
    this.up = true;
    this.handle(message);
    if (isNew) this.changed(true);
  }

  lost() {
    const was = this.up;
    this.up = false;
    if (was) this.changed(false);
    if (this.timer) return;
    this.retryAt = performance.now() + this.wait;
    this.timer = setTimeout(() => this.open(), this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
  }

  retry() {
    if (this.timer) {
      this.wait = FIRST_WAIT_MS;
      this.open();
    }
  }

  /* A connection that says nothing is as good as none: a suspended machine, a dead proxy. */
  watch() {
    const quiet = performance.now() - Math.max(this.heard, this.opened) > SILENCE_MS;
    if (quiet && !this.timer) {
      const socket = this.socket;
      this.lost();
      socket.close();
    }
  }
}
