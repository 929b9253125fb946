/* Vocabulary: metrics, functions and labels that can be asked for; labels and their values come from the query API. */

const FRESH_MS = 60000;
const MOST = 60;
const DURATIONS = ["30s", "1m", "5m", "15m", "1h", "6h", "1d", "7d"];

export class Vocabulary {
  constructor() {
    this.metrics = [];
    this.names = new Map(); // every stored name, a histogram's parts too
    this.functions = new Map();
    this.keywords = new Map();
    this.asked = new Map();
    this.taken = -Infinity;
    this.coming = false; // the answer that is on its way, or false
  }

  /* Ask the server, unless it was asked a moment ago. True where something came. Who asks meanwhile waits for the same
     answer: without it there is nothing to suggest, and no other key may follow. */
  async refresh() {
    if (performance.now() - this.taken < FRESH_MS) return this.coming;
    this.taken = performance.now();
    this.coming = this.fetched();
    const came = await this.coming;
    this.coming = false;
    return came;
  }

  async fetched() {
    try {
      const answer = await fetch("/api/desk/vocabulary");
      if (!answer.ok) throw new Error(String(answer.status));
      this.take(await answer.json());
      return true;
    } catch {
      this.taken = -Infinity; // completion is a help, not a need: the next key tries again
      return false;
    }
  }

  take(said) {
    this.metrics = said.metrics;
    this.names.clear();
    for (const metric of said.metrics) {
      for (const part of metric.parts) this.names.set(part, metric);
      if (!metric.parts.length) this.names.set(metric.name, metric);
    }
    this.functions = new Map([...said.functions, ...said.aggregations].map((word) => [word.name, word]));
    this.keywords = new Map(said.keywords.map((word) => [word.name, word]));
    this.aggregations = new Set(said.aggregations.map((word) => word.name));
  }

  /* Suggestions for a context: [{text, insert, kind, note, help}]. */
  async suggest(context, text, signal) {
    await this.refresh();
    if (context.kind === "name") return ranked(this.words(), context.prefix);
    if (context.kind === "duration") return ranked(DURATIONS.map((one) => item(one, "duration", "", "")), context.prefix);
    if (context.kind === "label") return ranked(await this.labels(context, text, signal), context.prefix);
    if (context.kind === "value") return ranked(await this.values(context, signal), context.prefix);
    return [];
  }

  words() {
    if (this.made === this.metrics) return this.all;
    const metrics = [...this.names].map(([name, metric]) =>
      ({ ...item(name, "metric", described(metric, name), metric.help), late: metric.series === 0 }),
    );
    const functions = [...this.functions.values()].map((word) => ({
      ...item(word.name, this.aggregations.has(word.name) ? "aggregation" : "function", word.form, word.help),
      insert: `${word.name}(`,
    }));
    const keywords = [...this.keywords.values()].map((word) => item(word.name, "keyword", word.form, word.help));
    this.made = this.metrics;
    // Functions stand in the order of their use, which wins over their length.
    [...functions, ...keywords].forEach((one, at) => Object.assign(one, { order: at }));
    this.all = [...metrics, ...functions, ...keywords];
    return this.all;
  }

  async labels(context, text, signal) {
    const metric = context.metric || (context.group ? [...this.names.keys()].find((name) => text.includes(name)) : "") || "";
    const found = await this.ask("labels", selector(metric, context.matchers), signal);
    return found.filter((name) => name !== "__name__").map((name) => item(name, "label", metric ? `label of ${metric}` : "label", "", context.group ? name : `${name}="`));
  }

  async values(context, signal) {
    if (!context.label) return [];
    const found = await this.ask(`label/${encodeURIComponent(context.label)}/values`, selector(context.metric, context.matchers), signal);
    return found.map((value) => item(value, "value", `value of ${context.label}`, "", escaped(value, context.quote)));
  }

  async ask(path, match, signal) {
    const query = match ? `?match[]=${encodeURIComponent(match)}` : "";
    const key = path + query;
    const known = this.asked.get(key);
    if (known && performance.now() - known.at < FRESH_MS) return known.data;
    try {
      const answer = await fetch(`/api/v1/${path}${query}`, { signal });
      const said = await answer.json();
      const data = said.status === "success" ? said.data : [];
      this.asked.set(key, { at: performance.now(), data });
      return data;
    } catch {
      return [];
    }
  }
}

function item(text, kind, note, help, insert = text) {
  return { text, insert, kind, note, help };
}

function escaped(value, quote) {
  return quote === "`" ? value : value.replace(/\\/g, "\\\\").replaceAll(quote, `\\${quote}`).replace(/\n/g, "\\n");
}

function selector(metric, matchers) {
  if (!metric && !matchers.length) return "";
  return `${metric}${matchers.length ? `{${matchers.join(",")}}` : ""}`;
}

/* "gauge, seconds, 4 series". */
export function described(metric, name = metric.name) {
  const isCount = metric.kind === "histogram" && (name.endsWith("_bucket") || name.endsWith("_count"));
  const unit = isCount ? "count" : metric.unit || (metric.kind === "unknown" ? "no unit" : "count");
  const series = metric.series ? `${metric.series} series` : "nothing stored yet";
  return `${metric.kind}, ${unit}, ${series}`;
}

/* Those that fit what is typed: beginning with it, then with a word that begins so, then having it anywhere. */
export function ranked(items, prefix) {
  const wanted = prefix.toLowerCase();
  const parts = wanted.split(/[_\s]+/).filter(Boolean);
  const scored = [];
  for (const one of items) {
    const text = one.text.toLowerCase();
    let score = 0;
    if (wanted) {
      if (text === wanted) score = 6;
      else if (text.startsWith(wanted)) score = one.kind === "metric" ? 4 : 5;
      else if (text.includes(`_${wanted}`)) score = 3;
      else if (text.includes(wanted)) score = 2;
      else if (parts.length && parts.every((part) => text.includes(part))) score = 1;
      if (!score) continue;
    }
    scored.push([score - (one.late ? 0.5 : 0), one]);
  }
  scored.sort((a, b) => b[0] - a[0] || (a[1].order ?? MOST) - (b[1].order ?? MOST) || (wanted ? a[1].text.length - b[1].text.length : 0) || a[1].text.localeCompare(b[1].text));
  return scored.slice(0, MOST).map(([, one]) => one);
}
