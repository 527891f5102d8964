// One message of a conversation, as it is made and as it stays.

import { post } from "./api.js";
import { costOf } from "./asking.js";
import { fill, h } from "./dom.js";
import { compact, millis, usd } from "./format.js";
import { markdown } from "./markdown.js";
import { badge, complain, copied, iconButton, notice } from "./parts.js";
import { openReader } from "./reader.js";

/** What a person said. */
export function questionView(text, onEdit) {
  const edit = iconButton("edit", "Edit this question and ask again", onEdit);
  return h("article", { class: "message mine", "aria-label": "Your question" }, h("div", { class: "bubble" }, text), h("div", { class: "acts" }, edit));
}

/**
 * What a model said; `push` what comes, then `end` it.
 * @param {{collections: string[], onRetry: () => any}} about the collections in which its citations may stand.
 */
export function answerView({ collections, onRetry }) {
  const parts = []; // texts and citations, in the order in which they came
  const sources = []; // documents' spans, each once
  const body = h("div", { class: "answer-text" });
  const below = h("div", { class: "answer-below" });
  const element = h("article", { class: "message theirs", "aria-label": "Answer", "aria-busy": "true" }, body, below);
  const begun = performance.now();
  let first = null;
  let waiting = false;

  const text = () => parts.filter((part) => part.text !== undefined).map((part) => part.text).join("");

  function draw() {
    waiting = false;
    const cited = parts.some((part) => part.citation || !part.supported);
    const busy = element.getAttribute("aria-busy") === "true";
    const cursor = busy && h("span", { class: "cursor", "aria-hidden": "true" });
    if (cited || collections.length) fill(body, h("p", { class: "plain" }, parts.map(shown), cursor));
    else fill(body, markdown(text()), cursor);
  }

  function shown(part) {
    if (part.citation) return chip(part.citation);
    return part.supported === false ? h("span", { class: "unsupported", title: "No source supports this" }, part.text) : part.text;
  }

  function chip(citation) {
    const number = numbered(citation);
    const where = `${citation.filename}${citation.page ? `, page ${citation.page}` : ""}`;
    return h("button", { type: "button", class: "chip", title: where, "aria-label": `Source ${number}: ${where}`, on: { click: () => read(citation) } }, String(number));
  }

  function numbered(citation) {
    const same = (each) => each.document_id === citation.document_id && each.start === citation.start && each.end === citation.end;
    if (!sources.some(same)) sources.push(citation);
    return sources.findIndex(same) + 1;
  }

  async function read(citation) {
    try {
      await openReader(collections, citation);
    } catch (error) {
      complain(error);
    }
  }

  function sourceList() {
    if (!sources.length) return null;
    return h("ol", { class: "sources", "aria-label": "Sources" }, sources.map((source, index) => h("li", {}, h("button", { type: "button", class: "source", on: { click: () => read(source) } }, h("span", { class: "source-number" }, String(index + 1)), h("span", { class: "source-name" }, source.filename, source.page ? h("span", { class: "muted" }, ` · page ${source.page}`) : null), h("q", { class: "source-quote" }, source.quote)))));
  }

  return {
    element,
    text,
    push(part) {
      if (part.text) first ??= performance.now();
      if (part.citation) numbered(part.citation);
      const last = parts.at(-1);
      if (part.text && last?.text !== undefined && last.supported === part.supported) last.text += part.text;
      else parts.push({ ...part });
      if (!waiting) {
        waiting = true;
        requestAnimationFrame(draw);
      }
    },
    /** @param {any} how what was told at the end; `stopped` and `failed` say why it is not whole. */
    end(how) {
      element.removeAttribute("aria-busy");
      draw();
      const facts = h("p", { class: "facts muted" });
      const cost = h("span", {});
      const used = how.usage;
      const timed = performance.now() - begun;
      const told = [
        how.model && h("span", {}, how.model),
        !how.kept && h("span", { title: stages(how.timings) }, `${millis(timed)}${first === null ? "" : `, first words after ${millis(first - begun)}`}`),
        used && h("span", {}, `${compact(used.prompt_tokens)} tokens read, ${compact(used.completion_tokens)} written`),
        cost,
        how.cache && how.cache !== "off" && badge(`cache ${how.cache}`, how.cache === "exact" || how.cache === "semantic" ? "good" : ""),
        how.cut && badge("cut off at the most tokens", "warn"),
      ];
      fill(facts, told);
      const acts = h("div", { class: "acts" }, how.requestId && how.whole ? thumbs(how.requestId, collections.length === 1 ? collections[0] : null) : null, iconButton("copy", "Copy the answer", () => copied(text())), onRetry && iconButton("retry", "Ask again", onRetry));
      const said = [
        how.failed && notice(how.failed),
        how.stopped && h("p", { class: "muted" }, "Stopped. What was told so far is not kept in the conversation."),
        how.degraded && notice(how.degraded, "info"),
        how.whole && !text().trim() && notice("The model said nothing; ask again, or in other words.", "info"),
      ];
      fill(below, said, sourceList(), facts, acts);
      if (how.requestId && how.whole) costOf(how.requestId).then((found) => found && fill(cost, `${usd(found.usd)}${Number(found.usd_saved) ? `, ${usd(found.usd_saved)} saved` : ""}`));
    },
  };
}

const stages = (timings) => (timings ? Object.entries(timings).map(([name, ms]) => `${name} ${millis(ms)}`).join(", ") : null);

function thumbs(requestId, collection) {
  const made = ["up", "down"].map((rating) => iconButton(rating, rating === "up" ? "This answer helped" : "This answer did not help", () => rate(rating), { "aria-pressed": "false" }));
  async function rate(rating) {
    await given(requestId, rating, collection);
    for (const each of made) each.setAttribute("aria-pressed", String(each === made[rating === "up" ? 0 : 1]));
  }
  return made;
}

/** The ledger has an answer about a second after its end: until then it is not known. */
async function given(requestId, rating, collection) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await post("/v1/feedback", { request_id: requestId, rating, ...(collection ? { collection } : {}) });
    } catch (error) {
      if (error.code !== "request_not_found" || tries === 3) throw error;
      await new Promise((resolve) => setTimeout(resolve, 800));
    }
  }
}
