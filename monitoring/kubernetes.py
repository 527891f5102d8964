"""The same for the Prometheus Operator and for Grafana's side-car: what a cluster is watched by, as its resources.

A pod is scraped by its label `app.kubernetes.io/name`, an engine by `stoker.dev/deployment`. An engine's deployment is
called as its pod is: `k8s/engine` gives each replica a name of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monitoring.rules.form import Group, dump, rules_of

HEAD = "# Made by `python -m monitoring.write`; change monitoring/kubernetes.py instead.\n"
_SECONDS = 15
_NAME, _DEPLOYMENT = "app.kubernetes.io/name", "stoker.dev/deployment"


def files(groups: Sequence[Group], dashboards: Iterable[str]) -> Mapping[str, str]:
    """Path below the folder to its text.

    Args:
        dashboards: names of their files, in `grafana/dashboards`.
    """
    return {
        "kustomization.yaml": HEAD + dump(_kustomization(dashboards)),
        "kubernetes/monitors.yaml": HEAD + "---\n".join(dump(monitor) for monitor in _monitors()),
        "kubernetes/rules.yaml": HEAD + dump(_rules(groups)),
    }


def _monitors() -> Sequence[Mapping[str, Any]]:
    return [
        _monitor("stoker", {"matchLabels": {_NAME: "stoker-gateway"}}, "http"),
        _monitor("worker", {"matchLabels": {_NAME: "stoker-worker"}}, "metrics"),
        _monitor("embedding", {"matchLabels": {_NAME: "stoker-embedding"}}, "http"),
        _monitor(
            "vllm",
            {"matchExpressions": [{"key": _DEPLOYMENT, "operator": "Exists"}]},
            "http",
            {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "deployment"},
        ),
    ]


def _monitor(job: str, selector: Mapping[str, Any], port: str, *more: Mapping[str, Any]) -> Mapping[str, Any]:
    named = {"targetLabel": "job", "replacement": job}  # as rules and dashboards call it
    endpoint = {"port": port, "path": "/metrics", "interval": f"{_SECONDS}s", "relabelings": [named, *more]}
    spec = {"selector": selector, "podMetricsEndpoints": [endpoint]}
    return _resource("monitoring.coreos.com/v1", "PodMonitor", f"stoker-{job}" if job != "stoker" else job, spec)


def _rules(groups: Sequence[Group]) -> Mapping[str, Any]:
    return _resource("monitoring.coreos.com/v1", "PrometheusRule", "stoker", rules_of(groups))


def _kustomization(dashboards: Iterable[str]) -> Mapping[str, Any]:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["kubernetes/monitors.yaml", "kubernetes/rules.yaml"],
        "configMapGenerator": [
            {
                "name": name.removesuffix(".json"),
                "files": [f"grafana/dashboards/{name}"],
                "options": {"disableNameSuffixHash": True, "labels": {"grafana_dashboard": "1"}},
            }
            for name in dashboards
        ],
    }


def _resource(version: str, kind: str, name: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
