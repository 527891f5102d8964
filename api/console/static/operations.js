// How the stack is doing now: parts, deployments, speed, queue, the promise of service, experiments.

import { call, get, patch } from "./api.js";
import { lineChart, sparkline } from "./chart.js";
import { fill, h } from "./dom.js";
import { compact, day, percent, plural, size, span, usd, whole } from "./format.js";
import { badge, button, confirmed, figure, figures, loading, notice, section, table } from "./parts.js";
import { growth, parseMetrics, quantile, total } from "./prometheus.js";

const EVERY_MS = 3_000;
const SLOW_EVERY = 20; // looks between two at what moves slowly
const KEPT = 60;

export default async function page(main) {
  const board = new Board();
  fill(main, h("div", { class: "page-head" }, h("h1", {}, "Operations"), board.note), board.element);
  await board.look();
  const timer = setInterval(() => document.visibilityState === "visible" && board.look(), EVERY_MS);
  return () => clearInterval(timer);
}

class Board {
  constructor() {
    this.note = h("p", { class: "muted" });
    this.now = h("div", { class: "stack" }, loading());
    this.slow = h("div", { class: "stack" });
    this.element = h("div", { class: "stack" }, this.now, this.slow);
    this.looks = []; // {at, metrics}, the oldest first
    this.speeds = [];
    this.count = 0;
    this.busy = false;
  }

  async look() {
    if (this.busy) return;
    this.busy = true;
    try {
      const [status, deployments, engines, text] = await Promise.all([get("/status"), get("/v1/admin/deployments"), get("/v1/admin/engines"), call("GET", "/metrics").then((answer) => answer.text())]);
      this.looks.push({ at: performance.now() / 1000, metrics: parseMetrics(text) });
      if (this.looks.length > KEPT) this.looks.shift();
      this.draw(status, deployments, engines);
      if (this.count % SLOW_EVERY === 0) await this.drawSlow();
      this.count += 1;
      fill(this.note, `looked at ${new Date().toLocaleTimeString("en-GB")}`);
    } catch (error) {
      if (this.count === 0) fill(this.now, notice(error.message));
      else fill(this.note, `the last look failed: ${error.message}`);
    } finally {
      this.busy = false;
    }
  }

  draw(status, deployments, engines) {
    const now = this.looks.at(-1);
    const before = this.looks.at(-2) || null;
    const oldest = this.looks.length > 1 ? this.looks[0] : null;
    const seconds = before ? Math.max(0.001, now.at - before.at) : 1;
    const rate = (name, wanted) => (before ? (growth(before.metrics, now.metrics, name, wanted) || 0) / seconds : 0);
    this.speeds.push(rate("stoker_tokens_total", { direction: "out" }));
    if (this.speeds.length > KEPT) this.speeds.shift();
    const first = (share) => this.first(share, now, oldest);
    const waiting = total(now.metrics, "stoker_ingest_waiting_documents");
    const saved = total(now.metrics, "stoker_cache_saved_usd_total");
    fill(
      this.now,
      partsRow(status),
      deployments.configuration.error && notice(`The configuration could not be read again: ${deployments.configuration.error}`),
      figures(
        figure("Tokens a second", compact(this.speeds.at(-1)), sparkline(this.speeds, "Tokens a second, last looks")),
        figure("First token, half within", span(first(0.5)), `95 % within ${span(first(0.95))}`),
        figure("Being answered", whole(Math.max(0, (total(now.metrics, "stoker_requests_running") || 0) - 4)), `${compact(rate("stoker_requests_total"))} requests a second`),
        figure("Documents that wait", waiting === null ? "–" : whole(waiting)),
        figure("Saved by caches", usd(saved || 0), "since the gateway was started"),
      ),
      section("Deployments", this.deploymentTable(deployments.data, engines, now, rate, oldest)),
      engines.gpus.length ? section("GPUs by model", gpuTable(engines.gpus)) : null,
    );
  }

  deploymentTable(data, engines, now, rate, oldest) {
    const rows = data.map((one) => {
      const engine = engines.data.find((each) => each.deployment === one.id);
      const bad = one.breaker && one.breaker !== "closed";
      const state = one.ejected ? badge(`ejected: ${one.ejected}`, "bad") : bad ? badge(`breaker ${one.breaker}`, "bad") : badge(one.state, one.state === "active" ? "good" : "warn");
      return [
        h("div", {}, h("strong", {}, one.id), h("p", { class: "muted" }, one.hosted ? `hosted by ${one.provider}` : one.reason || one.model || "")),
        state,
        whole(one.running || 0),
        engine?.waiting ?? "–",
        engine?.kv_cache_usage === undefined || engine?.kv_cache_usage === null ? "–" : percent(engine.kv_cache_usage),
        one.model_group ? compact(rate("stoker_tokens_total", { model_group: one.model_group, direction: "out" })) : "–",
        span(this.first(0.5, now, oldest, { model_group: one.model_group })),
        this.acts(one),
      ];
    });
    return table("Deployments", ["Deployment", "State", ["Running", "number"], ["Queue", "number"], ["KV cache", "number"], ["Tokens/s", "number"], ["First token", "number"], ["", "right"]], rows, { none: "No deployment is configured." });
  }

