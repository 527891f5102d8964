// Small drawings of our own, on a grid of 20 by 20, in the colour of the text beside them.

import { s } from "./dom.js";

const PATHS = {
  start: ["M3 9.500 10 3.500l7 6", "M5 8.500V16.500h10V8.500"],
  chat: ["M3.500 4.500h13v9h-7.500l-3.500 3v-3h-2z"],
  documents: ["M5 2.500h7l3.500 3.500v11.500h-10.500z", "M12 2.500v3.500h3.500", "M7.500 10h5M7.500 13h5"],
  usage: ["M3.500 16.500h13", "M5.500 13.500v-4M10 13.500v-9M14.500 13.500v-6"],
  keys: ["M7 10.500a3 3 0 1 0 0 .01z", "M10 10.500h7.500v3M14.500 10.500v2.500"],
  operations: ["M2.500 10.500h3.500l2-6 4 11 2-5h3.500"],
  theme: ["M10 3.500a6.500 6.500 0 1 0 0 13z", "M10 3.500a6.500 6.500 0 0 1 0 13"],
  out: ["M8 3.500h-4v13h4", "M8.500 10h8M13.500 7l3 3-3 3"],
  menu: ["M3.500 6h13M3.500 10h13M3.500 14h13"],
  close: ["M5 5l10 10M15 5l-10 10"],
  send: ["M10 16.500v-13M4.500 9l5.500-5.500 5.500 5.500"],
  stop: ["M5.500 5.500h9v9h-9z"],
  copy: ["M7.500 7.500h9v9h-9z", "M12.500 7.500v-4h-9v9h4"],
  retry: ["M16 10a6 6 0 1 1-2-4.500", "M14.500 2.500v3.500h-3.500"],
  edit: ["M3.500 16.500l1-4 8.500-8.500 3 3-8.500 8.500z"],
  up: ["M3.500 9h2.500v7.500h-2.500zM6 9l3.500-6c1.500 0 2 1 2 2v3h4.500l-1.500 7.500c-.2.700-.7 1-1.500 1h-7"],
  down: ["M3.500 11h2.500v-7.500h-2.500zM6 11l3.500 6c1.500 0 2-1 2-2v-3h4.500l-1.500-7.500c-.2-.7-.7-1-1.500-1h-7"],
  plus: ["M10 4v12M4 10h12"],
  trash: ["M3.500 5.500h13M8 5.500v-2h4v2M5.500 5.500l.7 11h7.600l.7-11"],
  upload: ["M10 13.500v-10M6 7l4-3.500 4 3.500", "M3.500 13.500v3h13v-3"],
  search: ["M8.500 3.500a5 5 0 1 0 .01 0z", "M12.500 12.500l4 4"],
  check: ["M4 10.500l4 4 8-9"],
  warn: ["M10 3l7.500 13.500h-15z", "M10 8v4M10 14v.5"],
};

/** One of them; it says nothing to who listens, so its button needs a name. */
export function icon(name) {
  const about = { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" };
  return s("svg", about, PATHS[name].map((d) => s("path", { d })));
}

/** The mark of the house. */
export function mark() {
  const about = { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" };
  const flame = "M16 5c1 5 7 7 7 14a7 7 0 0 1-14 0c0-3 1.500-5 3-6 0 2 1 3.500 2.500 4C14 12 14 8 16 5z";
  return s("svg", about, s("rect", { width: 32, height: 32, rx: 7 }), s("path", { d: flame }));
}
