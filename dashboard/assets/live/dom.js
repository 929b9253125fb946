/* Dom: small hands for writing into the page without touching what has not changed. */

export function text(element, value) {
  if (element && element.textContent !== value) element.textContent = value;
}

export function attribute(element, name, value) {
  if (!element) return;
  if (value === null || value === false || value === undefined) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

export function hidden(element, value) {
  if (element && element.hidden !== value) element.hidden = value;
}

/* make("b.strong", "text", child, ...): an element with classes and children. */
export function make(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/* Children by key, in the rows' order, so that focus and hover survive updates. */
export function keyed(place, rows, keyOf, tag, fill) {
  const known = new Map([...place.children].map((element) => [element.dataset.row, element]));
  rows.forEach((row, i) => {
    const key = String(keyOf(row));
    let element = known.get(key);
    known.delete(key);
    if (!element) {
      element = make(tag);
      element.dataset.row = key;
    }
    if (place.children[i] !== element) place.insertBefore(element, place.children[i] || null);
    fill(element, row);
  });
  for (const element of known.values()) element.remove();
}

export function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const byId = (id) => document.getElementById(id);
