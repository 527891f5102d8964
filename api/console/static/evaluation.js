// How good a collection's search is, day by day, by judged questions.

import { all, at, get } from "./api.js";
import { lineChart } from "./chart.js";
import { fill, h } from "./dom.js";
import { moment, whole } from "./format.js";
import { badge, code, empty, figure, figures, loading, notice, section, table } from "./parts.js";

const SHOWN = ["ndcg@10", "recall@100", "mrr"];

/** @param {string} name of the collection. */
export function evaluationTab(name) {
  const box = h("div", { class: "stack" }, loading());
  load(box, name).catch((error) => fill(box, notice(error.message)));
  return [box];
}

async function load(box, name) {
  const [set, results] = await Promise.all([
    get(at`/v1/collections/${name}/evaluation`).catch((error) => {
      if (error.status !== 404) throw error;
      return null;
    }),
    all(at`/v1/collections/${name}/evaluation/results`, 200),
  ]);
  if (!set && !results.length) {
    fill(box, empty("Not evaluated yet", "Questions with known answers tell every day whether the search got better or worse. Name a set in BEIR's layout:"), code(`./stoker eval ${name} --queries queries.jsonl --qrels test.tsv --daily`));
    return;
  }
  const trusted = results.filter((one) => one.outcome === "whole" && one.measures).reverse();
  const last = trusted.at(-1);
  fill(
    box,
    set && h("p", { class: "muted" }, `${whole(set.queries)} questions, judged by ${set.judged_by}; next ${moment(set.next_at)}.`),
    last && figures(SHOWN.filter((measure) => last.measures[measure]).map((measure) => figure(measure, mean(last, measure).toFixed(3)))),
    trusted.length > 1 && section("By day", lineChart("Measures by day", SHOWN.slice(0, 2).map((measure) => ({ name: measure, values: trusted.map((one) => mean(one, measure)) })), trusted.map((one) => new Date(one.at * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short" })), (value) => value.toFixed(2))),
    section("Results", table("Results of the evaluation", ["When", "Outcome", ["nDCG@10", "number"], ["Questions", "number"], "Why"], results.map((one) => [moment(one.at), badge(one.outcome, one.outcome === "whole" ? "good" : "warn"), one.measures ? mean(one, "ndcg@10").toFixed(3) : "–", one.questions ?? "–", one.reason || ""]))),
  );
}

const mean = (one, measure) => one.measures[measure]?.mean ?? one.measures[measure] ?? 0;
