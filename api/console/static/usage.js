// What was used and what it cost: one's own, and by model, key, user and team for those who manage.

import { get, may, reaches, withQuery } from "./api.js";
import { ratesLeft } from "./asking.js";
import { barChart } from "./chart.js";
import { fill, h } from "./dom.js";
import { compact, day, plural, usd, whole } from "./format.js";
import { complain, empty, field, figure, figures, loading, meter, section, select, table } from "./parts.js";

const SHOWN = { usd: ["Cost", (row) => Number(row.usd), usd], requests: ["Requests", (row) => row.requests, compact], tokens: ["Tokens", (row) => row.tokens_in + row.tokens_out, compact] };
const NAMED = 25; // rows of a table whose names are asked for

export default async function page(main) {
  const days = select([["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "a year"]], { value: "30" });
  const what = select(Object.entries(SHOWN).map(([value, [text]]) => [value, text]), { value: "usd" });
  const body = h("div", { class: "stack" }, loading());
  let turn = 0; // the report that was asked for last is the one that is shown
  const draw = async () => {
    const mine = (turn += 1);
    try {
      const made = await report(Number(days.value), what.value);
      if (mine === turn) fill(body, made);
    } catch (error) {
      if (mine === turn) complain(error);
    }
  };
  days.addEventListener("change", draw);
  what.addEventListener("change", draw);
  const whose = reaches("manager") ? "Usage of your tenant" : "Your usage";
  fill(main, h("div", { class: "page-head" }, h("h1", {}, whose), h("div", { class: "row" }, field("Chart", what), field("Over", days))), body);
  await draw();
}

async function report(days, what) {
  const from = new Date(Date.now() - (days - 1) * 86_400_000).toISOString().slice(0, 10);
  const by = (group) => get(withQuery("/v1/usage", { from, group_by: group })).then((found) => found.data);
  const [byDay, byModel, limits, people] = await Promise.all([by("day"), by("model"), get("/v1/usage/limits"), reaches("manager") ? Promise.all(["team", "user", "key"].map(by)) : []]);
  const sum = (of) => byDay.reduce((total, row) => total + of(row), 0);
  const today = byDay.find((row) => row.day === new Date().toISOString().slice(0, 10));
  const [title, value, shown] = SHOWN[what];
  const all = filled(byDay, from, days);
  return [
    figures(
      figure("Today", usd(today?.usd || 0), plural(today?.requests || 0, "request")),
      figure(`In ${days} days`, usd(sum((row) => Number(row.usd))), plural(sum((row) => row.requests), "request")),
      figure("Tokens", compact(sum((row) => row.tokens_in + row.tokens_out)), `${compact(sum((row) => row.tokens_in))} read, ${compact(sum((row) => row.tokens_out))} written`),
      figure("Saved by the caches", usd(sum((row) => Number(row.usd_saved)))),
    ),
    byDay.length ? section(`${title} by day`, barChart(`${title} by day`, all.map((row) => ({ name: day(row.day), about: day(row.day), value: value(row) })), shown)) : section("By day", empty("Nothing was used yet", "Ask something in the chat, or call the API: it counts here about a second later.")),
    h("div", { class: "halves" }, section("Limits", limitRows(limits.data), rateRow()), section("By model", usageTable("Usage by model", "Model", byModel, (row) => row.model || "–"))),
    people.length ? await peopleTables(people) : null,
    h("p", {}, h("a", { href: withQuery("/v1/usage", { from, group_by: "day,model", format: "csv" }), download: "usage.csv" }, "Download as CSV")),
  ];
}

/** Every day from the first on, those of which there is nothing too; weeks where days would be too many. */
function filled(rows, from, days) {
  const known = new Map(rows.map((row) => [row.day, row]));
  const first = Date.parse(`${from}T00:00:00Z`);
  return Array.from({ length: days }, (_, at) => {
    const name = new Date(first + at * 86_400_000).toISOString().slice(0, 10);
    return known.get(name) || { day: name, usd: "0", requests: 0, tokens_in: 0, tokens_out: 0 };
  });
}

function usageTable(caption, title, rows, name) {
  const sorted = [...rows].sort((one, other) => Number(other.usd) - Number(one.usd) || other.requests - one.requests).slice(0, NAMED);
  return table(caption, [title, ["Requests", "number"], ["Tokens", "number"], ["Cost", "number"]], sorted.map((row) => [name(row), whole(row.requests), compact(row.tokens_in + row.tokens_out), usd(row.usd)]), { none: "Nothing was used." });
}

async function peopleTables([byTeam, byUser, byKey]) {
  const [teams, users, keys] = await Promise.all([names(byTeam, "team"), names(byUser, "user"), names(byKey, "key")]);
  return h("div", { class: "halves" }, section("By team", usageTable("Usage by team", "Team", byTeam, (row) => teams.get(row.team) || row.team || "no team")), section("By key", usageTable("Usage by key", "Key", byKey, (row) => keys.get(row.key) || row.key || "no key")), section("By user", usageTable("Usage by user", "User", byUser, (row) => users.get(row.user) || row.user || "no user")));
}

/** The names of those with the most cost, by id. */
async function names(rows, kind) {
  if (!may("admin")) return new Map();
  const ids = [...rows].sort((one, other) => Number(other.usd) - Number(one.usd)).slice(0, NAMED).map((row) => row[kind]).filter(Boolean);
  const found = await Promise.all(ids.map((id) => get(`/v1/admin/${kind}s/${encodeURIComponent(id)}`).then((one) => [id, one.name]).catch(() => [id, id])));
  return new Map(found);
}

const KINDS = { key: "This key", user: "You", team: "Your team", tenant: "The tenant" };

function limitRows(limits) {
  if (!limits.length) return h("p", { class: "muted" }, "No limit holds for you.");
  return limits.map((one) => {
    const money = [["usd_per_day", "usd_today", "today"], ["usd_per_month", "usd_this_month", "this month"]].filter(([bound]) => one[bound] !== null).map(([bound, spent, when]) =>
      one[spent] === undefined ? h("p", { class: "muted" }, `${usd(one[bound])} ${when} at most`) : meter(`Spent ${when}`, Number(one[spent]) / (Number(one[bound]) || 1), `${usd(one[spent])} of ${usd(one[bound])}`),
    );
    const rate = [one.rpm && `${whole(one.rpm)} requests a minute`, one.tpm && `${whole(one.tpm)} tokens a minute`, one.parallel && `${whole(one.parallel)} at the same time`].filter(Boolean);
    return h("div", { class: "stack tight" }, h("h3", {}, KINDS[one.kind] || one.kind), money, rate.length ? h("p", { class: "muted" }, rate.join(", ")) : null);
  });
}

function rateRow() {
  const rates = ratesLeft();
  if (!rates) return null;
  const [limit, left] = [Number(rates["limit-requests"]), Number(rates["remaining-requests"])];
  return limit ? h("div", { class: "stack" }, meter("Requests of this minute", 1 - left / limit, `${whole(left)} of ${whole(limit)} left at your last answer`)) : null;
}
