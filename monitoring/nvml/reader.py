"""The reader: one call, one `Reading` of all GPUs, whatever one of them does."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ParamSpec, TypeVar

from monitoring.nvml.binding import Memory, Nvml
from monitoring.nvml.errors import DriverReloaded, DriverUnavailable, GpuLost, GpuReadingError, NotRead
from monitoring.nvml.readings import (
    GpuIdentity,
    GpuReading,
    MemoryReading,
    MigReading,
    ProcessReading,
    Reading,
)

P = ParamSpec("P")
T = TypeVar("T")

_PROFILE = re.compile(r"\bMIG (\S+)")  # of a name such as `NVIDIA A100-SXM4-40GB MIG 1g.5gb`
_REMEDIES = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "install NVIDIA's driver (libnvidia-ml.so.1 is part of it), or give the container "
    "its GPUs (--gpus all)",
    "NVML_ERROR_DRIVER_NOT_LOADED": "load NVIDIA's driver; `nvidia-smi` must list the GPUs",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the driver was upgraded under running programs: restart this one, or the "
    "machine if `nvidia-smi` fails too",
}


class NvmlReader:
    """Reads GPUs through NVML. Not for two threads at once.

    Args:
        nvml: NVIDIA's binding, or a fake that the same tests hold.
        gpus: indices, UUIDs, or UUIDs of MIG instances; none: every GPU. Of a GPU that is not named itself only the
            named instances are reported.
    """

    def __init__(self, nvml: Nvml, gpus: Iterable[str] = ()) -> None:
        self._nvml = nvml
        self._wanted = frozenset(gpus)
        self._wants_instances = any(name.startswith("MIG-") for name in self._wanted)
        self._known: dict[str, GpuIdentity] = {}  # every GPU that was ever reported, by UUID
        self._is_open = False

    def read(self) -> Reading:
        """Read everything.

        A GPU that is lost, that the driver no longer lists, or that was asked for and is not there, is reported as
        not up. After the driver was reloaded it is opened again, once in a reading.

        Raises: DriverUnavailable: there is no driver to ask.
        """
        try:
            return self._read()
        except DriverReloaded:
            self._is_open = False
            return self._read()

    def close(self) -> None:
        """Let go of the driver."""
        if self._is_open:
            self._is_open = False
            with suppress(GpuReadingError):  # it is gone already
                self._ask(self._nvml.nvmlShutdown)

    def _read(self) -> Reading:
        if not self._is_open:
            self._ask(self._nvml.nvmlInit)
            self._is_open = True
        notes = _Notes()
        try:
            count = self._ask(self._nvml.nvmlDeviceGetCount)
        except (NotRead, GpuLost) as error:
            raise DriverUnavailable(f"the driver lists no GPUs ({error})", "`nvidia-smi` must list them") from error
        cuda = self._figure(notes, "cuda_version", self._nvml.nvmlSystemGetCudaDriverVersion)
        gpus = [gpu for index in range(count) if (gpu := self._gpu(index)) is not None]
        return Reading(
            gpus=(*gpus, *self._missing(gpus, count)),
            driver_version=self._figure(notes, "driver_version", self._nvml.nvmlSystemGetDriverVersion),
            cuda_version=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        )

    def _gpu(self, index: int) -> GpuReading | None:
        """One GPU; None: nobody wants it."""
        identity = next((known for known in self._known.values() if known.index == index), GpuIdentity(index))
        try:
            handle = self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
            identity = self._identify(handle, index)
            wanted = self._wants(identity)
            if not wanted and not self._wants_instances:
                return None
            gpu = self._figures(identity, handle)
        except (GpuLost, NotRead) as error:
            concerns = self._wants(identity) or identity.uuid in self._known
            return GpuReading(identity, up=False, problem=str(error)) if concerns else None
        if not wanted:
            kept = tuple(instance for instance in gpu.instances if instance.uuid in self._wanted)
            if not kept:
                self._known.pop(identity.uuid, None)  # it lives; the instance that was wanted of it does not
                return None
            gpu = replace(gpu, instances=kept)
        self._known[identity.uuid] = identity
        return gpu

    def _wants(self, identity: GpuIdentity) -> bool:
        return not self._wanted or str(identity.index) in self._wanted or identity.uuid in self._wanted

    def _missing(self, found: Iterable[GpuReading], count: int) -> list[GpuReading]:
        """GPUs that were seen before, or are asked for, and of which the driver says nothing."""
        identities = [gpu.identity for gpu in found]
        uuids = {identity.uuid for identity in identities}
        gone = [identity for identity in self._known.values() if identity.uuid not in uuids]
        named = {instance.uuid for gpu in found for instance in gpu.instances}
        for identity in (*identities, *gone):
            named |= {str(identity.index), identity.uuid}
        absent = [
            GpuIdentity(int(name)) if name.isdecimal() else GpuIdentity(None, uuid=name)
            for name in sorted(self._wanted - named)
        ]
        why_gone, why_absent = "the driver no longer lists it", f"it is not among what the driver lists (GPUs: {count})"
        return [GpuReading(identity, up=False, problem=why_gone) for identity in gone] + [
            GpuReading(identity, up=False, problem=why_absent) for identity in absent
        ]

    def _identify(self, handle: object, index: int) -> GpuIdentity:
        notes = _Notes()
        uuid = self._ask(self._nvml.nvmlDeviceGetUUID, handle)
        pci = self._figure(notes, "pci_bus_id", self._nvml.nvmlDeviceGetPciInfo, handle)
        name = self._figure(notes, "name", self._nvml.nvmlDeviceGetName, handle)
        return GpuIdentity(index, uuid, name or "", "" if pci is None else pci.busId)

    def _figures(self, identity: GpuIdentity, handle: object) -> GpuReading:
        nvml, notes = self._nvml, _Notes()
        mode = self._figure(notes, "mig_mode", nvml.nvmlDeviceGetMigMode, handle)
        mig = mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
        if mig:
            rates = None  # some drivers answer 0 here, which would be a lie
            notes.unread["utilisation"] = "NVML has none while MIG is enabled"
        else:
            rates = self._figure(notes, "utilisation", nvml.nvmlDeviceGetUtilizationRates, handle)
        power = self._figure(notes, "power_watts", nvml.nvmlDeviceGetPowerUsage, handle)
        limit = self._figure(notes, "power_limit_watts", nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        energy = self._figure(notes, "energy_joules", nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        clock = self._figure(notes, "sm_clock_hz", nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
        return GpuReading(
            identity,
            gpu_utilisation_ratio=None if rates is None else rates.gpu / 100,
            memory_copy_utilisation_ratio=None if rates is None else rates.memory / 100,
            memory=self._memory(notes, handle),
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if limit is None else limit / 1000,
            energy_joules=None if energy is None else energy / 1000,
            temperature_celsius=self._figure(
                notes, "temperature_celsius", nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            sm_clock_hz=None if clock is None else clock * 1_000_000,
            throttle_mask=self._throttle_mask(notes, handle),
            ecc_corrected=self._ecc(notes, "ecc_corrected", handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc(notes, "ecc_uncorrected", handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            processes=() if mig else self._processes(notes, handle),
            mig_enabled=mig,
            instances=tuple(self._instances(notes, handle)) if mig else (),
            unread=notes.unread,
        )

    def _instances(self, notes: "_Notes", parent: object) -> Iterable[MigReading]:
        nvml = self._nvml
        places = self._figure(notes, "instances", nvml.nvmlDeviceGetMaxMigDeviceCount, parent) or 0
        for place in range(places):
            try:
                handle = self._ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, place)
                uuid = self._ask(nvml.nvmlDeviceGetUUID, handle)
            except NotRead:
                continue  # an empty place
            own = _Notes(notes.unread, f"{uuid} ")
            name = self._figure(own, "profile", nvml.nvmlDeviceGetName, handle)
            profile = _PROFILE.search(name or "")
            yield MigReading(
                uuid,
                gpu_instance_id=self._figure(own, "gpu_instance_id", nvml.nvmlDeviceGetGpuInstanceId, handle),
                compute_instance_id=self._figure(
                    own, "compute_instance_id", nvml.nvmlDeviceGetComputeInstanceId, handle
                ),
                profile=None if profile is None else profile[1],
                memory=self._memory(own, handle),
                processes=self._processes(own, handle),
            )

    def _memory(self, notes: "_Notes", handle: object) -> MemoryReading | None:
        """By the newer call, whose `used` leaves out what the driver keeps; it is what dcgm-exporter asks, too."""
        read = self._nvml.nvmlDeviceGetMemoryInfo
        found: Memory | None = self._figure(notes, "memory", read, handle, self._nvml.nvmlMemory_v2)
        if found is None:
            found = self._figure(notes, "memory", read, handle)
        return None if found is None else MemoryReading(found.total, found.used, found.free)

    def _throttle_mask(self, notes: "_Notes", handle: object) -> int | None:
        """By the call of drivers since R535, or by its older name."""
        nvml = self._nvml
        mask = self._figure(notes, "throttle_mask", nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        if mask is None:
            mask = self._figure(notes, "throttle_mask", nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return mask

    def _ecc(self, notes: "_Notes", figure: str, handle: object, kind: int) -> int | None:
        return self._figure(
            notes, figure, self._nvml.nvmlDeviceGetTotalEccErrors, handle, kind, self._nvml.NVML_VOLATILE_ECC
        )

    def _processes(self, notes: "_Notes", handle: object) -> tuple[ProcessReading, ...] | None:
        found = self._figure(notes, "processes", self._nvml.nvmlDeviceGetComputeRunningProcesses, handle)
        if found is None:
            return None
        by_pid = {process.pid: process.usedGpuMemory for process in found}
        return tuple(ProcessReading(pid, by_pid[pid]) for pid in sorted(by_pid))

    def _figure(
        self, notes: "_Notes", figure: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """What the call says; None, with a note, where it says nothing of this GPU."""
        try:
            value = self._ask(call, *args, **kwargs)
        except NotRead as error:
            notes.unread[notes.about + figure] = str(error)
            return None
        notes.unread.pop(notes.about + figure, None)  # an older call has it
        return value

    def _ask(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The one place where NVML's codes become our errors."""
        try:
            return call(*args, **kwargs)
        except self._nvml.NVMLLibraryMismatchError as error:
            raise NotRead(str(error)) from error
        except self._nvml.NVMLError as error:
            code = getattr(error, "value", None)
            if code == self._nvml.NVML_ERROR_UNINITIALIZED:
                raise DriverReloaded("the driver was reloaded", "it is opened again with the next reading") from error
            if code in (self._nvml.NVML_ERROR_GPU_IS_LOST, self._nvml.NVML_ERROR_RESET_REQUIRED):
                raise GpuLost(str(error)) from error
            for name, remedy in _REMEDIES.items():
                if code == getattr(self._nvml, name):
                    self._is_open = False
                    raise DriverUnavailable(f"NVIDIA's driver does not answer ({error})", remedy) from error
            raise NotRead(str(error)) from error


@dataclass(slots=True)
class _Notes:
    """Which figures were not to be had, and why."""

    unread: dict[str, str] = field(default_factory=dict)
    about: str = ""