  /** Of the last minutes; where nothing was asked in them, since the gateway was started. */
  first(share, now, oldest, wanted = {}) {
    const name = "stoker_time_to_first_token_seconds";
    return (oldest && quantile(oldest.metrics, now.metrics, name, share, wanted)) ?? quantile(null, now.metrics, name, share, wanted);
  }

  acts(one) {
    const change = async (state) => {
      if (state === "draining" && !(await confirmed("Drain this deployment?", `${one.id} gets no new calls; those that it has go on.`, "Drain"))) return;
      await patch(`/v1/admin/deployments/${one.id.split("/").map(encodeURIComponent).join("/")}`, { state });
      await this.look();
    };
    if (one.state === "active") return button("Drain", () => change("draining"), { kind: "small", name: `Drain ${one.id}` });
    if (one.state === "disabled") return "";
    return button("Make active", () => change("active"), { kind: "small", name: `Make ${one.id} active` });
  }

  async drawSlow() {
    const [sla, experiments] = await Promise.all([get("/v1/admin/sla?days=30"), get("/v1/admin/experiments")]);
    fill(this.slow, section("Service of the last 30 days", slaPart(sla)), section("Experiments", experimentTable(experiments.data, (one) => this.tryAct(one))));
  }

  tryAct(one) {
    const change = async (state) => {
      if (state === "stopped" && !(await confirmed("End this experiment?", `Whom ${one.id} was shown to is answered as everybody from the next request on.`, "End it"))) return;
      await patch(`/v1/admin/experiments/${encodeURIComponent(one.id)}`, { state });
      await this.drawSlow();
    };
    return one.state === "running" ? button("End", () => change("stopped"), { kind: "small", name: `End ${one.id}` }) : button("Go on", () => change("running"), { kind: "small", name: `Go on with ${one.id}` });
  }
}

function partsRow(status) {
  const parts = Object.entries(status.parts).map(([name, said]) => {
    const breaker = status.breakers[name];
    const ok = said === "ok" && (!breaker || breaker === "closed");
    return h("li", { class: "part", title: said }, h("span", { class: `dot ${ok ? "" : "bad"}`, "aria-hidden": "true" }), h("span", {}, name), h("span", { class: ok ? "visually-hidden" : "" }, ok ? "answers" : said === "ok" ? `breaker ${breaker}` : "away"));
  });
  return h("ul", { class: "parts", "aria-label": "Parts" }, parts);
}

function slaPart(sla) {
  const { total: all, data } = sla;
  const left = sla.error_budget_left;
  return [
    figures(
      figure("Requests", compact(all.requests), `${whole(all.errors)} failed`),
      figure("Error budget left", percent(left, 1), `promise ${percent(sla.objective, 1)}`),
      figure("95 % answered within", span(all.p95_s), `half within ${span(all.p50_s)}`),
      figure("Uptime", percent(all.uptime, 2), plural(all.checks, "check")),
    ),
    data.length > 1 ? lineChart("Seconds within which requests were answered, by day", [{ name: "95 %", values: data.map((one) => one.p95_s) }, { name: "half", values: data.map((one) => one.p50_s) }], data.map((one) => day(one.day)), span) : null,
  ];
}

function experimentTable(experiments, act) {
  const rows = experiments.flatMap((one) => {
    const tried = one.collection ? `answers of ${one.collection}` : `${one.group} by ${one.to}`;
    const name = h("div", {}, h("strong", {}, one.id), h("p", { class: "muted" }, `${tried}, ${one.percent} %${one.shadow ? ", as a shadow" : ""}`), one.reason && h("p", { class: "muted" }, one.reason));
    const sides = Object.entries(one.sides);
    return (sides.length ? sides : [["–", { calls: 0 }]]).map(([side, said], index) => [
      index ? "" : name,
      side,
      index ? "" : badge(one.state, one.state === "running" ? "good" : "warn"),
      whole(said.calls),
      percent(said.share_failed, 1),
      span(said.mean_s),
      said.usd_per_call === null || said.usd_per_call === undefined ? "–" : usd(said.usd_per_call),
      index ? "" : act(one),
    ]);
  });
  return table("Experiments", ["Name", "Side", "State", ["Calls", "number"], ["Failed", "number"], ["Mean", "number"], ["A call", "number"], ["", "right"]], rows, { none: "No experiment is configured." });
}

function gpuTable(gpus) {
  const rows = gpus.map((gpu) => [
    h("div", {}, h("strong", {}, `${gpu.host} ${gpu.index}`), h("p", { class: "muted" }, gpu.uuid)),
    gpu.models.length ? gpu.models.join(", ") : "nobody's",
    percent(gpu.active_ratio),
    gpu.memory_used_bytes === null ? "–" : `${size(gpu.memory_used_bytes)}${gpu.memory_free_bytes === null ? "" : ` of ${size(gpu.memory_used_bytes + gpu.memory_free_bytes)}`}`,
    gpu.power_watts === null ? "–" : `${Math.round(gpu.power_watts)} W`,
  ]);
  return table("GPUs", ["GPU", "Model", ["Active", "number"], ["Memory", "number"], ["Power", "number"]], rows);
}
