// Searching a collection: passages, with facets of the documents' metadata.

import { post } from "./api.js";
import { fill, h, tell } from "./dom.js";
import { millis, plural, whole } from "./format.js";
import { badge, button, empty, field, input, notice, select } from "./parts.js";
import { openReader } from "./reader.js";

/** @param {string} name of the collection. */
export function searchTab(name) {
  const query = input({ type: "search", required: true, maxlength: 8000, placeholder: "Words or a question", name: "query" });
  const mode = select([["", "as usual"], "hybrid", "dense", "lexical"]);
  const keys = input({ placeholder: "such as year, team" });
  const found = h("div", { class: "found" });
  let chosen = []; // [key, value] of facets
  let turn = 0; // the search that was asked for last is the one that is shown

  async function search(event) {
    event?.preventDefault();
    const facets = keys.value.split(",").map((each) => each.trim()).filter(Boolean).slice(0, 10);
    const mine = (turn += 1);
    const filters = chosen.map(([key, value]) => ({ type: "eq", key, value }));
    try {
      const result = await post("/v1/search", {
        query: query.value,
        collection: name,
        top_k: 20,
        fuzzy: true,
        ...(mode.value ? { mode: mode.value } : {}),
        ...(facets.length ? { facets } : {}),
        ...(filters.length ? { filter: filters.length === 1 ? filters[0] : { type: "and", filters } } : {}),
      });
      if (mine === turn) draw(result);
    } catch (error) {
      if (mine === turn) fill(found, notice(error.message));
    }
  }

  function draw(result) {
    tell(plural(result.data.length, "passage"));
    const took = Object.values(result.timings_ms).reduce((sum, ms) => sum + ms, 0);
    const spellings = (result.suggestions || []).filter((each) => each.type === "spelling");
    const hits = h(
      "div",
      { class: "hits" },
      result.degraded && notice(result.degraded_reason, "info"),
      h("p", { class: "muted" }, `${plural(result.data.length, "passage")}, ${millis(took)}`),
      spellings.map((each) => h("p", { class: "row" }, `Did you mean `, each.instead.map((word) => button(word, () => instead(each.term, word), { kind: "small" })))),
      result.data.length ? result.data.map(hit) : empty("Nothing found", "Try other words, or take a filter away."),
    );
    found.classList.toggle("faceted", Boolean(result.facets?.length));
    fill(found, result.facets?.length ? h("div", { class: "facets" }, result.facets.map(facet)) : null, hits);
  }

  function instead(term, word) {
    query.value = query.value.split(/(\s+)/).map((each) => (each.toLowerCase() === term.toLowerCase() ? word : each)).join("");
    return search();
  }

  function hit(one) {
    const open = () => openReader([name], one);
    const about = Object.entries(one.metadata).slice(0, 6).map(([key, value]) => badge(`${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`.slice(0, 80)));
    return h("article", { class: "hit" }, h("div", { class: "hit-head" }, h("button", { type: "button", on: { click: open } }, `${one.filename}${one.page ? `, page ${one.page}` : ""}`), h("span", { class: "muted number", title: "Score" }, one.score.toFixed(3))), h("p", {}, one.text), about.length ? h("div", { class: "badges" }, about) : null);
  }

  function facet(one) {
    const rows = one.values.map(({ value, documents }) => {
      const on = chosen.some(([key, each]) => key === one.key && each === value);
      const act = () => {
        chosen = on ? chosen.filter(([key, each]) => key !== one.key || each !== value) : [...chosen.filter(([key]) => key !== one.key), [one.key, value]];
        return search();
      };
      return h("li", {}, h("button", { type: "button", class: "facet", "aria-pressed": String(on), on: { click: act } }, h("span", {}, String(value)), h("span", { class: "muted number" }, whole(documents))));
    });
    return h("section", { "aria-label": `Values of ${one.key}` }, h("h3", {}, one.key), h("ul", {}, rows.length ? rows : h("li", { class: "muted" }, "no document carries it")), one.more ? h("p", { class: "hint" }, `${whole(one.more)} more values`) : null);
  }

  return [h("form", { class: "search-form", on: { submit: search } }, field("Search", query), field("By", mode), field("Count values of", keys), button("Search", null, { kind: "primary", type: "submit", drawing: "search" })), found];
}
