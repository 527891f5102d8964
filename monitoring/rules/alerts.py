"""Alerts, with the defaults of the design; each has a section in docs/runbook.md."""

from monitoring.rules.form import Alert, Group
from monitoring.rules.gateway import ANSWERS, LONG, OBJECTIVE, V1

_BUDGET = round(1 - OBJECTIVE, 6)
_USED, _FREE = (f"sum by (host, gpu, UUID) (stoker:gpu_memory_{kind}_bytes)" for kind in ("used", "free"))
_ACTIVE = "max by (deployment) (stoker:gpu_place * on (UUID, GPU_I_ID) group_left () stoker:gpu_part_active_ratio)"

_SHIPPED = "stoker_ledger_shipped_timestamp_seconds > 0"  # a gateway whose keeper tells of itself says 0


_SCORE = "max by (collection, metric) (stoker_evaluation_score{})"


def _burn(factor: float, long: str, short: str) -> str:
    """The budget of 30 days burns so many times too fast, over the long window and still over the short one.

    Source: Google, The Site Reliability Workbook, chapter 5.
    """
    bound = f"> {factor} * {_BUDGET}"
    return f"stoker:error_ratio:rate{long} {bound} and stoker:error_ratio:rate{short} {bound}"


def group() -> Group:
    """All alerts."""
    return Group(
        "stoker-alerts",
        [
            Alert(
                "StokerErrors",
                "stoker:error_ratio:rate5m > 0.05",
                "5m",
                "critical",
                "{{ $value | humanizePercentage }} of requests fail",
            ),
            Alert(
                "StokerSloBurnsFast",
                _burn(14.4, "1h", "5m"),
                "2m",
                "critical",
                "at this rate the month's error budget lasts two days",
            ),
            Alert(
                "StokerSloBurnsSlowly",
                _burn(6, "6h", "30m"),
                "15m",
                "warning",
                "at this rate the month's error budget lasts five days",
            ),
            Alert(
                "StokerSlow",
                f'stoker:request_seconds:p95{{{V1},route!~"{LONG}"}} > 2',
                "10m",
                "warning",
                "p95 of {{ $labels.route }} is {{ $value | humanizeDuration }}",
            ),
            Alert(
                "StokerFirstTokenSlow",
                "stoker:time_to_first_token_seconds:p95 > 2",
                "10m",
                "warning",
                "p95 to the first token of {{ $labels.model_group }} is {{ $value | humanizeDuration }}",
            ),
            Alert(
                "StokerAnswersSlow",
                f'stoker:request_seconds:p95{{route="{ANSWERS}"}} > 10',
                "10m",
                "warning",
                "p95 of answers from documents is {{ $value | humanizeDuration }}",
            ),
            Alert(
                "StokerSpending",
                "stoker:spent_usd:increase1h > 50",
                "0m",
                "critical",
                "{{ $value | humanize }} USD were spent within an hour",
            ),
            Alert(
                "StokerBudgetSpent",
                'sum by (kind) (increase(stoker_budget_alerts_total{percent="100"}[10m])) > 0',
                "0m",
                "warning",
                "a {{ $labels.kind }} has spent a day's or month's limit",
            ),
            Alert(
                "StokerCacheHitsLow",
                "stoker:cache_hit_ratio:rate30m < 0.3 and stoker:cache_lookups:rate30m > 0.1",
                "30m",
                "warning",
                "only {{ $value | humanizePercentage }} of lookups are hits",
            ),
            Alert(
                "StokerPartDown",
                'up{job=~"stoker|keeper|worker|vllm|embedding|gpu"} == 0 or absent(up{job="stoker"})',
                "1m",
                "critical",
                "{{ $labels.job }} {{ $labels.instance }} does not answer",
            ),
            Alert(
                "StokerPartRested",
                "stoker_part_breaker_open == 1",
                "1m",
                "critical",
                "{{ $labels.part }} fails, and its breaker is open",
            ),
            Alert(
                "StokerDeploymentRested",
                "stoker_deployment_breaker_open == 1",
                "1m",
                "warning",
                "{{ $labels.deployment }} fails, and its breaker is open",
            ),
            Alert(
                "StokerEngineWedged",
                'stoker_deployment_ejected{reason="wedged"} == 1',
                "30s",
                "critical",
                "{{ $labels.deployment }} has work and stands still",
            ),
            Alert(
                "StokerGpuDown",
                "stoker_gpu_up == 0 or stoker_gpu_driver_up == 0 or stoker:gpu_lost",
                "1m",
                "critical",
                "GPU {{ $labels.gpu }} {{ $labels.UUID }} of {{ $labels.instance }} does not answer",
            ),
            Alert(
                "StokerGpuMemory",
                f"{_USED} / ({_USED} + {_FREE}) > 0.98",
                "10m",
                "warning",
                "{{ $value | humanizePercentage }} of the memory of {{ $labels.host }}:{{ $labels.gpu }} is used",
            ),
            Alert(
                "StokerGpuIdleWhileQueueing",
                f"{_ACTIVE} < 0.1 and on (deployment) sum by (deployment) (vllm:num_requests_waiting) > 0",
                "2m",
                "warning",
                "requests wait for {{ $labels.deployment }} while its GPUs do next to nothing",
            ),
            Alert(
                "StokerIngestionStuck",
                "max(stoker_ingest_waiting_seconds) > 900 "
                "and on () (sum(increase(stoker_ingested_documents_total[15m])) or vector(0)) == 0",
                "5m",
                "warning",
                "documents have waited for {{ $value | humanizeDuration }}, and none was finished",
            ),
            Alert(
                "StokerSearchGotWorse",
                f"{_SCORE.format(' offset 1d')} - {_SCORE.format('')} > 0.05",
                "10m",
                "warning",
                '{{ $labels.metric }} of the collection {{ $labels.collection }} fell by {{ $value | printf "%.2f" }}',
            ),
            Alert(
                "StokerLedgerLags",
                f"time() - ({_SHIPPED} or absent({_SHIPPED}) * 0) > 120",
                "1m",
                "critical",
                "the ledger was last brought to SQL {{ $value | humanizeDuration }} ago",
            ),
        ],
    )
