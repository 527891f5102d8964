"""What exporters say of GPUs, as readings: dcgm-exporter's text, our NVML reader's, or Prometheus's copy of either.

An exporter says the same of a GPU several times: for each of its MIG instances, for each pod or container that has it,
and once more where two exporters run. Here every watt and every byte is there once. None is a figure that nobody gave;
it never means 0.
Source: dcgm-exporter, METRICS.md (names, units) and its template of labels.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan

from prometheus_client.parser import text_string_to_metric_families

_MIB = 1024 * 1024
_GIB = 1024 * _MIB
_SLACK = 1.25  # an instance has a little more or less memory than its profile's name says
_PROFILE = re.compile(r"(?P<compute>\d+)g\.(?P<gb>\d+)gb")

POWER = "DCGM_FI_DEV_POWER_USAGE"
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
UTIL = "DCGM_FI_DEV_GPU_UTIL"
ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
USED = "DCGM_FI_DEV_FB_USED"
FREE = "DCGM_FI_DEV_FB_FREE"
NAMES = (POWER, ENERGY, UTIL, ACTIVE, USED, FREE)

POD_LABEL = "stoker_dev_deployment"
"""How dcgm-exporter writes the pod's label `stoker.dev/deployment` (with `--kubernetes-enable-pod-labels`)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom an exporter names as having a GPU or a MIG instance; empty is what it does not name.

    Attributes:
        deployment: of the pod's label `stoker.dev/deployment`.
        pod: `NAMESPACE/NAME`.
        container: of Kubernetes, compose or plain Docker.
        job: of `--hpc-job-mapping-dir`.
    """

    deployment: str = ""
    pod: str = ""
    container: str = ""
    job: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """What can be given to a container: a MIG instance, or the whole GPU.

    Attributes:
        id: number of the GPU instance; empty for the whole GPU.
        profile: such as `1g.10gb`; empty for the whole GPU.
        memory_used_bytes, memory_free_bytes: None where the exporter repeats the GPU's own for every instance.
        active_ratio: 0 to 1, share of time in which anything ran.
    """

    id: str
    profile: str
    owners: frozenset[Owner]
    memory_used_bytes: float | None
    memory_free_bytes: float | None
    active_ratio: float | None

    @property
    def slices(self) -> int:
        """Compute slices, by which the instances of a GPU weigh; 1 where no profile tells."""
        known = _PROFILE.search(self.profile)
        return int(known["compute"]) if known else 1


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU at one moment.

    Attributes:
        uuid: or `HOST:INDEX` where no exporter gives one.
        host, index: as the first exporter calls it.
        energy_joules: since the driver was loaded.
        memory_used_bytes, memory_free_bytes: of all parts together.
        active_ratio: 0 to 1; under MIG the mean of its instances, weighted by their compute slices.
        parts: its MIG instances; without MIG one, which is the whole.
        names: its UUID, and `HOST:INDEX` as each exporter calls it.
    """

    uuid: str
    host: str
    index: str
    name: str
    power_watts: float | None
    energy_joules: float | None
    memory_used_bytes: float | None
    memory_free_bytes: float | None
    active_ratio: float | None
    parts: tuple[Part, ...]
    names: frozenset[str]


def read(*texts: str) -> tuple[Gpu, ...]:
    """Read the text of one exporter or of several; the same GPU may stand in more than one.

    Raises: ValueError: that is no text of Prometheus's form.
    """
    found: dict[str, _Rows] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removesuffix("_total")  # the parser's; dcgm-exporter's counters have none
                if name in NAMES and not _is_blank(sample.value):
                    _add(found, name, sample.labels, sample.value)
    return tuple(rows.gpu() for rows in sorted(found.values(), key=lambda rows: (rows.host, rows.index, rows.uuid)))


def active(parts: Iterable[Part]) -> float | None:
    """Share of time in which anything ran on parts of one GPU, weighed by their slices; None: not known of one."""
    known = [(part.slices, part.active_ratio) for part in parts]
    if any(ratio is None for _, ratio in known):
        return None
    return sum(slices * (ratio or 0.0) for slices, ratio in known) / sum(slices for slices, _ in known)


