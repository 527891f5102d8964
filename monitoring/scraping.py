"""What Prometheus reads, and where: its configuration, and the engines that the configuration of models names."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from monitoring.gpus.placement import Place, places
from monitoring.rules.form import dump

_SECONDS = 15
_LABEL = "stoker_dev_deployment"  # the pod's label stoker.dev/deployment, as Prometheus writes it

HEAD = "# Made by `python -m monitoring.write`; change monitoring/scraping.py instead.\n"


def prometheus() -> str:
    """`prometheus.yml` for hosts and compose."""
    own: list[dict[str, Any]] = [
        {"job_name": "stoker", "static_configs": [{"targets": ["gateway:8080"]}]},
        # Those that tell of themselves, by STOKER_METRICS_PORT; the gateway tells of those that share its folder.
        {"job_name": "keeper", "file_sd_configs": [{"files": ["keepers.yml"]}]},
        {"job_name": "worker", "file_sd_configs": [{"files": ["workers.yml"]}]},
        {"job_name": "embedding", "static_configs": [{"targets": ["embedding:8081"]}]},
        {"job_name": "vllm", "file_sd_configs": [{"files": ["engines.yml"]}]},
        # dcgm-exporter, or `python -m monitoring.nvml`; its labels `pod` and `container` are those of who has the GPU.
        {"job_name": "gpu", "honor_labels": True, "file_sd_configs": [{"files": ["gpus.yml"]}]},
    ]
    return HEAD + dump(_whole(own))


def kubernetes() -> str:
    """`prometheus.kubernetes.yml`: engines are pods with the label `stoker.dev/deployment`."""
    meta = "__meta_kubernetes_pod"
    labels = [
        {"source_labels": [f"{meta}_label_{_LABEL}"], "target_label": "deployment"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [f"{meta}_name"], "target_label": "pod"},
    ]

    def named(job: str, app: str) -> dict[str, Any]:
        keep = {"source_labels": [f"{meta}_label_app_kubernetes_io_name"], "regex": app, "action": "keep"}
        return {"job_name": job, "kubernetes_sd_configs": [{"role": "pod"}], "relabel_configs": [keep]}

    engines = {"source_labels": [f"{meta}_label_{_LABEL}"], "regex": ".+", "action": "keep"}
    own: list[dict[str, Any]] = [
        named("stoker", "stoker-gateway"),
        named("keeper", "stoker-keeper"),
        named("worker", "stoker-worker"),
        named("embedding", "stoker-embedding"),
        {"job_name": "vllm", "kubernetes_sd_configs": [{"role": "pod"}], "relabel_configs": [engines, *labels]},
        {**named("gpu", "dcgm-exporter"), "honor_labels": True},
    ]
    return HEAD + dump(_whole(own))


def engines(model_list: Iterable[Mapping[str, Any]]) -> str:
    """`engines.yml`: each engine's address, once, with the name of its deployment."""
    return HEAD + dump([_engine(place) for place in places(model_list)])


def _engine(place: Place) -> Mapping[str, Any]:
    address, labels = urlsplit(place.engine), {"deployment": place.deployment}
    if address.scheme != "http":
        labels["__scheme__"] = address.scheme
    if address.path:
        labels["__metrics_path__"] = f"{address.path}/metrics"
    return {"targets": [address.netloc], "labels": labels}


def targets(addresses: Iterable[str]) -> str:
    """`gpus.yml` and the like: addresses, `HOST:PORT`, of what is scraped."""
    found = list(addresses)
    return HEAD + dump([{"targets": found}] if found else [])


def _whole(jobs: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {
        "global": {"scrape_interval": f"{_SECONDS}s", "evaluation_interval": f"{_SECONDS}s"},
        "rule_files": ["rules/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]},
        "scrape_configs": jobs,
    }
