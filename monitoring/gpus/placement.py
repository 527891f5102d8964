"""Which deployment runs on which GPU, by what the configuration says, or else by what exporters say of containers."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from core.naming import deployment_names
from monitoring.gpus.readings import Gpu, Owner, Part

_NATIVE_PREFIX = "hosted_vllm/"
_SECRET_PREFIX = "os.environ/"  # noqa: S105 - LiteLLM's way to name an environment variable


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployment runs. `gpus` alone counts where it is given.

    Attributes:
        deployment: its name; a pod's label `stoker.dev/deployment`, a container or a job of this name is its own too.
        model: the name that its engine gives the model.
        gpus: `HOST:INDEX` or a GPU's UUID, either with `/INSTANCE` behind it for a MIG instance.
        pods: `NAMESPACE/NAME`; `*` stands for any signs.
        containers: names of containers.
        engine: its address, such as `http://host:8000`; its metrics are at `/metrics` below that.
    """

    deployment: str
    model: str
    gpus: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    engine: str = ""

    def has(self, gpu: Gpu, part: Part) -> bool:
        """Whether the deployment runs there."""
        if self.gpus:
            names = gpu.names | {f"{name}/{part.id}" for name in gpu.names if part.id}
            return any(name in names for name in self.gpus)
        return any(self._is(owner) for owner in part.owners)

    def _is(self, owner: Owner) -> bool:
        return (
            self.deployment in (owner.deployment, owner.container, owner.job)
            or owner.container in self.containers
            or any(fnmatchcase(owner.pod, pattern) for pattern in self.pods)
        )


def places(*sources: Iterable[Mapping[str, Any]]) -> tuple[Place, ...]:
    """The engines of one's own that a `model_list` or several name, under the names that the router gives them.

    Several deployments of one engine, such as a model and its LoRA adapters, are one place under the first one's name
    and model: the engine counts the tokens of all of them together.
    """
    found: dict[str, Place] = {}
    for entry, name in (pair for model_list in sources for pair in _with_names(model_list)):
        model, engine = entry["litellm_params"]["model"], _engine(entry["litellm_params"].get("api_base") or "")
        if model.startswith(_NATIVE_PREFIX) and engine:
            place = found.setdefault(engine, Place(name, model.removeprefix(_NATIVE_PREFIX), engine=engine))
            info = entry.get("model_info") or {}
            found[engine] = replace(
                place,
                gpus=_both(place.gpus, info.get("gpus")),
                pods=_both(place.pods, info.get("pods")),
                containers=_both(place.containers, info.get("containers")),
            )
    return tuple(found.values())


def _with_names(model_list: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], str]]:
    entries = list(model_list)
    names = deployment_names((entry["model_name"], (entry.get("model_info") or {}).get("id")) for entry in entries)
    return zip(entries, names, strict=True)


def _both(had: tuple[str, ...], said: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*had, *(said or ()))))


def _engine(api_base: str) -> str:
    """Where an engine's own paths begin; empty where no address is said, as the router has no deployment then."""
    if api_base.startswith(_SECRET_PREFIX):
        api_base = os.environ.get(api_base.removeprefix(_SECRET_PREFIX), "")
    parts = urlsplit(api_base.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.removesuffix('/v1')}" if parts.netloc else ""
