"""NVIDIA's binding without a GPU: devices, some cut into MIG instances, and every fault a test wants."""

# ruff: noqa: N802, N803  # the names are NVML's

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

MIB = 1024 * 1024

INSUFFICIENT_SIZE = 7
NOT_SUPPORTED, NOT_FOUND, FUNCTION_NOT_FOUND, UNKNOWN = 3, 6, 13, 999
UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED = 1, 9, 15, 16
_WORDS = {
    NOT_SUPPORTED: "Not Supported",
    NOT_FOUND: "Not Found",
    FUNCTION_NOT_FOUND: "Function Not Found",
    UNINITIALIZED: "Uninitialized",
    DRIVER_NOT_LOADED: "Driver Not Loaded",
    GPU_IS_LOST: "GPU is lost",
    RESET_REQUIRED: "GPU requires restart",
}


class FakeError(Exception):
    """As NVMLError: a code in `value`, and NVML's words for it."""

    def __init__(self, value: int) -> None:
        super().__init__(_WORDS.get(value, "Unknown Error"))
        self.value = value


class FakeMismatch(Exception):
    """As NVMLLibraryMismatchError."""


@dataclass
class FakeDevice:
    """A GPU or a MIG instance.

    Attributes:
        answers: by the name of a function, what it says; in `refusals` the code that it refuses with.
        places: of MIG instances; None is an empty one.
    """

    uuid: str
    name: str
    answers: dict[str, object] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    places: list["FakeDevice | None"] = field(default_factory=list)
    lost: int | None = None


def memory(total_mib: int, used_mib: int) -> SimpleNamespace:
    return SimpleNamespace(total=total_mib * MIB, used=used_mib * MIB, free=(total_mib - used_mib) * MIB)


def process(pid: int, used_mib: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=None if used_mib is None else used_mib * MIB)


def gpu(index: int) -> FakeDevice:
    """One that gives every figure."""
    return FakeDevice(
        f"GPU-{index}0000000-aaaa-bbbb-cccc-dddddddddddd",
        "NVIDIA H100 80GB HBM3",
        {
            "nvmlDeviceGetPciInfo": SimpleNamespace(busId=f"00000000:{0x1B + index:02X}:00.0"),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=29 + index, memory=7),
            "nvmlDeviceGetMemoryInfo": memory(81559, 70000 + index),
            "nvmlDeviceGetPowerUsage": 312_345,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": 123_456_789_123 + index,
            "nvmlDeviceGetTemperature": 54,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x44,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x44,
            "nvmlDeviceGetTotalEccErrors": {0: 5, 1: 0},  # by kind: corrected, uncorrected
            "nvmlDeviceGetComputeRunningProcesses": [process(4242 + index, 69000), process(17, None)],
        },
        {"nvmlDeviceGetMigMode": NOT_SUPPORTED},
    )


def instance(number: int, profile: str = "1g.10gb", gpu_instance: int | None = None) -> FakeDevice:
    """A MIG instance."""
    return FakeDevice(
        f"MIG-{number}1111111-aaaa-bbbb-cccc-dddddddddddd",
        f"NVIDIA H100 80GB HBM3 MIG {profile}",
        {
            "nvmlDeviceGetMemoryInfo": memory(9984, 100 + number),
            "nvmlDeviceGetGpuInstanceId": number if gpu_instance is None else gpu_instance,
            "nvmlDeviceGetComputeInstanceId": 0,
            "nvmlDeviceGetComputeRunningProcesses": [process(9000 + number, 90)],
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),  # the lie that nobody may repeat
        },
    )


def cut(device: FakeDevice, *places: FakeDevice | None) -> FakeDevice:
    """Put the GPU into MIG mode."""
    del device.refusals["nvmlDeviceGetMigMode"]
    device.answers["nvmlDeviceGetMigMode"] = [1, 1]
    device.answers["nvmlDeviceGetUtilizationRates"] = SimpleNamespace(gpu=0, memory=0)
    device.places = list(places)
    return device


