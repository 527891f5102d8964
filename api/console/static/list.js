// A long list: pages are fetched as one scrolls there, and only the rows in sight are in the document.

import { get, withQuery } from "./api.js";
import { fill, h, tell } from "./dom.js";
import { whole } from "./format.js";
import { button, notice } from "./parts.js";

const SPARE = 12; // rows kept above and below what is in sight
const PAGE = 100;
const FOCUSABLE = "button, a[href]";

/**
 * @param {object} how
 * @param {string} how.label what is listed, for who listens.
 * @param {string} how.path of the API's list.
 * @param {[string, string][]} how.columns title and class of each.
 * @param {(item: any, list: any) => any[]} how.cells of one item.
 * @param {(query: Record<string, string>) => Node} how.none what stands where there is nothing.
 * @param {number} how.rowHeight in CSS pixels.
 */
export function longList({ label, path, columns, cells, none, rowHeight = 48 }) {
  const items = [];
  let query = {};
  let more = true;
  let failed = null; // why no more of them came
  let after = null;
  let turn = 0; // of the question that the list answers; what an older one brings is dropped
  let fetching = null;
  let drawn = "";

  const head = h("div", { role: "row", class: "list-row list-head", "aria-rowindex": 1 }, columns.map(([title, kind]) => h("div", { role: "columnheader", class: kind }, title)));
  const body = h("div", { class: "list-body", role: "rowgroup" });
  const box = h("div", { class: "list", role: "table", "aria-label": label, "aria-colcount": columns.length }, h("div", { role: "rowgroup" }, head), body);
  const scroller = h("div", { class: "list-scroller", tabindex: "0", role: "region", "aria-label": label }, box);
  const foot = h("div", { class: "list-foot muted", role: "status" });
  const element = h("div", { class: "long-list" }, scroller, foot);

  async function fetchMore() {
    if (!more || failed || fetching === turn) return;
    const mine = (fetching = turn);
    try {
      const page = await get(withQuery(path, { ...query, limit: PAGE, after }));
      if (mine !== turn) return;
      items.push(...page.data);
      after = page.last_id;
      more = page.has_more;
      draw(true);
    } catch (error) {
      if (mine !== turn) return;
      failed = error;
      draw(true);
    } finally {
      if (fetching === mine) fetching = null;
    }
    if (mine === turn && nearEnd()) fetchMore();
  }

  const again = () => {
    failed = null;
    return fetchMore();
  };

  const nearEnd = () => more && !failed && scroller.scrollTop + scroller.clientHeight > (items.length - 2 * SPARE) * rowHeight;

  function draw(anew = false) {
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - SPARE);
    const count = Math.ceil((scroller.clientHeight || 600) / rowHeight) + 2 * SPARE;
    const last = Math.min(items.length, first + count);
    const now = `${first}-${last}`;
    if (!anew && now === drawn) return;
    drawn = now;
    body.style.height = `${items.length * rowHeight}px`;
    box.setAttribute("aria-rowcount", more ? -1 : items.length + 1);
    const held = body.contains(document.activeElement) ? document.activeElement : null;
    const heldRow = held?.closest(".list-row");
    const heldAt = heldRow && [...heldRow.querySelectorAll(FOCUSABLE)].indexOf(held);
    fill(body, items.slice(first, last).map((item, index) => row(item, first + index)));
    if (held) {
      const row = body.querySelector(`[aria-rowindex="${heldRow.getAttribute("aria-rowindex")}"]`);
      (row?.querySelectorAll(FOCUSABLE)[heldAt] || scroller).focus({ preventScroll: true });
    }
    if (failed) fill(foot, notice(failed.message), button("Try again", again, { kind: "small", drawing: "retry" }));
    else if (!items.length && !more) fill(foot, none(query));
    else fill(foot, more ? `${whole(items.length)} shown; more come as you scroll` : `${whole(items.length)} in all`);
  }

  function row(item, index) {
    const made = h("div", { role: "row", class: "list-row", "aria-rowindex": index + 2 }, cells(item, list).map((cell, at) => h("div", { role: "cell", class: columns[at][1] }, cell)));
    made.style.top = `${index * rowHeight}px`;
    made.style.height = `${rowHeight}px`;
    return made;
  }

  scroller.addEventListener("scroll", () => {
    draw();
    if (nearEnd()) fetchMore();
  }, { passive: true });
  new ResizeObserver(() => draw()).observe(scroller);

  const list = {
    element,
    items,
    /** Fetch anew, with these parameters. */
    async reload(asked = query) {
      query = asked;
      turn += 1;
      items.length = 0;
      more = true;
      failed = null;
      after = null;
      drawn = "";
      scroller.scrollTop = 0;
      await fetchMore();
      if (!failed) tell(`${label}: ${items.length ? `${items.length} shown` : "none"}`);
    },
    /** Show an item as it is now; null takes it away. */
    replace(id, item) {
      const index = items.findIndex((each) => each.id === id);
      if (index < 0) return;
      if (item) items[index] = item;
      else items.splice(index, 1);
      draw(true);
    },
  };
  return list;
}
