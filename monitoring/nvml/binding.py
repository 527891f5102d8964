"""What the reader needs of NVIDIA's binding, the module `pynvml` of the package nvidia-ml-py, and where it comes from.

The protocol is the list that a test holds against the real module, name by name.
"""
# ruff: noqa: N802  # the names are NVML's

from collections.abc import Sequence
from typing import Any, Protocol

from monitoring.nvml.errors import DriverUnavailable


class Utilization(Protocol):
    """Percent, 0 to 100."""

    gpu: int
    memory: int


class Memory(Protocol):
    """Bytes."""

    total: int
    free: int
    used: int


class PciInfo(Protocol):
    """Where the GPU sits."""

    busId: str  # noqa: N815


class Process(Protocol):
    """Bytes; None where the driver does not tell."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815


class Nvml(Protocol):
    """NVML, as Python sees it. A handle is opaque; every function may raise `NVMLError`, whose `value` is a code.

    Where the driver is too old for them, some functions raise `NVMLLibraryMismatchError`, which is another class.

    Source: NVIDIA's NVML API reference, and the binding's own file.
    """

    NVMLError: type[Exception]
    NVMLLibraryMismatchError: type[Exception]
    NVML_ERROR_UNINITIALIZED: int
    NVML_ERROR_DRIVER_NOT_LOADED: int
    NVML_ERROR_LIBRARY_NOT_FOUND: int
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: int
    NVML_ERROR_GPU_IS_LOST: int
    NVML_ERROR_RESET_REQUIRED: int
    NVML_TEMPERATURE_GPU: int
    NVML_CLOCK_SM: int
    NVML_MEMORY_ERROR_TYPE_CORRECTED: int
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED: int
    NVML_VOLATILE_ECC: int
    NVML_DEVICE_MIG_ENABLE: int
    nvmlMemory_v2: int  # noqa: N815

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str: ...
    def nvmlSystemGetCudaDriverVersion(self) -> int: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...
    def nvmlDeviceGetUUID(self, handle: object) -> str: ...
    def nvmlDeviceGetName(self, handle: object) -> str: ...
    def nvmlDeviceGetPciInfo(self, handle: object) -> PciInfo: ...
    def nvmlDeviceGetUtilizationRates(self, handle: object) -> Utilization: ...
    def nvmlDeviceGetMemoryInfo(self, handle: object, version: int | None = None) -> Memory: ...
    def nvmlDeviceGetPowerUsage(self, handle: object) -> int: ...
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: object) -> int: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int: ...
    def nvmlDeviceGetTemperature(self, handle: object, sensor: int) -> int: ...
    def nvmlDeviceGetClockInfo(self, handle: object, type: int) -> int: ...
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int: ...
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: object) -> int: ...
    def nvmlDeviceGetTotalEccErrors(self, handle: object, errorType: int, counterType: int) -> int: ...  # noqa: N803
    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> Sequence[Process]: ...
    def nvmlDeviceGetMigMode(self, handle: object) -> Sequence[int]: ...
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: object) -> int: ...
    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: object, index: int) -> object: ...
    def nvmlDeviceGetGpuInstanceId(self, device: object) -> int: ...
    def nvmlDeviceGetComputeInstanceId(self, device: object) -> int: ...


def nvidia_binding() -> Nvml:
    """NVIDIA's module. Raises: DriverUnavailable: the package is not installed here."""
    try:
        import pynvml  # here: it is installed where GPUs are, and nowhere else
    except ImportError as error:
        raise DriverUnavailable(
            "NVIDIA's Python binding is not installed in this environment",
            "install the package nvidia-ml-py, or run this with the Python of .stoker/envs/inference on a GPU host",
        ) from error
    module: Any = pynvml
    binding: Nvml = module
    return binding