class FakeNvml:
    """The functions and constants of `monitoring.nvml.binding.Nvml`, and no others.

    Attributes:
        initialised: false after `reload`, as when the driver was reloaded.
        refuses_init: the code that `nvmlInit` refuses with.
        hangs: whether asking for power blocks until `release` is set.
        readings: how often GPUs were counted.
        asked: functions and the UUIDs that they were asked of.
    """

    NVMLError = FakeError
    NVMLLibraryMismatchError = FakeMismatch
    NVML_ERROR_UNINITIALIZED = UNINITIALIZED
    NVML_ERROR_DRIVER_NOT_LOADED = DRIVER_NOT_LOADED
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
    NVML_ERROR_GPU_IS_LOST = GPU_IS_LOST
    NVML_ERROR_RESET_REQUIRED = RESET_REQUIRED
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_MEMORY_ERROR_TYPE_CORRECTED = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_DEVICE_MIG_ENABLE = 1
    nvmlMemory_v2 = 0x02000028  # noqa: N815

    def __init__(self, *devices: FakeDevice) -> None:
        self.devices = list(devices)
        self.initialised = False
        self.refuses_init: int | None = None
        self.inits = 0
        self.readings = 0
        self.asked: list[tuple[str, str]] = []
        self.hangs = False
        self.release = threading.Event()

    def reload(self) -> None:
        self.initialised = False

    def _ask(self, device: FakeDevice, function: str) -> object:
        self._initialised()
        self.asked.append((function, device.uuid))
        if device.lost is not None:
            raise FakeError(device.lost)
        if function in device.refusals:
            raise FakeError(device.refusals[function])
        if function not in device.answers:
            raise FakeError(NOT_SUPPORTED)
        return device.answers[function]

    def _initialised(self) -> None:
        if not self.initialised:
            raise FakeError(UNINITIALIZED)

    def nvmlInit(self):
        if self.refuses_init is not None:
            raise FakeError(self.refuses_init)
        self.inits += 1
        self.initialised = True

    def nvmlShutdown(self):
        self._initialised()
        self.initialised = False

    def nvmlSystemGetDriverVersion(self):
        self._initialised()
        return "580.95.05"

    def nvmlSystemGetCudaDriverVersion(self):
        self._initialised()
        return 13000

    def nvmlDeviceGetCount(self):
        self._initialised()
        self.readings += 1
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):
        self._initialised()
        if self.devices[index].refusals.get("nvmlDeviceGetHandleByIndex"):
            raise FakeError(self.devices[index].refusals["nvmlDeviceGetHandleByIndex"])
        return self.devices[index]

    def nvmlDeviceGetUUID(self, handle):
        return self._ask(handle, "nvmlDeviceGetUUID") if handle.lost is not None else handle.uuid

    def nvmlDeviceGetName(self, handle):
        return self._ask(handle, "nvmlDeviceGetName") if handle.lost is not None else handle.name

    def nvmlDeviceGetPciInfo(self, handle):
        return self._ask(handle, "nvmlDeviceGetPciInfo")

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._ask(handle, "nvmlDeviceGetUtilizationRates")

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        newer = "nvmlDeviceGetMemoryInfo_v2"  # which drivers before R510 do not have
        refused = version is not None and newer in handle.refusals
        return self._ask(handle, newer if refused else "nvmlDeviceGetMemoryInfo")

    def nvmlDeviceGetPowerUsage(self, handle):
        if self.hangs:
            self.release.wait(60)
        return self._ask(handle, "nvmlDeviceGetPowerUsage")

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self._ask(handle, "nvmlDeviceGetEnforcedPowerLimit")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._ask(handle, "nvmlDeviceGetTotalEnergyConsumption")

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._ask(handle, "nvmlDeviceGetTemperature")

    def nvmlDeviceGetClockInfo(self, handle, type):
        assert type == self.NVML_CLOCK_SM
        return self._ask(handle, "nvmlDeviceGetClockInfo")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._ask(handle, "nvmlDeviceGetCurrentClocksEventReasons")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._ask(handle, "nvmlDeviceGetCurrentClocksThrottleReasons")

    def nvmlDeviceGetTotalEccErrors(self, handle, errorType, counterType):
        assert counterType == self.NVML_VOLATILE_ECC
        return self._ask(handle, "nvmlDeviceGetTotalEccErrors")[errorType]

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        if handle.refusals.get("nvmlDeviceGetComputeRunningProcesses") == FUNCTION_NOT_FOUND:
            raise FakeMismatch("Unversioned function called")
        return self._ask(handle, "nvmlDeviceGetComputeRunningProcesses")

    def nvmlDeviceGetMigMode(self, handle):
        return self._ask(handle, "nvmlDeviceGetMigMode")

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        self._initialised()
        return len(handle.places)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):
        self._initialised()
        if device.places[index] is None:
            raise FakeError(NOT_FOUND)
        return device.places[index]

    def nvmlDeviceGetGpuInstanceId(self, device):
        return self._ask(device, "nvmlDeviceGetGpuInstanceId")

    def nvmlDeviceGetComputeInstanceId(self, device):
        return self._ask(device, "nvmlDeviceGetComputeInstanceId")


