"""Which series there are: what rules and panels may name. A name that no part gives never errors, it shows nothing."""

import re
from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Gauge, Histogram

from monitoring import metrics
from monitoring.gpus import engines, readings
from monitoring.nvml import exposition
from monitoring.replaced import ReplacedGauge
from monitoring.rules import book
from monitoring.rules.form import Recording

ENGINES = frozenset(
    """
    vllm:num_requests_running vllm:num_requests_waiting vllm:kv_cache_usage_perc vllm:num_preemptions_total
    vllm:prefix_cache_queries_total vllm:prefix_cache_hits_total vllm:request_success_total
    vllm:time_to_first_token_seconds_bucket vllm:inter_token_latency_seconds_bucket
    vllm:e2e_request_latency_seconds_bucket vllm:request_queue_time_seconds_bucket
    """.split()
) | {engines.GENERATED, engines.PROMPT}
"""Of vLLM 0.32; a test holds them against a recorded scrape."""

PROMETHEUS = frozenset({"up", "ALERTS"})

_NAME = re.compile(r"(?<![\w:.$\"])(?:stoker[_:][\w:]+|vllm:\w+|DCGM_\w+|up|ALERTS)(?![\w:(])")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")


def known() -> frozenset[str]:
    """Every series that a rule or a panel may name."""
    recorded = {rule.record for group in book.groups() for rule in group.rules if isinstance(rule, Recording)}
    return frozenset((*own(), *_gpus(), *recorded, "stoker:gpu_configured")) | ENGINES | PROMETHEUS


def own() -> Iterator[str]:
    """The series of `monitoring.metrics`."""
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram | ReplacedGauge):
            (family,) = metric.describe()
            yield from _series(family.name, family.type)


def named(expr: str) -> set[str]:
    """The series that an expression names, also those that it selects by `__name__`."""
    selected = re.findall(r'__name__=~"([^"]+)"', expr)
    found = set(_NAME.findall(_LABELS.sub(" ", _TEXT.sub('""', expr))))
    return found | {name for group in selected for name in group.split("|")}


def _series(name: str, kind: str) -> Iterable[str]:
    if kind == "counter":
        return (f"{name}_total",)
    if kind == "histogram":
        return (f"{name}_bucket", f"{name}_sum", f"{name}_count")
    return (name,)


def _gpus() -> Iterable[str]:
    return (*readings.NAMES, *exposition.NAMES)
