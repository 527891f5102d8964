"""A reading as Prometheus sees it, under dcgm-exporter's names, so that what is built on those works with either.

Source: dcgm-exporter, etc/default-counters.csv (names, types, units) and its template of labels;
docs/decisions/0007-gpu-figures-under-dcgm-names.md says why, and where we differ.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitoring.nvml.readings import THROTTLE_REASONS, GpuReading, MemoryReading, ProcessReading, Reading

_MIB = 1024 * 1024
_IDLE = "gpu_idle"


@dataclass(frozen=True, slots=True)
class _Figure:
    """One of dcgm-exporter's metrics. `of` gives its value in its unit; None: no sample."""

    name: str
    about: str
    of: Callable[[GpuReading], float | None]
    counter: bool = False


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _whole(value: float | None, factor: float) -> float | None:
    """For what NVML gives as a whole number, and binary fractions would make 28.999."""
    return None if value is None else float(round(value * factor))


_FIGURES = (
    _Figure("DCGM_FI_DEV_GPU_UTIL", "GPU utilisation (in %).", lambda gpu: _whole(gpu.gpu_utilisation_ratio, 100)),
    _Figure(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "Memory utilisation (in %).",
        lambda gpu: _whole(gpu.memory_copy_utilisation_ratio, 100),
    ),
    _Figure("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", lambda gpu: gpu.power_watts),
    _Figure("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "Enforced power limit (in W).", lambda gpu: gpu.power_limit_watts),
    _Figure(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "Energy since the driver was loaded (in mJ).",
        lambda gpu: _whole(gpu.energy_joules, 1000),
        counter=True,
    ),
    _Figure("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", lambda gpu: gpu.temperature_celsius),
    _Figure("DCGM_FI_DEV_SM_CLOCK", "SM clock (in MHz).", lambda gpu: _times(gpu.sm_clock_hz, 1e-6)),
    _Figure("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "Why the clocks are low (bit mask).", lambda gpu: gpu.throttle_mask),
    _Figure(
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "Corrected ECC errors since the driver was loaded.",
        lambda gpu: gpu.ecc_corrected,
        counter=True,
    ),
    _Figure(
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "Uncorrected ECC errors since the driver was loaded.",
        lambda gpu: gpu.ecc_uncorrected,
        counter=True,
    ),
)
_MEMORY: tuple[tuple[str, str, Callable[[MemoryReading], int]], ...] = (
    ("DCGM_FI_DEV_FB_USED", "Memory used (in MiB).", lambda memory: memory.used_bytes),
    ("DCGM_FI_DEV_FB_FREE", "Memory free (in MiB).", lambda memory: memory.free_bytes),
    ("DCGM_FI_DEV_FB_TOTAL", "Memory there is (in MiB).", lambda memory: memory.total_bytes),
)
NAMES = (
    *(figure.name for figure in _FIGURES),
    *(name for name, _, _ in _MEMORY),
    "stoker_gpu_driver_up",
    "stoker_gpu_driver_info",
    "stoker_gpu_up",
    "stoker_gpu_throttled",
    "stoker_gpu_process_memory_bytes",
)
"""All that is ever served."""


class GpuCollector(Collector):
    """Makes the metric families when they are asked for.

    Args:
        latest: gives the reading; it may take its time.
        hostname: the label `Hostname`.
    """

    def __init__(self, latest: Callable[[], Reading], hostname: str) -> None:
        self._latest = latest
        self._hostname = hostname

    def collect(self) -> Iterable[Metric]:
        reading = self._latest()
        yield from _about_driver(reading)
        yield from _as_dcgm(reading.gpus, self._hostname)
        yield from _own(reading.gpus)


_SUFFIX = re.compile(rb"^((?:# (?:HELP|TYPE) )?DCGM_FI_[A-Z0-9_]+)_total\b", re.MULTILINE)


def exposition(collector: Collector) -> bytes:
    """The text for Prometheus; the library's `_total`, which dcgm-exporter's counters lack, is taken off them."""
    registry = CollectorRegistry()
    registry.register(collector)
    return _SUFFIX.sub(rb"\1", generate_latest(registry))


def _about_driver(reading: Reading) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "stoker_gpu_driver_up", "Whether NVIDIA's driver answers (0 or 1).", value=int(reading.problem is None)
    )
    if reading.driver_version is not None and reading.problem is None:
        info = GaugeMetricFamily(
            "stoker_gpu_driver_info", "Versions of the driver; always 1.", labels=("driver_version", "cuda_version")
        )
        info.add_metric((reading.driver_version, reading.cuda_version or ""), 1)
        yield info


def _as_dcgm(gpus: Iterable[GpuReading], hostname: str) -> Iterator[Metric]:
    gpus = tuple(gpus)
    for figure in _FIGURES:
        kind = CounterMetricFamily if figure.counter else GaugeMetricFamily
        family: Metric = kind(figure.name, figure.about)
        for gpu in gpus:
            value = figure.of(gpu)
            if value is not None:
                family.add_sample(figure.name + "_total" * figure.counter, _labels(gpu, hostname), value)
        if family.samples:
            yield family
    memories = [found for gpu in gpus for found in _memories(gpu, hostname)]
    for name, about, of in _MEMORY:
        family = GaugeMetricFamily(name, about)
        for labels, memory in memories:
            family.add_sample(name, labels, of(memory) / _MIB)
        if family.samples:
            yield family


def _labels(gpu: GpuReading, hostname: str) -> dict[str, str]:
    index = _index(gpu)
    return {
        "gpu": index,
        "UUID": gpu.identity.uuid,
        "pci_bus_id": gpu.identity.pci_bus_id,
        "device": f"nvidia{index}",
        "modelName": gpu.identity.name,
        "Hostname": hostname,
    }


def _memories(gpu: GpuReading, hostname: str) -> Iterator[tuple[dict[str, str], MemoryReading]]:
    """A GPU's memory, or that of its GPU instances, so that a sum counts every byte once."""
    labels = _labels(gpu, hostname)
    if not gpu.mig_enabled:
        if gpu.memory is not None:
            yield labels, gpu.memory
        return
    seen: set[int | None] = set()
    for instance in gpu.instances:
        if instance.memory is not None and instance.gpu_instance_id not in seen:
            seen.add(instance.gpu_instance_id)
            own = {"GPU_I_PROFILE": instance.profile or "", "GPU_I_ID": _text(instance.gpu_instance_id)}
            yield {**labels, **own}, instance.memory


def _own(gpus: Iterable[GpuReading]) -> Iterator[Metric]:
    up = GaugeMetricFamily("stoker_gpu_up", "Whether the GPU answers (0 or 1).", labels=("gpu", "UUID"))
    throttled = GaugeMetricFamily(
        "stoker_gpu_throttled",
        "Whether the clocks are held down, by reason (0 or 1).",
        labels=("gpu", "UUID", "reason"),
    )
    memory = GaugeMetricFamily(
        "stoker_gpu_process_memory_bytes",
        "Memory of a process; UUID is that of the GPU, or of the MIG instance.",
        labels=("gpu", "UUID", "pid"),
    )
    for gpu in gpus:
        where = (_index(gpu), gpu.identity.uuid)
        up.add_metric(where, int(gpu.up))
        if gpu.throttle_reasons is not None:
            for reason in sorted({*THROTTLE_REASONS.values(), *gpu.throttle_reasons} - {_IDLE}):
                throttled.add_metric((*where, reason), int(reason in gpu.throttle_reasons))
        for uuid, processes in _processes(gpu).items():
            for process in processes:
                if process.used_memory_bytes is not None:
                    memory.add_metric((where[0], uuid, str(process.pid)), process.used_memory_bytes)
    yield from (family for family in (up, throttled, memory) if family.samples)


def _processes(gpu: GpuReading) -> Mapping[str, tuple[ProcessReading, ...]]:
    """By the UUID of where they run."""
    return {gpu.identity.uuid: gpu.processes or ()} | {each.uuid: each.processes or () for each in gpu.instances}


def _index(gpu: GpuReading) -> str:
    return _text(gpu.identity.index)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
