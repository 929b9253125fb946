/* Language: PromQL cut into words, and what may stand at the caret. It judges nothing: the server's parser does. */

const TOKEN = /(?<comment>#[^\n]*)|(?<string>"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|`[^`]*`?)|(?<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:ms|[smhdwy])?(?:\d+(?:ms|[smhdwy]))*)|(?<name>[a-zA-Z_:][\w:]*)|(?<space>\s+)|(?<sign>[\s\S])/gy;
const GROUPING = new Set(["by", "without", "on", "ignoring", "group_left", "group_right"]);

/* [{kind, text, start, end}] covering the whole text. */
export function tokens(text) {
  const out = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match && match[0]; match = TOKEN.exec(text)) {
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    out.push({ kind, text: match[0], start: match.index, end: match.index + match[0].length });
  }
  return out;
}

/* What the caret is in: {kind: "name" | "label" | "value" | "duration" | "none", from, prefix, metric, label, matchers}. */
export function contextAt(text, caret) {
  const before = tokens(text.slice(0, caret));
  const stack = [];
  const words = before.filter((token) => token.kind !== "space" && token.kind !== "comment");
  words.forEach((token, i) => {
    if (token.kind !== "sign") return;
    const previous = words[i - 1];
    if ("([{".includes(token.text)) {
      stack.push({ sign: token.text, at: i, owner: previous && previous.kind === "name" ? previous.text : "" });
    } else if (")]}".includes(token.text)) stack.pop();
  });
  const last = before[before.length - 1];
  const inside = stack[stack.length - 1];
  const none = { kind: "none", from: caret, prefix: "" };
  if (last && last.kind === "comment") return none;
  if (last && last.kind === "string" && !closed(last.text)) {
    if (!inside || inside.sign !== "{") return none;
    const [label, operator] = [words[words.length - 3], words[words.length - 2]];
    return {
      kind: "value",
      from: last.start + 1,
      prefix: last.text.slice(1),
      metric: inside.owner,
      label: label && label.kind === "name" ? label.text : operatorLabel(words),
      matchers: matchersOf(words.slice(inside.at + 1)),
      quote: last.text[0],
    };
  }
  const typed = last && last.kind === "name" ? last : null;
  const at = { from: typed ? typed.start : caret, prefix: typed ? typed.text : "" };
  if (inside && inside.sign === "{") {
    const previous = words[words.length - (typed ? 2 : 1)];
    const expects = previous && (previous.text === "{" || previous.text === ",");
    return expects ? { ...at, kind: "label", metric: inside.owner, matchers: matchersOf(words.slice(inside.at + 1)) } : none;
  }
  if (inside && inside.sign === "[") {
    const number = last && last.kind === "number" ? last : null;
    return { kind: "duration", from: number ? number.start : caret, prefix: number ? number.text : "" };
  }
  if (inside && inside.sign === "(" && GROUPING.has(inside.owner)) {
    return { ...at, kind: "label", metric: "", matchers: [], group: true };
  }
  if (last && last.kind === "string") return none;
  return last && last.kind === "number" ? none : { ...at, kind: "name" };
}

/* Of `a!="x`, `a=~"x` the label stands three signs back. */
function operatorLabel(words) {
  const found = words.slice(-4, -1).find((token) => token.kind === "name");
  return found ? found.text : "";
}

function closed(text) {
  if (text.length < 2 || text[text.length - 1] !== text[0]) return false;
  const slashes = text.slice(0, -1).match(/\\*$/)[0].length;
  return text[0] === "`" || slashes % 2 === 0;
}

/* The complete conditions among words: label op "value". */
function matchersOf(words) {
  const out = [];
  for (let i = 0; i < words.length; i += 1) {
    if (words[i].kind !== "name") continue;
    let j = i + 1;
    let operator = "";
    while (j < words.length && words[j].kind === "sign" && "=!~".includes(words[j].text)) operator += words[j++].text;
    if (["=", "!=", "=~", "!~"].includes(operator) && words[j] && words[j].kind === "string" && closed(words[j].text)) {
      out.push(`${words[i].text}${operator}${words[j].text}`);
    }
  }
  return out;
}

/* The names of a text that are metrics, by the vocabulary. */
export function metricsIn(text, known) {
  const words = tokens(text).filter((token) => token.kind !== "space");
  return words.filter((token, i) => token.kind === "name" && known.has(token.text) && (!words[i + 1] || words[i + 1].text !== "(")).map((token) => token.text);
}

/* How each word is coloured: metric, function, label, string, number, keyword, comment, or "" for signs. */
export function inks(text, vocabulary) {
  const out = [];
  const all = tokens(text);
  let braces = 0;
  all.forEach((token, i) => {
    let ink = token.kind === "sign" || token.kind === "space" ? "" : token.kind;
    if (token.text === "{") braces += 1;
    if (token.text === "}") braces -= 1;
    if (token.kind === "name") {
      const next = all.slice(i + 1).find((one) => one.kind !== "space");
      if (braces > 0) ink = "label";
      else if (vocabulary.keywords.has(token.text)) ink = "keyword";
      else if (vocabulary.functions.has(token.text) && next && (next.text === "(" || next.kind === "name")) ink = "function";
      else ink = "metric";
    }
    out.push({ ...token, ink });
  });
  return out;
}
