"""Whether the promise to callers is kept, and how fast its error budget burns."""

from monitoring.dashboards.form import Dashboard, prometheus
from monitoring.rules.gateway import OBJECTIVE, V1

_BUDGET = round(1 - OBJECTIVE, 6)
_DAYS = 30
_FAILED = f'(sum(increase(stoker_requests_total{{{V1},status=~"5.."}}[{_DAYS}d])) or vector(0))'
_ALL = f"(sum(increase(stoker_requests_total{{{V1}}}[{_DAYS}d])) > 0)"


# Prometheus keeps 15 days, unless it is started with a longer retention.
_TOLD = f'(time() - min(min_over_time(timestamp(up{{job="stoker"}})[{_DAYS}d:1h]))) / 86400 or vector(0)'


def _quantile(quantile: float) -> str:
    bucket = f"stoker_request_seconds_bucket{{{V1}}}"
    return f"histogram_quantile({quantile}, sum by (route, le) (rate({bucket}[$__rate_interval])))"


DASHBOARD = Dashboard(
    "stoker-sla",
    "SLA",
    [
        prometheus(f"Without fault, {_DAYS} days", "percentunit", (f"1 - {_FAILED} / {_ALL}", "requests"), kind="stat"),
        prometheus(
            "Error budget that is left", "percentunit", (f"1 - {_FAILED} / {_ALL} / {_BUDGET}", "budget"), kind="stat"
        ),
        prometheus(f"Requests in {_DAYS} days", "none", (_ALL, "requests"), kind="stat"),
        prometheus(
            "How many times too fast the budget burns",
            "none",
            (f"stoker:error_ratio:rate5m / {_BUDGET}", "5 minutes"),
            (f"stoker:error_ratio:rate1h / {_BUDGET}", "an hour"),
            (f"stoker:error_ratio:rate6h / {_BUDGET}", "6 hours"),
            width=12,
        ),
        prometheus(
            "Failed requests a second",
            "reqps",
            (
                f'sum by (route, status) (rate(stoker_requests_total{{{V1},status=~"5.."}}[$__rate_interval]))',
                "{{route}} {{status}}",
            ),
            width=12,
        ),
        prometheus(f"Days of the {_DAYS} that Prometheus has kept", "none", (_TOLD, "days"), kind="stat"),
        prometheus("p50 of routes", "s", (_quantile(0.5), "{{route}}")),
        prometheus("p95 of routes", "s", (_quantile(0.95), "{{route}}")),
        prometheus("p99 of routes", "s", (_quantile(0.99), "{{route}}")),
        prometheus(
            "p95 to the first token", "s", ("stoker:time_to_first_token_seconds:p95", "{{model_group}}"), width=12
        ),
        prometheus(
            "Alerts",
            "none",
            ('count by (alertname) (ALERTS{alertstate="firing",alertname=~"Stoker.*"})', "{{alertname}}"),
            width=12,
        ),
        prometheus(
            "Age of the ledger in SQL",
            "s",
            ("time() - (stoker_ledger_shipped_timestamp_seconds > 0)", "{{instance}}"),
        ),
    ],
)
