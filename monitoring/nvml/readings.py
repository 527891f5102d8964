"""What was read of a host's GPUs. None is a figure that the GPU or its driver does not give; it never means 0."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# Source: nvml.h, nvmlClocksEventReasons; named as in dcgm-exporter's label `clock_event`, but for the last two.
THROTTLE_REASONS: Mapping[int, str] = {
    0x001: "gpu_idle",  # no throttling: nothing runs
    0x002: "clocks_setting",
    0x004: "power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal",
    0x040: "hw_thermal",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """Which GPU it is.

    Attributes:
        index: the driver's; None for one that was asked for by UUID and is not there.
        uuid: such as `GPU-...`; empty where the GPU was lost before it could be asked.
        pci_bus_id: such as `00000000:1B:00.0`.
    """

    index: int | None
    uuid: str = ""
    name: str = ""
    pci_bus_id: str = ""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory of a GPU or of a MIG instance; `used` is without what the driver keeps for itself, where it says so."""

    total_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """A process that computes there. `pid` is the host's, whatever container it is in."""

    pid: int
    used_memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class MigReading:
    """One MIG instance.

    Attributes:
        uuid: its own, such as `MIG-...`.
        profile: such as `1g.5gb`.
        memory: of its GPU instance; compute instances of the same GPU instance share it.
        gpu_utilisation_ratio: always None: NVML has none for instances.
    """

    uuid: str
    gpu_instance_id: int | None
    compute_instance_id: int | None
    profile: str | None
    memory: MemoryReading | None
    processes: tuple[ProcessReading, ...] | None
    gpu_utilisation_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment.

    Attributes:
        up: whether it answers; otherwise there are no figures.
        problem: why it does not.
        gpu_utilisation_ratio: 0 to 1, share of the driver's last sample period in which any kernel ran; None under MIG.
        memory_copy_utilisation_ratio: 0 to 1, share in which memory was read or written; None under MIG.
        power_limit_watts: what the driver enforces.
        energy_joules: since the driver was loaded; only grows.
        throttle_mask: the driver's bit mask; `throttle_reasons` are its names.
        ecc_corrected, ecc_uncorrected: errors since the driver was loaded.
        processes: empty for a GPU in MIG mode, whose processes stand with its instances.
        unread: figures that are None, with NVML's word for it.
    """

    identity: GpuIdentity
    up: bool = True
    problem: str | None = None
    gpu_utilisation_ratio: float | None = None
    memory_copy_utilisation_ratio: float | None = None
    memory: MemoryReading | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: int | None = None
    sm_clock_hz: int | None = None
    throttle_mask: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    processes: tuple[ProcessReading, ...] | None = None
    mig_enabled: bool = False
    instances: tuple[MigReading, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    throttle_reasons: frozenset[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.throttle_mask is not None:
            object.__setattr__(self, "throttle_reasons", reasons_of(self.throttle_mask))


@dataclass(frozen=True, slots=True)
class Reading:
    """All GPUs at one moment.

    Attributes:
        problem: why the driver could not be asked; then no GPU is up.
        cuda_version: the newest that the driver can run, such as `13.0`.
    """

    gpus: tuple[GpuReading, ...] = ()
    problem: str | None = None
    driver_version: str | None = None
    cuda_version: str | None = None

    def all_down(self, problem: str) -> "Reading":
        """The same GPUs, none of which answers."""
        down = tuple(GpuReading(gpu.identity, up=False, problem=problem) for gpu in self.gpus)
        return replace(self, gpus=down, problem=problem)


def reasons_of(mask: int) -> frozenset[str]:
    """Names of the bits; a bit that is newer than this list is named by its number."""
    bits = (1 << place for place in range(mask.bit_length()))
    return frozenset(THROTTLE_REASONS.get(bit, f"bit_{bit:#x}") for bit in bits if mask & bit)
