"""Shares and figures as `stoker_gpu_*`, labelled with deployment and model. What is None has no sample."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitoring.gpus.sources import Look

SHARES: Mapping[str, tuple[str, str]] = {
    "stoker_gpu_share_ratio": ("ratio", "The deployment's share of the GPU's power and time, 0 to 1."),
    "stoker_gpu_power_watts": ("power_watts", "Power of the deployment's share of the GPU."),
    "stoker_gpu_memory_used_bytes": ("memory_used_bytes", "Used memory of the deployment's share of the GPU."),
    "stoker_gpu_memory_free_bytes": ("memory_free_bytes", "Free memory of the deployment's share of the GPU."),
    "stoker_gpu_active_ratio": (
        "active_ratio",
        "Share of time in which anything ran on the deployment's part of the GPU, 0 to 1.",
    ),
}
"""Name to the attribute of `Share` and what it is; labels host, gpu, UUID, deployment, model."""

FIGURES: Mapping[str, tuple[str, str]] = {
    "stoker_gpu_count": ("gpus", "GPUs of the deployment, shared ones by its share."),
    "stoker_gpu_tokens_per_second": ("tokens_per_gpu_s", "Generated tokens a second and GPU."),
    "stoker_gpu_tokens_per_joule": ("tokens_per_joule", "Generated tokens for each joule."),
    "stoker_gpu_usd_per_million_tokens": ("usd_per_million_tokens", "Money for GPUs, for a million tokens."),
    "stoker_gpu_hosted_usd_per_million_tokens": (
        "hosted_usd_per_million_tokens",
        "What a million tokens of the same mix cost at the hosted price.",
    ),
    "stoker_gpu_idle_usd": (
        "idle_usd",
        "Money of the interval for time in which nothing ran on the deployment's parts of GPUs.",
    ),
}
"""Name to the attribute of `Figures` and what it is; labels deployment, model."""


UP = ("stoker_gpu_source_up", "Whether an exporter or an engine answered (0 or 1).")


class FigureCollector(Collector):
    """Gives what one look found."""

    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(*UP, labels=("source",))
        for source, answered in self._look.up.items():
            up.add_metric((source,), int(answered))
        yield up
        for name, (attribute, about) in SHARES.items():
            family = GaugeMetricFamily(name, about, labels=("host", "gpu", "UUID", "deployment", "model"))
            for share in self._look.shares:
                gpu, place = share.gpu, share.place
                value = getattr(share, attribute)
                if value is not None:
                    family.add_metric((gpu.host, gpu.index, gpu.uuid, place.deployment, place.model), value)
            yield family
        for name, (attribute, about) in FIGURES.items():
            family = GaugeMetricFamily(name, about, labels=("deployment", "model"))
            for figure in self._look.figures:
                value = getattr(figure, attribute)
                if value is not None:
                    family.add_metric((figure.deployment, figure.model), value)
            yield family


def exposition(look: Look) -> str:
    """The text for Prometheus."""
    registry = CollectorRegistry()
    registry.register(FigureCollector(look))
    return generate_latest(registry).decode()
