// What pages are made of: buttons, fields, dialogs, tables, notices.

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

let numbers = 0;
export const newId = (word = "id") => `${word}-${(numbers += 1)}`;

/**
 * A button.
 * @param {string} text
 * @param {(event: Event) => any} act shown as busy while its promise is open; its failure becomes a notice.
 */
export function button(text, act, { kind = "", name = null, drawing = null, type = "button", ...rest } = {}) {
  const made = h(
    "button",
    { type, class: `button ${kind}`, "aria-label": name, title: name, ...rest },
    drawing && icon(drawing),
    text && h("span", {}, text),
  );
  if (act) made.addEventListener("click", (event) => busy(made, () => act(event)));
  return made;
}

/** A button that is a drawing alone; `name` is what it does. */
export const iconButton = (drawing, name, act, about = {}) =>
  button("", act, { kind: "quiet icon-only", name, drawing, ...about });

/** Run something while a button is off. */
export async function busy(element, act) {
  if (element.getAttribute("aria-busy") === "true") return;
  element.setAttribute("aria-busy", "true");
  try {
    await act();
  } catch (error) {
    complain(error);
  } finally {
    element.removeAttribute("aria-busy");
  }
}

/** A field with its label; `input` is its element. */
export function field(label, input, hint = "") {
  const id = input.id || newId("field");
  input.id = id;
  const about = hint && h("p", { class: "hint", id: `${id}-hint` }, hint);
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, about);
}

export const input = (about = {}) => h("input", { type: "text", autocomplete: "off", ...about });

/** A field by which a list is narrowed to what it says. @param {(text: string) => any} act once nobody types. */
export function searchInput(name, placeholder, act) {
  const made = input({ type: "search", placeholder, "aria-label": name });
  let timer = null;
  made.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => act(made.value.trim()), 200);
  });
  return made;
}

/**
 * A form that is sent once at a time; why it could not be stands in it, above the last of its children.
 * @param {() => any} act
 */
export function form(act, ...children) {
  const told = h("div", { class: "told" });
  const made = h("form", {}, children.slice(0, -1), told, children.at(-1));
  let sending = false;
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return;
    sending = true;
    const go = event.submitter;
    go?.setAttribute("aria-busy", "true");
    fill(told);
    try {
      await act();
    } catch (error) {
      if (error.name !== "AbortError") fill(told, notice(error.message));
    } finally {
      sending = false;
      go?.removeAttribute("aria-busy");
    }
  });
  return made;
}

/** A choice; `options` are [value, text] or texts. */
export function select(options, about = {}) {
  const made = h("select", about);
  setOptions(made, options);
  if (about.value !== undefined) made.value = about.value;
  return made;
}

function setOptions(element, options) {
  const before = element.value;
  const pairs = options.map((one) => (Array.isArray(one) ? one : [one, one]));
  fill(element, pairs.map(([value, text]) => h("option", { value }, text)));
  if (pairs.some(([value]) => value === before)) element.value = before;
}

/** A notice in the page: something failed, or wants attention. */
export function notice(text, kind = "error") {
  return h("p", { class: `notice ${kind}`, role: kind === "error" ? "alert" : null }, icon(kind === "good" ? "check" : "warn"), h("span", {}, text));
}

/** Say for some seconds that something failed. */
export function complain(error) {
  if (error && error.name === "AbortError") return;
  toast(error && error.message ? error.message : String(error), "error");
}

export function toast(text, kind = "good") {
  const shown = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : null }, icon(kind === "good" ? "check" : "warn"), h("span", {}, text));
  shown.append(iconButton("close", "Close this notice", () => shown.remove()));
  const over = [...document.querySelectorAll("dialog[open]")].at(-1); // outside of which nothing can be read or pressed
  (over?.querySelector(".toasts") || pageToasts()).append(shown);
  setTimeout(() => shown.remove(), kind === "error" ? 12_000 : 5_000);
}

const pageToasts = () => document.getElementById("toasts");

/** Take away what lies over the page, without an answer: it is of who was signed in. */
export function clearOver() {
  for (const box of document.querySelectorAll("dialog")) {
    box.close();
    box.remove();
  }
  fill(pageToasts());
}

/** What stands where there is nothing yet. */
export function empty(title, text, ...acts) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), acts.length ? h("div", { class: "row" }, acts) : null);
}

export const loading = (text = "Loading…") => h("p", { class: "loading", role: "status" }, text);

/**
 * A dialog over the page.
 * @param {string} title
 * @param {(close: (result?: any) => void) => any[]} content
 * @param {{kind?: "" | "drawer" | "once"}} how `drawer`: a press beside it closes it; `once`: only its buttons do.
 * @returns {Promise<any>} what it was closed with.
 */
