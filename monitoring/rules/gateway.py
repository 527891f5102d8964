"""What the gateway's own metrics say, as recorded series."""

from monitoring.rules.form import Group, Recording

OBJECTIVE = 0.999
"""Of requests to `/v1`, the share that is not answered with a status of 500 or above, over 30 days."""

V1 = 'route=~"/v1/.*"'
ANSWERS = "/v1/query"
LONG = "|".join(
    (
        ANSWERS,
        "/v1/query/ws",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/evals",
        "/v1/ingest.*",
        "/v1/files.*",
        "/v1/jobs/.*",
    )
)
"""Routes that take as long as the model writes or a file is large: their p95 says nothing of the gateway."""
CACHED = 'kind=~"answer|chat"'
"""Lookups that save a model's answer."""

_WINDOWS = ("5m", "30m", "1h", "6h")


def _ratio(of: str, all_of: str) -> str:
    """Of nothing there is no ratio; where `of` has no series yet, it is 0."""
    return f"({of} or vector(0)) / ({all_of} > 0)"


def _errors(window: str) -> str:
    return _ratio(
        f'sum(rate(stoker_requests_total{{{V1},status=~"5.."}}[{window}]))',
        f"sum(rate(stoker_requests_total{{{V1}}}[{window}]))",
    )


def _p95(histogram: str, label: str) -> str:
    return f"histogram_quantile(0.95, sum by ({label}, le) (rate({histogram}_bucket[5m])))"


def group() -> Group:
    """Ratios and percentiles that panels and alerts share."""
    hits = f'sum(rate(stoker_cache_lookups_total{{{CACHED},outcome="hit"}}[30m]))'
    lookups = f'sum(rate(stoker_cache_lookups_total{{{CACHED},outcome=~"hit|miss"}}[30m]))'
    return Group(
        "stoker-gateway",
        [
            Recording(
                "stoker:requests:rate5m",
                f"sum by (route) (rate(stoker_requests_total{{{V1}}}[5m]))",
                "requests a second, by route",
            ),
            *(
                Recording(f"stoker:error_ratio:rate{window}", _errors(window), f"share of 5xx, 0 to 1, over {window}")
                for window in _WINDOWS
            ),
            Recording("stoker:request_seconds:p95", _p95("stoker_request_seconds", "route"), "p95 by route, s"),
            Recording(
                "stoker:time_to_first_token_seconds:p95",
                _p95("stoker_time_to_first_token_seconds", "model_group"),
                "p95 by model group, s",
            ),
            Recording("stoker:cache_hit_ratio:rate30m", _ratio(hits, lookups), "share of lookups, 0 to 1, over 30m"),
            Recording("stoker:cache_lookups:rate30m", lookups, "lookups that hit or missed, a second"),
            Recording(
                "stoker:spent_usd:increase1h",
                "sum(increase(stoker_spent_usd_total[1h]))",
                "money of the last hour, USD",
            ),
        ],
    )
