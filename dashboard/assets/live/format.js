/* Format: numbers, ages and times as people read them. */

const MINUS = "\u2212";
const grouped = new Map();

/* A number with fixed decimals and thousands' separators; "–" where there is none. */
export function number(value, decimals = 0, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (!grouped.has(decimals)) {
    grouped.set(decimals, new Intl.NumberFormat("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
  }
  const text = grouped.get(decimals).format(Math.abs(value));
  const isZero = !/[1-9]/.test(text);
  const sign = value < 0 && !isZero ? MINUS : signed && !isZero ? "+" : "";
  return sign + text;
}

/* A key figure as [text, unit]: large ones in thousands, so that a tile's width is enough. */
export function figure(value, spec) {
  if (value !== null && Math.abs(value) >= 99999.5) return [number(value / 1000, 1, spec.signed), `k ${spec.unit}`];
  if (value !== null && Math.abs(value) >= 9999.5 && spec.unit === "orders/s") return [number(value / 1000, 1, spec.signed), `k ${spec.unit}`];
  return [number(value, spec.decimals, spec.signed), spec.unit];
}

/* Up to three significant digits, for values without decimals of their own. */
export function brief(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${number(value / 1e6, 1)} M`;
  if (size >= 1e4) return `${number(value / 1e3, 1)} k`;
  if (size > 0 && size < 1) return (value < 0 ? MINUS : "") + size.toPrecision(3);
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 0);
}

export function bytes(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (Math.abs(value) >= 1024 && step < units.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${number(value, step === 0 ? 0 : 1)} ${units[step]}`;
}

/* How old something is: "0.1 s", "12 s", "3 m 06 s", "2 h 10 m". */
export function age(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 9.95) return `${Math.max(seconds, 0).toFixed(1)} s`;
  return span(seconds);
}

export function span(seconds) {
  const whole = Math.max(Math.round(seconds), 0);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${pad(whole % 60)} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} m`;
  return `${Math.floor(whole / 86400)} d ${pad(Math.floor((whole % 86400) / 3600))} h`;
}

/* Time of day, UTC. */
export function clock(ms) {
  return new Date(ms).toISOString().slice(11, 19);
}

export function pad(value) {
  return String(value).padStart(2, "0");
}