export function dialog(title, content, { kind = "" } = {}) {
  return new Promise((resolve) => {
    const id = newId("dialog");
    const box = h("dialog", { class: `dialog ${kind}`, "aria-labelledby": id });
    let result;
    const close = (value) => {
      result = value;
      box.close();
    };
    const head = h("header", {}, h("h2", { id }, title), iconButton("close", "Close", () => close()));
    box.append(head, h("div", { class: "dialog-body" }, content(close)), h("div", { class: "toasts", "aria-live": "polite" }));
    box.addEventListener("close", () => {
      pageToasts().append(...box.querySelectorAll(".toast"));
      box.remove();
      resolve(result);
    });
    if (kind === "once") box.addEventListener("cancel", (event) => event.preventDefault());
    let pressed = null; // a text that is selected with the mouse may end beside the dialog
    box.addEventListener("pointerdown", (event) => (pressed = event.target));
    box.addEventListener("click", (event) => kind === "drawer" && event.target === box && pressed === box && close());
    document.body.append(box);
    box.showModal();
  });
}

/** Ask before what cannot be undone. @returns {Promise<boolean>} */
export async function confirmed(title, text, act, { typed = null } = {}) {
  const answer = await dialog(title, (close) => {
    const word = typed && input({ required: true });
    const go = button(act, null, { kind: "danger", type: "submit" });
    const submit = () => {
      if (typed && word.value !== typed) throw new Error(`type ${typed} to go on`);
      close(true);
    };
    return [form(submit, h("p", {}, text), typed && field(`Type ${typed} to go on`, word), h("div", { class: "row end" }, button("Keep it", () => close(false)), go))];
  });
  return answer === true;
}

/** A text to be copied. */
export function code(text, name = "Copy") {
  const copy = button("Copy", () => copied(text), { kind: "small", name, drawing: "copy" });
  return h("div", { class: "code" }, h("pre", { tabindex: "0" }, h("code", {}, text)), copy);
}

export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without HTTPS a page may not reach the clipboard by itself.
    const held = h("textarea", { class: "visually-hidden", readonly: true }, text);
    (document.querySelector("dialog[open]") || document.body).append(held);
    held.select();
    document.execCommand("copy");
    held.remove();
  }
  toast("Copied");
}

/** Tabs; `pages` are [name, title, () => nodes]. The address's last part says which is shown. */
export function tabs(pages, shown, onChange, label) {
  const panel = h("div", { role: "tabpanel", id: newId("panel"), tabindex: "0", class: "panel" });
  const made = pages.map(([name, title]) =>
    h("button", { type: "button", role: "tab", id: newId("tab"), "data-name": name, "aria-controls": panel.id, class: "tab" }, title),
  );
  const show = (name) => {
    for (const tab of made) {
      const on = tab.dataset.name === name;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      if (on) panel.setAttribute("aria-labelledby", tab.id);
    }
    fill(panel, pages.find(([each]) => each === name)[2]());
  };
  const go = (tab) => {
    tab.focus();
    show(tab.dataset.name);
    onChange?.(tab.dataset.name);
  };
  for (const [index, tab] of made.entries()) {
    tab.addEventListener("click", () => go(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) go(made[(index + step + made.length) % made.length]);
    });
  }
  const first = pages.some(([name]) => name === shown) ? shown : pages[0][0];
  queueMicrotask(() => show(first));
  return [h("div", { role: "tablist", class: "tabs", "aria-label": label }, made), panel];
}

/** A table; `rows` are lists of nodes or texts, `columns` are titles, or [title, class]. */
export function table(caption, columns, rows, { none = "Nothing yet." } = {}) {
  if (!rows.length) return h("p", { class: "muted" }, none);
  const named = columns.map((column) => (Array.isArray(column) ? column : [column, ""]));
  return h(
    "div",
    { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", {}, h("tr", {}, named.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => h("td", { class: named[at][1] }, cell))))),
    ),
  );
}

/** A figure with its name. */
export function figure(name, value, about = "") {
  return h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, value), about && h("dd", { class: "about" }, about));
}

export const figures = (...children) => h("dl", { class: "figures" }, children);

export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);

/** How much of something is used, 0 to 1. */
export function meter(name, share, text) {
  const used = Math.max(0, Math.min(1, share));
  const bar = h("span", { class: `bar ${used > 0.9 ? "bad" : used > 0.7 ? "warn" : ""}` });
  bar.style.width = `${100 * used}%`;
  const about = { class: "meter", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * used), "aria-valuetext": text };
  return h("div", { class: "metered" }, h("div", { class: "metered-text" }, h("span", {}, name), h("span", { class: "muted" }, text)), h("div", about, bar));
}

export const section = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), children);
