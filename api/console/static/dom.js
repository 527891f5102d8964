// Elements, made without markup: every text becomes a text node, so nothing that anybody wrote can be anything else.

const SVG = "http://www.w3.org/2000/svg";
const ADDRESS = /^(?:https?:\/\/|\/(?![\/\\])|#)/;

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [about] `class`, attributes, and functions under `on`; null and false are left out.
 * @param {...any} children nodes, texts, lists of them; null and false are left out.
 */
export function h(tag, about = {}, ...children) {
  return filled(document.createElement(tag), about, children);
}

/** Make an element of SVG. */
export function s(tag, about = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), about, children);
}

/** Put these children in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Say something to who listens to the page rather than sees it. */
export function tell(text) {
  document.getElementById("told").textContent = text;
}

function filled(element, about, children) {
  for (const [name, value] of Object.entries(about)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    } else if (name === "value" || name === "checked" || name === "selected") {
      element[name] = value;
    } else {
      set(element, name, value === true ? "" : String(value));
    }
  }
  element.append(...nodes(children));
  return element;
}

function set(element, name, value) {
  if (/^on|^style$|^srcdoc$/i.test(name)) throw new Error(`${name} is no attribute for a text`);
  if (/href$|^src$|^action$/i.test(name) && !ADDRESS.test(value)) throw new Error(`no address for ${name}`);
  element.setAttribute(name, value);
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
