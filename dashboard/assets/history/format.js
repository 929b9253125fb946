/* Format: values with their unit, of any size. */

const MINUS = "\u2212";
const made = new Map();

function formatter(options) {
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.NumberFormat("en", options));
  return made.get(key);
}

/* Five significant digits (or as many), and never fewer than the whole number has; "–" where there is none. */
export function quantity(value, signed = false, digits = 5) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  let words;
  if (size !== 0 && (size < 1e-6 || size >= 1e15)) words = size.toExponential(3);
  else if (size >= 1e5) words = formatter({ maximumFractionDigits: 0 }).format(size);
  else words = formatter({ maximumSignificantDigits: Math.max(digits, size >= 1e4 ? 5 : size >= 1e3 ? 4 : 3) }).format(size);
  const sign = value < 0 ? MINUS : signed && value > 0 ? "+" : "";
  return sign + words;
}

/* "312.4 µs"; without a known unit the number alone. */
export function withUnit(value, unit, signed = false) {
  const words = quantity(value, signed);
  return words === "–" || !unit || unit === "no unit" ? words : `${words}\u202f${unit}`;
}

/* The same in four digits, for a legend. */
export function brief(value, unit) {
  const words = quantity(value, false, 4);
  return words === "–" || !unit || unit === "no unit" ? words : `${words}\u202f${unit}`;
}

export function utc(t, withDate = true) {
  const text = new Date(t).toISOString();
  return withDate ? `${text.slice(0, 10)} ${text.slice(11, 19)}` : text.slice(11, 19);
}

/* How long: "4 s", "3 min 06 s", "2 h 10 min". */
export function lasting(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
