"""Money by endpoint, what caches and one's own GPUs save, and what idle GPUs cost."""

from monitoring.dashboards.form import Dashboard, prometheus

_OWN = "stoker:deployment_usd_per_million_tokens:rate5m"
_HOSTED = "stoker:deployment_hosted_usd_per_million_tokens:rate5m"
_TOKENS = "(stoker:prompt_tokens:rate5m + stoker:generated_tokens:rate5m)"


def _an_hour(label: str) -> str:
    return f"sum by ({label}) (rate(stoker_spent_usd_total[1h])) * 3600"


DASHBOARD = Dashboard(
    "stoker-cost",
    "Cost by endpoint and savings",
    [
        prometheus("Money an hour, by endpoint", "currencyUSD", (_an_hour("route"), "{{route}}")),
        prometheus("Money an hour, by model group", "currencyUSD", (_an_hour("model_group"), "{{model_group}}")),
        prometheus("Money an hour, by deployment", "currencyUSD", (_an_hour("deployment"), "{{deployment}}")),
        prometheus(
            "Money of the last day, by endpoint",
            "currencyUSD",
            ("sort_desc(sum by (route) (increase(stoker_spent_usd_total[1d])))", "{{route}}"),
            kind="table",
            width=12,
        ),
        prometheus(
            "Saved by caches within a day",
            "currencyUSD",
            ("sum by (model_group) (increase(stoker_cache_saved_usd_total[1d]))", "{{model_group}}"),
            kind="table",
            width=12,
        ),
        prometheus(
            "A million tokens: own GPUs and hosted",
            "currencyUSD",
            (_OWN, "{{deployment}} own"),
            (_HOSTED, "{{deployment}} hosted"),
            width=12,
        ),
        prometheus(
            "Saved by own GPUs, an hour; below 0 hosted is cheaper",
            "currencyUSD",
            (f"({_HOSTED} - on (deployment) sum by (deployment) ({_OWN})) * {_TOKENS} * 3600 / 1e6", "{{deployment}}"),
            width=12,
        ),
        prometheus("GPUs, an hour", "currencyUSD", ("stoker:deployment_gpu_usd_per_hour", "{{deployment}} {{model}}")),
        prometheus("Idle GPUs, an hour", "currencyUSD", ("stoker:deployment_idle_usd_per_hour", "{{deployment}}")),
        prometheus(
            "What `auto` chooses",
            "reqps",
            ("sum by (model_group, by) (rate(stoker_auto_choices_total[$__rate_interval]))", "{{model_group}} {{by}}"),
        ),
        prometheus(
            "Experiments, USD an hour",
            "currencyUSD",
            (
                "sum by (experiment, arm) (rate(stoker_experiment_nano_usd_total[1h])) * 3600 / 1e9",
                "{{experiment}} {{arm}}",
            ),
        ),
    ],
)
