// The little of Markdown that models write, as elements: paragraphs, headings, lists, code, bold, emphasis.
// Addresses stay text: what a model names is no place of ours to lead anybody to.

import { h } from "./dom.js";
import { code } from "./parts.js";

const FENCE = /^\s*```/;
const ITEM = /^\s*(?:[-*]|\d{1,3}[.)])\s+/;
const HEADING = /^#{1,6}\s+/;
const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*)/;

/** @returns {Node[]} */
export function markdown(text) {
  const lines = text.split("\n");
  const found = [];
  let at = 0;
  const take = (whole) => {
    const taken = [];
    while (at < lines.length && whole(lines[at])) taken.push(lines[at++]);
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at];
    if (FENCE.test(line)) {
      at += 1;
      found.push(code(take((each) => !FENCE.test(each)).join("\n"), "Copy this code"));
      at += 1;
    } else if (HEADING.test(line)) {
      at += 1;
      found.push(h("p", { class: "md-heading" }, inline(line.replace(HEADING, ""))));
    } else if (ITEM.test(line)) {
      const number = line.match(/^\s*(\d+)/)?.[1]; // paragraphs stand between items of one list, too
      found.push(h(number ? "ol" : "ul", { start: number }, take((each) => ITEM.test(each)).map((each) => h("li", {}, inline(each.replace(ITEM, ""))))));
    } else if (line.trim() === "") {
      at += 1;
    } else {
      const plain = (each) => each.trim() !== "" && !FENCE.test(each) && !ITEM.test(each) && !HEADING.test(each);
      found.push(h("p", {}, inline(take(plain).join("\n"))));
    }
  }
  return found;
}

function inline(text) {
  return text.split(INLINE).map((part) => {
    if (/^`[^`]+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    if (/^\*\*[^*]+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^\*[^*]+\*$/.test(part)) return h("em", {}, part.slice(1, -1));
    return part;
  });
}
