"""Rendered objects: pods with their containers and their environment, Services, and who selects whom."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.support.kubectl import kustomize
from tests.support.process import ROOT

FOLDER = ROOT / "k8s"
OVERLAYS = ("cpu-dev", "gpu-single", "gpu-mig", "production")
_WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob"}
_VARIABLE = re.compile(r"\$\(([A-Z0-9_]+)\)")
Object = dict[str, Any]


@dataclass(frozen=True)
class Container:
    """One container of a pod; `first`: it runs before the others, or beside them as a sidecar."""

    spec: Object
    first: bool

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def command(self) -> list[str]:
        return [str(word) for word in (*self.spec.get("command", ()), *self.spec.get("args", ()))]

    @property
    def module(self) -> str:
        """Of ours, which it runs; empty where it is none."""
        words = " ".join(self.command).split()
        return words[words.index("-m") + 1] if "-m" in words else ""

    @property
    def probes(self) -> Mapping[str, Object]:
        kinds = ("startupProbe", "readinessProbe", "livenessProbe")
        return {kind: self.spec[kind] for kind in kinds if kind in self.spec}

    @property
    def ports(self) -> Mapping[str, int]:
        return {str(port["name"]): int(port["containerPort"]) for port in self.spec.get("ports", ())}

    def mounted(self, path: str) -> str | None:
        """The volume at a path."""
        found = (mount["name"] for mount in self.spec.get("volumeMounts", ()) if mount["mountPath"] == path)
        return next(found, None)


@dataclass(frozen=True)
class Workload:
    """What makes pods."""

    object: Object

    @property
    def kind(self) -> str:
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def template(self) -> Object:
        spec = self.object["spec"]
        template = spec["jobTemplate"]["spec"]["template"] if self.kind == "CronJob" else spec["template"]
        assert isinstance(template, dict)
        return template

    @property
    def pod(self) -> Object:
        spec = self.template["spec"]
        assert isinstance(spec, dict)
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        labels = self.template["metadata"]["labels"]
        assert isinstance(labels, dict)
        return labels

    @property
    def containers(self) -> list[Container]:
        first = [Container(spec, True) for spec in self.pod.get("initContainers", ())]
        return [*first, *(Container(spec, False) for spec in self.pod["containers"])]

    def container(self, name: str) -> Container:
        return next(each for each in self.containers if each.name == name)

    @property
    def ports(self) -> Mapping[str, int]:
        return {name: port for each in self.containers for name, port in each.ports.items()}

    @property
    def replicas(self) -> int:
        return int(self.object["spec"].get("replicas", 1))

    @property
    def runs_on(self) -> bool:
        """Whether its pods are there all the time."""
        return self.kind in ("Deployment", "StatefulSet")


class Cluster:
    """All objects of one rendering."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.objects = list(objects)

    def copy(self) -> "Cluster":
        """Another one that may be changed."""
        return Cluster(copy.deepcopy(self.objects))

    def of(self, *kinds: str) -> Iterator[Object]:
        return (each for each in self.objects if each["kind"] in kinds)

    def get(self, kind: str, name: str) -> Object:
        return next(each for each in self.of(kind) if each["metadata"]["name"] == name)

    def has(self, kind: str, name: str) -> bool:
        return any(each["metadata"]["name"] == name for each in self.of(kind))

    @cached_property
    def workloads(self) -> list[Workload]:
        return [Workload(each) for each in self.of(*_WORKLOADS)]

    def workload(self, name: str) -> Workload:
        return next(each for each in self.workloads if each.name == name and each.kind not in ("Job", "CronJob"))

    def environment(self, container: Container) -> dict[str, str]:
        """Its variables, as the kubelet makes them; a secret's value is its name and key."""
        found: dict[str, str] = {}
        for source in container.spec.get("envFrom", ()):
            found |= self.data(source["configMapRef"]["name"])
        own: dict[str, str] = {}
        for entry in container.spec.get("env", ()):
            if "value" in entry:
                own[entry["name"]] = _VARIABLE.sub(lambda said: own.get(said[1], said[0]), str(entry["value"]))
            else:
                secret = entry["valueFrom"]["secretKeyRef"]
                own[entry["name"]] = f"{secret['name']}.{secret['key']}"
        return found | own

    def data(self, name: str) -> dict[str, str]:
        """Of a ConfigMap; empty where there is none."""
        if not self.has("ConfigMap", name):
            return {}
        return dict(self.get("ConfigMap", name).get("data", {}))

    @property
    def models(self) -> Object:
        """What stoker.yaml says."""
        found = yaml.safe_load(self.data("stoker-deployments").get("stoker.yaml", "")) or {}
        assert isinstance(found, dict)
        return found


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector fits. An empty one fits everything."""
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    for wanted in selector.get("matchExpressions") or ():
        has, value = wanted["key"] in labels, labels.get(wanted["key"])
        fits = {
            "In": value in wanted.get("values", ()),
            "NotIn": value not in wanted.get("values", ()),
            "Exists": has,
            "DoesNotExist": not has,
        }
        if not fits[wanted["operator"]]:
            return False
    return True


def rendered(folder: Path) -> Cluster:
    """What a folder of k8s/ renders to; may not be changed, but its copy may."""
    return Cluster([each for each in yaml.safe_load_all(kustomize(folder)) if each])


def overlay(name: str) -> Cluster:
    return rendered(FOLDER / "overlays" / name)