def label(labels: Mapping[str, str], name: str) -> str:
    """A label that Prometheus may have renamed, since its own of that name won (`honor_labels: false`)."""
    return labels.get(f"exported_{name}") or labels.get(name, "")


def _add(found: dict[str, "_Rows"], name: str, labels: Mapping[str, str], value: float) -> None:
    host = labels.get("Hostname") or labels.get("hostname", "")  # up to 4.5.3-4.8.2, and after it
    index = labels.get("gpu", "")
    uuid = labels.get("UUID") or f"{host}:{index}"
    rows = found.setdefault(uuid, _Rows(uuid, host, index, labels.get("modelName", "")))
    rows.names.add(f"{host}:{index}")
    part, profile = labels.get("GPU_I_ID", ""), labels.get("GPU_I_PROFILE", "")
    # Copies of one figure are equal, but for the moment in which two exporters looked.
    values = rows.values.setdefault(part, {})
    values[name] = max(value, values.get(name, value))
    if profile:
        rows.profiles[part] = profile
    pod, namespace = label(labels, "pod"), label(labels, "namespace")
    owner = Owner(
        deployment=labels.get(POD_LABEL, ""),
        pod=f"{namespace}/{pod}" if pod else "",
        container=label(labels, "container"),
        job=labels.get("hpc_job", ""),
    )
    if owner != Owner():
        rows.owners.setdefault(part, set()).add(owner)


def _is_blank(value: float) -> bool:
    """DCGM's own words for "no value", which some versions export. Source: dcgm_structs.h, DCGM_..._BLANK."""
    blanks = (0x7FFFFFF0, 140737488355328.0)  # of 32 bits, and of floating point; the next three say why
    return isnan(value) or value >= 0x7FFFFFFFFFFFFFF0 or any(blank <= value <= blank + 3 for blank in blanks)


@dataclass(slots=True)
class _Rows:
    """All that was said of one GPU, by the id of the instance; empty for the whole."""

    uuid: str
    host: str
    index: str
    name: str
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    owners: dict[str, set[Owner]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def gpu(self) -> Gpu:
        ids = sorted(id_ for id_ in self.values if id_) or [""]
        parts = tuple(self._part(id_) for id_ in ids)
        return Gpu(
            uuid=self.uuid,
            host=self.host,
            index=self.index,
            name=self.name,
            power_watts=self._once(POWER),
            energy_joules=_times(self._once(ENERGY), 1e-3),
            memory_used_bytes=self._memory(USED, parts, lambda part: part.memory_used_bytes),
            memory_free_bytes=self._memory(FREE, parts, lambda part: part.memory_free_bytes),
            active_ratio=active(parts),
            parts=parts,
            names=frozenset((self.uuid, *self.names)),
        )

    def _part(self, id_: str) -> Part:
        values = self.values.get(id_, {})
        # DCGM answers 0 for the utilisation of an instance, which has none.
        active = values.get(ACTIVE) if id_ else _first(_times(values.get(UTIL), 0.01), values.get(ACTIVE))
        used, free = (_times(values.get(name), _MIB) for name in (USED, FREE))
        profile = self.profiles.get(id_, "")
        if id_ and _is_whole_gpus(profile, used, free):
            used = free = None
        return Part(id_, profile, frozenset(self.owners.get(id_, ())), used, free, active)

    def _once(self, name: str) -> float | None:
        """A figure of the GPU, which is repeated for every instance."""
        return max((values[name] for values in self.values.values() if name in values), default=None)

    def _memory(self, name: str, parts: tuple[Part, ...], of: Callable[[Part], float | None]) -> float | None:
        own = [value for part in parts if (value := of(part)) is not None]
        return sum(own) if own else _times(self._once(name), _MIB)


def _is_whole_gpus(profile: str, used: float | None, free: float | None) -> bool:
    """Whether that is more memory than an instance of this profile has."""
    known = _PROFILE.search(profile)
    return known is not None and (used or 0) + (free or 0) > _SLACK * int(known["gb"]) * _GIB


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
