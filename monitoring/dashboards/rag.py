"""Documents: answers from them, searches in them, and how they come in."""

from monitoring.dashboards.form import Dashboard, prometheus
from monitoring.rules.gateway import ANSWERS


def _p95(name: str) -> str:
    return f"histogram_quantile(0.95, sum by (stage, le) (rate({name}_bucket[$__rate_interval])))"


def _answers(matcher: str = "") -> str:
    return f"sum(rate(stoker_answers_total{{{matcher}}}[$__rate_interval]))"


_DEGRADED = _answers('degraded="true"')

DASHBOARD = Dashboard(
    "stoker-rag",
    "RAG",
    [
        prometheus("Answers a second", "reqps", (f'stoker:requests:rate5m{{route="{ANSWERS}"}}', "answers")),
        prometheus("p95 of answers", "s", (f'stoker:request_seconds:p95{{route="{ANSWERS}"}}', "answers")),
        prometheus(
            "Degraded answers",
            "percentunit",
            (f"({_DEGRADED} or vector(0)) / ({_answers()} > 0)", "of answers"),
        ),
        prometheus("p95 of stages of answers", "s", (_p95("stoker_retrieval_stage_seconds"), "{{stage}}"), width=12),
        prometheus(
            "Lookups in caches",
            "reqps",
            (
                "sum by (kind, outcome) (rate(stoker_cache_lookups_total[$__rate_interval]))",
                "{{kind}} {{outcome}}",
            ),
            width=12,
        ),
        prometheus(
            "False hits of other words, at most",
            "percentunit",
            ("max by (collection) (stoker_semantic_cache_false_share_bound)", "{{collection}}"),
        ),
        prometheus(
            "Checks of hits of other words",
            "reqps",
            ("sum by (outcome) (rate(stoker_semantic_cache_checks_total[$__rate_interval]))", "{{outcome}}"),
        ),
        prometheus("Evictions", "none", ("sum(rate(stoker_cache_evictions_total[$__rate_interval]))", "a second")),
        prometheus(
            "Daily evaluation of search",
            "none",
            ("max by (collection, metric) (stoker_evaluation_score)", "{{collection}} {{metric}}"),
            width=12,
        ),
        prometheus(
            "Age of daily evaluations",
            "s",
            ("time() - max by (collection) (stoker_evaluation_timestamp_seconds)", "{{collection}}"),
            width=12,
        ),
        prometheus(
            "Documents that left ingestion",
            "none",
            ("sum by (status) (increase(stoker_ingested_documents_total[$__rate_interval]))", "{{status}}"),
        ),
        prometheus("p95 of stages of ingestion", "s", (_p95("stoker_ingest_stage_seconds"), "{{stage}}")),
        prometheus("Documents that wait", "none", ("max(stoker_ingest_waiting_documents)", "documents")),
        prometheus("How long the oldest has waited", "s", ("max(stoker_ingest_waiting_seconds)", "oldest")),
        prometheus(
            "Leases taken back",
            "none",
            ("sum(increase(stoker_ingest_leases_expired_total[$__rate_interval]))", "leases"),
        ),
        prometheus(
            "Orphans removed",
            "none",
            ("sum by (kind) (increase(stoker_orphans_removed_total[$__rate_interval]))", "{{kind}}"),
        ),
    ],
)
