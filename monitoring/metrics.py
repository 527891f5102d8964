"""Every metric of the API side, in one place.

Right over several workers: where `PROMETHEUS_MULTIPROC_DIR` is set (`./stoker up` sets it for the gateway's workers,
the ingestion worker and the keeper alike), each process writes its values to a file there and `exposition` adds
them up.

Labels are route templates, model groups and deployment names from the configuration: nothing that a client
sends ever makes a series.
"""

import os
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from monitoring.mapped import count_without_holes
from monitoring.names import PAGE, hidden
from monitoring.replaced import FILES, ReplacedGauge

FOLDER_ID = "made"
"""A file of the shared folder: another one once the folder was cleared."""

count_without_holes()

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REQUESTS = Counter("stoker_requests_total", "Requests answered.", ("route", "method", "status"))
REQUEST_SECONDS = Histogram(
    "stoker_request_seconds", "From the request's first byte to the answer's last.", ("route",), buckets=LATENCY_S
)
REQUESTS_RUNNING = Gauge("stoker_requests_running", "Requests being answered now.", multiprocess_mode="livesum")
TTFT_SECONDS = Histogram(
    "stoker_time_to_first_token_seconds",
    "From the request to its first non-empty content token.",
    ("model_group",),
    buckets=LATENCY_S,
)
TPOT_SECONDS = Histogram(
    "stoker_time_per_output_token_seconds",
    "(end-to-end - TTFT) / (output tokens - 1), for streams of 2 tokens and more.",
    ("model_group",),
    buckets=_STEP_S,
)
TOKENS = Counter("stoker_tokens_total", "Tokens, by direction: in, cached, out.", ("model_group", "direction"))
CACHE_LOOKUPS = Counter(
    "stoker_cache_lookups_total",
    "Requests that looked into a cache, by outcome: hit, miss, bypass.",
    ("kind", "outcome"),
)
CACHE_SAVED_USD = Counter(
    "stoker_cache_saved_usd_total", "What answers out of a cache had cost when they were made.", ("model_group",)
)
CACHE_EVICTIONS = Counter("stoker_cache_evictions_total", "Entries that had to go because a tenant's cache was full.")
AUTO_CHOICES = Counter(
    "stoker_auto_choices_total",
    "Requests to `auto` by the model that was chosen and by what: vector, traits, tools, first, window, health.",
    ("model_group", "by"),
)
SEMANTIC_CHECKS = Counter(
    "stoker_semantic_cache_checks_total",
    "Hits of other words that were held against a new answer, by outcome: same, different.",
    ("outcome",),
)
SEMANTIC_FALSE_SHARE = Gauge(
    "stoker_semantic_cache_false_share_bound",
    "What the share of false hits among those of other words is at most (95 %), by collection.",
    ("collection",),
    multiprocess_mode="livemax",
)
UPSTREAM_CALLS = Counter(
    "stoker_upstream_calls_total", "Calls to deployments, by outcome.", ("model_group", "deployment", "outcome")
)
UPSTREAM_RUNNING = Gauge(
    "stoker_upstream_running", "Calls that deployments have now.", ("deployment",), multiprocess_mode="livesum"
)
EXPERIMENT_CALLS = Counter(
    "stoker_experiment_calls_total",
    "Calls of experiments, by side (control, variant, shadow) and outcome: ok, failed, left out.",
    ("experiment", "arm", "outcome"),
)
EXPERIMENT_SECONDS = Counter(
    "stoker_experiment_seconds_total",
    "Of the calls that were answered: seconds to the first token, or to the whole of an answer in one piece.",
    ("experiment", "arm"),
)
EXPERIMENT_SQUARES = Counter(
    "stoker_experiment_square_seconds_total", "The same, squared, for their spread.", ("experiment", "arm")
)
EXPERIMENT_NANO_USD = Counter(
    "stoker_experiment_nano_usd_total", "What those calls cost by their deployments' prices.", ("experiment", "arm")
)
CONFIGURATION_READS = Counter(
    "stoker_configuration_reads_total", "Readings of the configuration, by outcome: used, refused.", ("outcome",)
)
EJECTIONS = Counter("stoker_ejections_total", "Deployments taken out of turn, by reason.", ("deployment", "reason"))
FALLBACKS = Counter("stoker_fallbacks_total", "Calls answered by a fallback group.", ("model_group", "fallback"))
RESCUES = Counter(
    "stoker_rescues_total",
    "Streams that broke, by how another deployment went on: token_ids, prefill, replay; none: nobody could.",
    ("model_group", "deployment", "how"),
)
SHED = Counter(
    "stoker_shed_total", "Calls refused because their model had more to do than it could.", ("model_group", "priority")
)
DEPLOYMENT_OPEN = Gauge(
    "stoker_deployment_breaker_open",
    "Whether the breaker of a deployment rests it, in any worker (0 or 1).",
    ("deployment",),
    multiprocess_mode="livemax",
)
DEPLOYMENT_EJECTED = Gauge(
    "stoker_deployment_ejected",
    "Whether a deployment is out of turn, in any worker, by reason: wedged, away, asleep, busy, outlier (0 or 1).",
    ("deployment", "reason"),
    multiprocess_mode="livemax",
)
ENGINE_WANTED = Gauge(
    "stoker_engine_wanted_timestamp_seconds",
    "When a call last found the engines of its model asleep or scaled to zero, in seconds since the epoch.",
    ("model_group",),
    multiprocess_mode="max",
)
PART_OPEN = Gauge(
    "stoker_part_breaker_open",
    "Whether the breaker of a part that the gateway stands on rests it, in any worker (0 or 1).",
    ("part",),
    multiprocess_mode="livemax",
)
SPENT_USD = Counter(
    "stoker_spent_usd_total",
    "Money in ledger lines that are in SQL; a line that is shipped twice, after a kill, is counted twice here alone.",
    ("route", "model_group", "deployment"),
)
TENANT_REQUESTS = Counter(
    "stoker_tenant_requests_total",
    "Requests in ledger lines that are in SQL, by tenant, where STOKER_METRICS_TENANTS allows; `other`: of all others.",
    ("tenant",),
)
TENANT_TOKENS = Counter(
    "stoker_tenant_tokens_total", "Tokens of the same lines, by direction: in, cached, out.", ("tenant", "direction")
)
TENANT_USD = Counter("stoker_tenant_spent_usd_total", "Money of the same lines.", ("tenant",))
LEDGER_SHIPPED = Gauge(
    "stoker_ledger_shipped_timestamp_seconds",
    "When this host's ledger was last brought to SQL as far as it went, in seconds since the epoch.",
    multiprocess_mode="max",
)
BUDGET_ALERTS = Counter(
    "stoker_budget_alerts_total",
    "Subjects that have spent so many percent of a day's or month's limit, by kind of subject.",
    ("kind", "percent"),
)
RETRIEVAL_SECONDS = Histogram(
    "stoker_retrieval_stage_seconds", "Time of one stage of a search or an answer.", ("stage",), buckets=_STEP_S
)
ANSWERS = Counter("stoker_answers_total", "Answers from documents, by whether they were degraded.", ("degraded",))
FEEDBACK = Counter(
    "stoker_feedback_total",
    "Times that readers said whether an answer helped, by rating: up, down; said again, counted again.",
    ("rating",),
)
EVALUATION_SCORE = ReplacedGauge(
    "stoker_evaluation_score",
    "What the last daily evaluation of a collection's search came to, 0 to 1, by its id and measure.",
    ("collection", "metric"),
)
EVALUATED_AT = ReplacedGauge(
    "stoker_evaluation_timestamp_seconds",
    "When that ended, in seconds since the epoch.",
    ("collection",),
)
INGESTED = Counter("stoker_ingested_documents_total", "Documents that left ingestion, by final status.", ("status",))
FETCHED = Counter(
    "stoker_errands_total",
    "Errands of the ingestion worker (what it fetches, by kind), by how they ended.",
    ("kind", "outcome"),
)
WEBHOOKS = Counter("stoker_webhooks_total", "Attempts at telling a webhook of a job's end, by outcome.", ("outcome",))
INGEST_SECONDS = Histogram(
    "stoker_ingest_stage_seconds", "Time of one stage of ingesting one document.", ("stage",), buckets=_STEP_S
)
INGEST_WAITING = Gauge(
    "stoker_ingest_waiting_documents", "Documents that wait for an ingestion worker.", multiprocess_mode="mostrecent"
)
INGEST_WAITED = Gauge(
    "stoker_ingest_waiting_seconds",
    "For how long the oldest of them has waited; 0 where none waits.",
    multiprocess_mode="mostrecent",
)
LEASES_EXPIRED = Counter("stoker_ingest_leases_expired_total", "Leases taken back from workers that went silent.")