class StubLibrary:
    """What `libnvidia-ml.so.1` writes for the one GPU of `gpu(0)`, so that NVIDIA's own binding can be run on it.

    A function gets ctypes arguments, writes through the last pointer, and returns a code.
    """

    def __init__(self) -> None:
        self._gpu = gpu(0)

    def __getattr__(self, name: str) -> Callable[..., int]:
        function = name.partition("_v")[0]
        if function in self._gpu.refusals:
            return lambda *_arguments: self._gpu.refusals[function]
        answer = self._gpu.answers.get(function)
        if isinstance(answer, int):
            return lambda *arguments: self._number(arguments[-1], answer)
        if isinstance(answer, SimpleNamespace):
            return lambda *arguments: self._fields(arguments[-1]._obj, answer)
        raise AttributeError(name)

    @staticmethod
    def _number(pointer, value: int) -> int:
        pointer._obj.value = value
        return 0

    @staticmethod
    def _fields(structure, answer: SimpleNamespace) -> int:
        for field_name, value in vars(answer).items():
            setattr(structure, field_name, value)
        return 0

    @staticmethod
    def _text(buffer, text: str) -> int:
        buffer.value = text.encode()
        return 0

    def nvmlInitWithFlags(self, _flags) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlSystemGetDriverVersion(self, buffer, _length) -> int:
        return self._text(buffer, "580.95.05")

    def nvmlSystemGetCudaDriverVersion(self, pointer) -> int:
        return self._number(pointer, 13000)

    def nvmlDeviceGetCount_v2(self, pointer) -> int:
        return self._number(pointer, 1)

    def nvmlDeviceGetHandleByIndex_v2(self, index, _pointer) -> int:
        return 0 if index.value == 0 else NOT_FOUND

    def nvmlDeviceGetUUID(self, _handle, buffer, _length) -> int:
        return self._text(buffer, self._gpu.uuid)

    def nvmlDeviceGetName(self, _handle, buffer, _length) -> int:
        return self._text(buffer, self._gpu.name)

    def nvmlDeviceGetTotalEccErrors(self, _handle, kind, _counter, pointer) -> int:
        return self._number(pointer, self._gpu.answers["nvmlDeviceGetTotalEccErrors"][kind.value])

    def nvmlDeviceGetComputeRunningProcesses_v3(self, _handle, count, processes) -> int:
        found = self._gpu.answers["nvmlDeviceGetComputeRunningProcesses"]
        if processes is None:
            self._number(count, len(found))
            return INSUFFICIENT_SIZE
        for place, one in enumerate(found):
            processes[place].pid = one.pid
            processes[place].usedGpuMemory = 2**64 - 1 if one.usedGpuMemory is None else one.usedGpuMemory
        return self._number(count, len(found))
