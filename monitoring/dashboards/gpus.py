"""Models and the GPUs under them, in one picture."""

from monitoring.dashboards.form import Dashboard, prometheus


def _engine_p95(name: str) -> str:
    return f"histogram_quantile(0.95, sum by (deployment, le) (rate(vllm:{name}_bucket[$__rate_interval])))"


_PREFIX = "sum by (deployment) (rate(vllm:prefix_cache_{}_total[$__rate_interval]))"

DASHBOARD = Dashboard(
    "stoker-gpus",
    "Models and GPUs",
    [
        prometheus("Generated tokens a second", "none", ("stoker:generated_tokens:rate5m", "{{deployment}}")),
        prometheus("Prompt tokens a second", "none", ("stoker:prompt_tokens:rate5m", "{{deployment}}")),
        prometheus(
            "Requests in engines",
            "none",
            ("sum by (deployment) (vllm:num_requests_running)", "{{deployment}} running"),
            ("sum by (deployment) (vllm:num_requests_waiting)", "{{deployment}} waiting"),
        ),
        prometheus("KV cache", "percentunit", ("max by (deployment) (vllm:kv_cache_usage_perc)", "{{deployment}}")),
        prometheus(
            "Prompt tokens out of the prefix cache",
            "percentunit",
            (f"{_PREFIX.format('hits')} / {_PREFIX.format('queries')}", "{{deployment}}"),
        ),
        prometheus(
            "Preemptions",
            "none",
            ("sum by (deployment) (rate(vllm:num_preemptions_total[$__rate_interval]))", "{{deployment}}"),
        ),
        prometheus("p95 in the engine's queue", "s", (_engine_p95("request_queue_time_seconds"), "{{deployment}}")),
        prometheus(
            "p95 to the engine's first token", "s", (_engine_p95("time_to_first_token_seconds"), "{{deployment}}")
        ),
        prometheus("p95 between tokens", "s", (_engine_p95("inter_token_latency_seconds"), "{{deployment}}")),
        prometheus("GPUs", "none", ("stoker:deployment_gpus", "{{deployment}} {{model}}")),
        prometheus("Power", "watt", ("stoker:deployment_power_watts", "{{deployment}} {{model}}")),
        prometheus("GPUs active", "percentunit", ("stoker:gpu_active_ratio", "{{host}} {{gpu}}")),
        prometheus(
            "Memory used",
            "bytes",
            ("sum by (deployment, model) (stoker:gpu_memory_used_bytes)", "{{deployment}} {{model}}"),
        ),
        prometheus(
            "Memory free, by GPU", "bytes", ("sum by (host, gpu) (stoker:gpu_memory_free_bytes)", "{{host}} {{gpu}}")
        ),
        prometheus("Who has how much of a GPU", "percentunit", ("stoker:gpu_share", "{{host}} {{gpu}} {{deployment}}")),
        prometheus("Tokens a second and GPU", "none", ("stoker:deployment_tokens_per_gpu:rate5m", "{{deployment}}")),
        prometheus("Tokens for a joule", "none", ("stoker:deployment_tokens_per_joule:rate5m", "{{deployment}}")),
        prometheus(
            "Money for idle GPUs, an hour", "currencyUSD", ("stoker:deployment_idle_usd_per_hour", "{{deployment}}")
        ),
        prometheus(
            "Temperature",
            "celsius",
            ("max by (Hostname, hostname, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}}{{hostname}} {{gpu}}"),
        ),
        prometheus(
            "SM clock",
            "none",
            ("max by (Hostname, hostname, gpu) (DCGM_FI_DEV_SM_CLOCK)", "{{Hostname}}{{hostname}} {{gpu}} MHz"),
        ),
        prometheus(
            "Calls by outcome",
            "reqps",
            (
                "sum by (deployment, outcome) (rate(stoker_upstream_calls_total[$__rate_interval]))",
                "{{deployment}} {{outcome}}",
            ),
        ),
        prometheus("Calls now", "none", ("sum by (deployment) (stoker_upstream_running)", "{{deployment}}")),
        prometheus(
            "Fallbacks and rescues",
            "reqps",
            (
                "sum by (model_group, fallback) (rate(stoker_fallbacks_total[$__rate_interval]))",
                "{{model_group}} to {{fallback}}",
            ),
            ("sum by (deployment, how) (rate(stoker_rescues_total[$__rate_interval]))", "{{deployment}} {{how}}"),
        ),
        prometheus(
            "Refused for overload",
            "reqps",
            (
                "sum by (model_group, priority) (rate(stoker_shed_total[$__rate_interval]))",
                "{{model_group}} {{priority}}",
            ),
        ),
    ],
)