TRACES = Counter(
    "stoker_traces_total",
    "Requests that were traced, by what became of it: kept because it was sampled, failed or slow, or left out.",
    ("outcome",),
)
ORPHANS = Counter("stoker_orphans_removed_total", "Things that belonged to nothing, by kind.", ("kind",))


def exposition() -> tuple[bytes, str]:
    """The metrics of all processes that share the folder, as text for Prometheus, and its media type.

    What `tally` holds, which is the event loop's, is to be flushed before.
    """
    source: Collector = _Folder() if "PROMETHEUS_MULTIPROC_DIR" in os.environ else REGISTRY
    registry = CollectorRegistry()
    registry.register(source)
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Folder(Collector):
    """What all processes have counted in the shared folder; a file that one is just making says nothing yet."""

    def collect(self) -> Iterable[Metric]:
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        files = [str(file) for file in folder.glob("*.db") if _size(file)]
        found: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        gone = hidden(folder, time.monotonic())  # after what it hides was read: who takes that away has seen it, too
        for family in found if gone else ():
            if family.type != "gauge":  # which each process takes away by itself
                family.samples = [sample for sample in family.samples if not gone.has(sample.labels)]
        return chain(found, EVALUATION_SCORE.collect(), EVALUATED_AT.collect())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def samples_of(*metrics: Counter | Gauge | Histogram) -> list[Sample]:
    """What these metrics say, over all processes that share the folder; what `tally` holds comes later.

    Raises: OSError: the folder can't be read.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        families: Iterable[Metric] = (family for metric in metrics for family in metric.collect())
    else:
        families = _Folder().collect()
    names = {described.name for metric in metrics for described in metric.describe()}
    found = [sample for family in families if family.name in names for sample in family.samples]
    return [sample for sample in found if not sample.name.endswith("_created")]


def forget_dead() -> None:
    """Drop what processes that have ended said of now; what they counted stays counted.

    A worker does it as it begins: it may stand in the place of one that was killed.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
        if not Path("/proc", file.stem.rpartition("_")[2]).exists():
            file.unlink(missing_ok=True)


def clear_folder(folder: Path) -> None:
    """Empty the shared folder; call it before any process of a new run starts."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*folder.glob("*.db"), *folder.glob(FILES), folder / FOLDER_ID, folder / PAGE):
        file.unlink(missing_ok=True)
