"""Which deployment runs on which GPU, by what the configuration says, or else by what exporters say of containers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from core.naming import deployment_names
from monitoring.gpus.readings import Gpu, Owner, Part

_NATIVE_PREFIX = "hosted_vllm/"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployment runs. `gpus` alone counts where it is given.

    Attributes:
        deployment: its name; a pod's label `stoker.dev/deployment`, a container or a job of this name is its own too.
        model: the name that its engine gives the model.
        gpus: `HOST:INDEX` or a GPU's UUID, either with `/INSTANCE` behind it for a MIG instance.
        pods: `NAMESPACE/NAME`; `*` stands for any signs.
        containers: names of containers.
    """

    deployment: str
    model: str
    gpus: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()

    def has(self, gpu: Gpu, part: Part) -> bool:
        """Whether the deployment runs there."""
        if self.gpus:
            names = {f"{gpu.host}:{gpu.index}", gpu.uuid}
            return any(name in names or (part.id and name in _instances(names, part)) for name in self.gpus)
        return any(self._is(owner) for owner in part.owners)

    def _is(self, owner: Owner) -> bool:
        return (
            self.deployment in (owner.deployment, owner.container, owner.job)
            or owner.container in self.containers
            or any(fnmatchcase(owner.pod, pattern) for pattern in self.pods)
        )


def _instances(names: Iterable[str], part: Part) -> set[str]:
    return {f"{name}/{part.id}" for name in names}


def native(model_list: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries that are engines of one's own, in the order of `places`."""
    return [entry for entry in model_list if entry["litellm_params"]["model"].startswith(_NATIVE_PREFIX)]


def places(model_list: Iterable[Mapping[str, Any]]) -> tuple[Place, ...]:
    """The engines of one's own that the configuration names, under the names that the router gives them."""
    entries = list(model_list)
    names = deployment_names((entry["model_name"], (entry.get("model_info") or {}).get("id")) for entry in entries)
    found = []
    for entry, name in zip(entries, names, strict=True):
        info, model = entry.get("model_info") or {}, entry["litellm_params"]["model"]
        if model.startswith(_NATIVE_PREFIX):
            found.append(
                Place(
                    deployment=name,
                    model=model.removeprefix(_NATIVE_PREFIX),
                    gpus=tuple(info.get("gpus") or ()),
                    pods=tuple(info.get("pods") or ()),
                    containers=tuple(info.get("containers") or ()),
                )
            )
    return tuple(found)
