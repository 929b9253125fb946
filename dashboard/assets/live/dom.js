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

export function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const byId = (id) => document.getElementById(id);
