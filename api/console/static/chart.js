// Bars and lines in SVG; who listens gets the same figures as a table.

import { fill, h, s } from "./dom.js";

const WIDE = 640;
const HIGH = 200;
const EDGE = { left: 52, right: 8, top: 12, bottom: 26 };

/**
 * Bars over names.
 * @param {string} title
 * @param {{name: string, value: number, about: string}[]} bars
 * @param {(value: number) => string} shown
 */
export function barChart(title, bars, shown) {
  const { grid, y, wide } = frame(Math.max(0, ...bars.map((bar) => bar.value)), shown);
  const step = wide / Math.max(1, bars.length);
  const every = Math.ceil(bars.length / 8);
  const marks = bars.map((bar, at) => {
    const x = EDGE.left + at * step;
    const about = { class: "bar", x: x + step * 0.15, width: Math.max(1, step * 0.7), y: y(bar.value), height: Math.max(0, y(0) - y(bar.value)), rx: Math.min(3, step * 0.2) };
    const text = at % every === 0 ? s("text", { x: x + step / 2, y: HIGH - 8, "text-anchor": "middle" }, bar.name) : null;
    return s("g", {}, s("rect", about, s("title", {}, `${bar.about}: ${shown(bar.value)}`)), text);
  });
  return drawing(title, [grid, marks], bars.map((bar) => [bar.about, shown(bar.value)]));
}

/**
 * Lines over moments; a value of null is a gap.
 * @param {{name: string, values: (number | null)[]}[]} lines
 * @param {string[]} names of the moments
 */
export function lineChart(title, lines, names, shown) {
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const { grid, y, wide } = frame(Math.max(0, ...values), shown);
  const x = (at) => EDGE.left + (names.length < 2 ? wide / 2 : (at * wide) / (names.length - 1));
  const every = Math.ceil(names.length / 8);
  const marks = lines.map((line, index) => {
    let d = "";
    line.values.forEach((value, at) => {
      if (value !== null) d += `${d && line.values[at - 1] !== null ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    const dots = line.values.map((value, at) => value !== null && names.length < 40 && s("circle", { cx: x(at), cy: y(value), r: 2.5 }, s("title", {}, `${line.name}, ${names[at]}: ${shown(value)}`)));
    return s("g", { class: `line line-${index}` }, s("path", { d }), dots);
  });
  const below = names.map((name, at) => at % every === 0 && s("text", { x: x(at), y: HIGH - 8, "text-anchor": at === 0 ? "start" : "middle" }, name));
  const rows = names.map((name, at) => [name, ...lines.map((line) => (line.values[at] === null ? "–" : shown(line.values[at])))]);
  const chart = drawing(title, [grid, below, marks], rows, ["", ...lines.map((line) => line.name)]);
  const legend = lines.length > 1 && h("ul", { class: "legend", "aria-hidden": "true" }, lines.map((line, index) => h("li", { class: `line-${index}` }, line.name)));
  return h("div", {}, chart, legend);
}

/** A small line without axes. */
export function sparkline(values, name) {
  const most = Math.max(1e-9, ...values);
  const d = values.map((value, at) => `${at ? "L" : "M"}${((at * 120) / Math.max(1, values.length - 1)).toFixed(1)} ${(30 - (28 * value) / most).toFixed(1)}`).join("");
  return s("svg", { class: "spark", viewBox: "0 0 120 32", role: "img", "aria-label": name, preserveAspectRatio: "none" }, s("path", { d }));
}

function frame(most, shown) {
  const top = rounded(most);
  const wide = WIDE - EDGE.left - EDGE.right;
  const y = (value) => EDGE.top + (HIGH - EDGE.top - EDGE.bottom) * (1 - value / top);
  const grid = [0, 0.5, 1].map((share) =>
    s("g", { class: "grid" }, s("line", { x1: EDGE.left, x2: WIDE - EDGE.right, y1: y(top * share), y2: y(top * share) }), s("text", { x: EDGE.left - 8, y: y(top * share) + 4, "text-anchor": "end" }, shown(top * share))),
  );
  return { grid, y, wide };
}

/** The next of 1, 2, 5, 10 and so on. */
function rounded(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1, 2, 5, 10].find((step) => step * unit >= value);
}

function drawing(title, marks, rows, columns = ["", title]) {
  const svg = s("svg", { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": title }, marks);
  const table = h("table", { class: "visually-hidden" }, h("caption", {}, title), h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))));
  return fill(h("div", { class: "chart-box" }), svg, table);
}
