"""What goes on, at a glance."""

from monitoring.dashboards.form import Dashboard, prometheus
from monitoring.rules.gateway import V1

DASHBOARD = Dashboard(
    "stoker-overview",
    "Overview",
    [
        prometheus(
            "Alerts that fire",
            "none",
            ('count(ALERTS{alertstate="firing",alertname=~"Stoker.*"}) or vector(0)', "alerts"),
            kind="stat",
            width=4,
        ),
        prometheus("Processes that answer", "none", ("sum(up)", "of them"), ("count(up)", "all"), kind="stat", width=4),
        prometheus("Requests now", "none", ("sum(stoker_requests_running)", "requests"), kind="stat", width=4),
        prometheus(
            "Failed requests", "percentunit", ("stoker:error_ratio:rate5m", "of requests"), kind="stat", width=4
        ),
        prometheus("Cache hits", "percentunit", ("stoker:cache_hit_ratio:rate30m", "hits"), kind="stat", width=4),
        prometheus(
            "Money of the last hour", "currencyUSD", ("stoker:spent_usd:increase1h", "USD"), kind="stat", width=4
        ),
        prometheus("Requests a second", "reqps", ("stoker:requests:rate5m", "{{route}}")),
        prometheus(
            "Statuses",
            "reqps",
            (f"sum by (status) (rate(stoker_requests_total{{{V1}}}[$__rate_interval]))", "{{status}}"),
        ),
        prometheus("p95 of routes", "s", (f"stoker:request_seconds:p95{{{V1}}}", "{{route}}")),
        prometheus(
            "Tokens a second",
            "none",
            (
                "sum by (model_group, direction) (rate(stoker_tokens_total[$__rate_interval]))",
                "{{model_group}} {{direction}}",
            ),
        ),
        prometheus("p95 to the first token", "s", ("stoker:time_to_first_token_seconds:p95", "{{model_group}}")),
        prometheus(
            "p95 for each token after it",
            "s",
            (
                "histogram_quantile(0.95, sum by (model_group, le) "
                "(rate(stoker_time_per_output_token_seconds_bucket[$__rate_interval])))",
                "{{model_group}}",
            ),
        ),
        prometheus("Parts that are rested", "none", ("max by (part) (stoker_part_breaker_open)", "{{part}}"), width=12),
        prometheus(
            "Deployments out of turn",
            "none",
            ("max by (deployment) (stoker_deployment_breaker_open)", "{{deployment}} rested"),
            ("max by (deployment, reason) (stoker_deployment_ejected) > 0", "{{deployment}} {{reason}}"),
            width=12,
        ),
    ],
)
