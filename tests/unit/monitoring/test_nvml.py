"""The GPU reader: what is not known is not said, and no GPU, driver or caller holds up the others."""

import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from core.clock import ManualClock
from monitoring.nvml.binding import Nvml
from monitoring.nvml.errors import DriverUnavailable
from monitoring.nvml.exposition import GpuCollector, exposition
from monitoring.nvml.reader import NvmlReader
from monitoring.nvml.readings import THROTTLE_REASONS, GpuReading, Reading, reasons_of
from monitoring.nvml.sampler import Sampler
from monitoring.nvml.server import build_app
from monitoring.nvml.settings import NvmlSettings
from tests.support.network import free_port
from tests.support.nvml import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    MIB,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    UNKNOWN,
    FakeNvml,
    StubLibrary,
    cut,
    gpu,
    instance,
    memory,
    process,
)

ROOT = Path(__file__).parents[3]
GENEROUS_S = 10.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def _text(reading: Reading) -> str:
    return exposition(GpuCollector(lambda: reading, "host-a")).decode()


def _samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _values(text: str, name: str, **labels: str) -> list[float]:
    """Of the samples with this name and at least these labels."""
    return [
        value for (found, pairs), value in _samples(text).items() if found == name and set(labels.items()) <= set(pairs)
    ]


# ------------------------------------------------------------------------------------------------------ the binding

_FUNCTIONS = sorted(name for name in vars(Nvml) if name.startswith("nvml"))
_CONSTANTS = sorted(name for name in Nvml.__annotations__ if not name.endswith("Error"))


@pytest.fixture(params=["fake", "real"])
def binding(request: pytest.FixtureRequest) -> object:
    if request.param == "fake":
        return FakeNvml()
    return pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed here: the fake is not held against it")


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_the_binding_takes_what_the_reader_gives(binding: object, name: str) -> None:
    parameters = list(inspect.signature(getattr(Nvml, name)).parameters.values())[1:]
    needed = [parameter for parameter in parameters if parameter.default is inspect.Parameter.empty]
    signature = inspect.signature(getattr(binding, name))
    for count in {len(parameters), len(needed)}:
        signature.bind(*range(count))
    required = [each for each in signature.parameters.values() if each.default is inspect.Parameter.empty]
    assert len(required) == len(needed)


def test_the_binding_has_the_constants_that_the_fake_has(binding: object) -> None:
    assert {name: getattr(binding, name) for name in _CONSTANTS} == {
        name: getattr(FakeNvml, name) for name in _CONSTANTS
    }


def test_an_error_of_the_binding_carries_its_code(binding: object) -> None:
    error = binding.NVMLError(GPU_IS_LOST)  # type: ignore[attr-defined]
    assert isinstance(error, Exception)
    assert error.value == GPU_IS_LOST
    assert not issubclass(binding.NVMLLibraryMismatchError, binding.NVMLError)  # type: ignore[attr-defined]


def test_the_real_binding_gives_the_reader_what_the_fake_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed here")
    monkeypatch.setattr(pynvml, "nvmlLib", StubLibrary())
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    reader = NvmlReader(pynvml)
    assert reader.read() == NvmlReader(FakeNvml(gpu(0))).read()
    reader.close()


def test_structures_of_the_real_binding_have_the_fields_that_are_read() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed here")
    for structure, fields in (
        ("c_nvmlUtilization_t", {"gpu", "memory"}),
        ("c_nvmlMemory_t", {"total", "free", "used"}),
        ("c_nvmlMemory_v2_t", {"total", "free", "used"}),
        ("nvmlPciInfo_t", {"busId"}),
        ("c_nvmlProcessInfo_t", {"pid", "usedGpuMemory"}),
    ):
        assert fields <= {name for name, *_ in getattr(pynvml, structure)._fields_}, structure


def test_every_throttle_reason_of_the_real_binding_has_a_name() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed here")
    beginnings = ("nvmlClocksEventReason", "nvmlClocksThrottleReason")
    found = {getattr(pynvml, name) for name in dir(pynvml) if name.startswith(beginnings) and not name.endswith("All")}
    assert found - {0} == set(THROTTLE_REASONS)


def test_the_real_binding_without_a_driver_is_an_error_that_names_the_remedy() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed here")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a driver is here")
    with pytest.raises(DriverUnavailable) as caught:
        NvmlReader(pynvml).read()
    assert "driver" in caught.value.remedy


# ------------------------------------------------------------------------------------------------------ the reader


def test_several_gpus_are_read_in_units_that_their_names_tell() -> None:
    reading = NvmlReader(FakeNvml(gpu(0), gpu(1))).read()
    assert (reading.driver_version, reading.cuda_version, reading.problem) == ("580.95.05", "13.0", None)
    assert [each.identity.index for each in reading.gpus] == [0, 1]
    first = reading.gpus[0]
    assert first.up
    assert first.identity.uuid.startswith("GPU-0")
    assert first.identity.name == "NVIDIA H100 80GB HBM3"
    assert first.identity.pci_bus_id == "00000000:1B:00.0"
    assert (first.gpu_utilisation_ratio, first.memory_copy_utilisation_ratio) == (0.29, 0.07)
    assert first.memory is not None
    assert (first.memory.total_bytes, first.memory.used_bytes) == (81559 * MIB, 70000 * MIB)
    assert first.memory.free_bytes == 11559 * MIB
    assert (first.power_watts, first.power_limit_watts) == (312.345, 700.0)
    assert first.energy_joules == 123_456_789.123
    assert (first.temperature_celsius, first.sm_clock_hz) == (54, 1_980_000_000)
    assert first.throttle_reasons == {"power_cap", "hw_thermal"}
    assert (first.ecc_corrected, first.ecc_uncorrected) == (5, 0)
    assert first.processes is not None
    assert [(each.pid, each.used_memory_bytes) for each in first.processes] == [(17, None), (4242, 69000 * MIB)]
    assert not first.mig_enabled


def test_a_throttle_reason_newer_than_the_list_is_named_by_its_bit() -> None:
    assert reasons_of(0x1000_0001) == {"gpu_idle", "bit_0x10000000"}
    assert reasons_of(0) == frozenset()


@pytest.mark.parametrize("chosen", ["1", "GPU-10000000-aaaa-bbbb-cccc-dddddddddddd"])
def test_only_the_gpus_that_are_named_are_read(chosen: str) -> None:
    nvml = FakeNvml(gpu(0), gpu(1), gpu(2))
    reading = NvmlReader(nvml, [chosen]).read()
    assert [each.identity.index for each in reading.gpus] == [1]
    others = {function for function, uuid in nvml.asked if not uuid.startswith("GPU-1")}
    assert others == {"nvmlDeviceGetPciInfo"}, "nothing else is asked of a GPU that may be somebody else's trouble"


def test_a_gpu_that_is_named_and_not_there_is_down() -> None:
    reading = NvmlReader(FakeNvml(gpu(0)), ["0", "7", "GPU-absent"]).read()
    assert [(each.identity.index, each.identity.uuid[:10], each.up) for each in reading.gpus] == [
        (0, "GPU-000000", True),
        (7, "", False),
        (None, "GPU-absent", False),
    ]
    assert "not among what the driver lists" in (reading.gpus[1].problem or "")


def test_instances_of_a_gpu_in_mig_mode_have_memory_and_processes_and_no_utilisation() -> None:
    reading = NvmlReader(FakeNvml(cut(gpu(0), instance(7), None, instance(9, "2g.20gb")), gpu(1))).read()
    parent, whole = reading.gpus
    assert parent.mig_enabled
    assert parent.gpu_utilisation_ratio is None, "the driver's 0 is a lie under MIG"
    assert parent.power_watts == 312.345
    assert parent.processes == ()
    assert [(each.gpu_instance_id, each.compute_instance_id, each.profile) for each in parent.instances] == [
        (7, 0, "1g.10gb"),
        (9, 0, "2g.20gb"),
    ]
    one = parent.instances[0]
    assert one.uuid.startswith("MIG-7")
    assert one.gpu_utilisation_ratio is None
    assert one.memory is not None
    assert one.memory.used_bytes == 107 * MIB
    assert one.processes is not None
    assert one.processes[0].pid == 9007
    assert (whole.mig_enabled, whole.instances, whole.gpu_utilisation_ratio) == (False, (), 0.30)


def test_an_instance_can_be_named_alone() -> None:
    nvml = FakeNvml(gpu(0), cut(gpu(1), instance(7), instance(8)))
    reading = NvmlReader(nvml, [instance(8).uuid]).read()
    assert [(each.identity.index, [one.gpu_instance_id for one in each.instances]) for each in reading.gpus] == [
        (1, [8])
    ]


def test_of_an_instance_that_is_named_alone_its_own_end_is_told_apart_from_its_gpus() -> None:
    nvml = FakeNvml(cut(gpu(0), instance(7), instance(8)))
    reader = NvmlReader(nvml, [instance(8).uuid])
    reader.read()
    nvml.devices[0].lost = GPU_IS_LOST
    assert [(each.identity.uuid[:5], each.problem) for each in reader.read().gpus] == [
        ("GPU-0", "GPU is lost"),
        ("MIG-8", "it is not among what the driver lists (GPUs: 1)"),
    ]
    nvml.devices[0].lost = None
    nvml.devices[0].places[1] = None
    assert [(each.identity.uuid[:5], each.up) for each in reader.read().gpus] == [("MIG-8", False)]


@pytest.mark.parametrize("code", [NOT_SUPPORTED, FUNCTION_NOT_FOUND, UNKNOWN])
@pytest.mark.parametrize(
    ("functions", "figures", "metrics"),
    [
        (
            ["nvmlDeviceGetUtilizationRates"],
            ["gpu_utilisation_ratio", "memory_copy_utilisation_ratio"],
            ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL"],
        ),
        (
            ["nvmlDeviceGetMemoryInfo"],
            ["memory"],
            ["DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_TOTAL"],
        ),
        (["nvmlDeviceGetPowerUsage"], ["power_watts"], ["DCGM_FI_DEV_POWER_USAGE"]),
        (["nvmlDeviceGetEnforcedPowerLimit"], ["power_limit_watts"], ["DCGM_FI_DEV_ENFORCED_POWER_LIMIT"]),
        (
            ["nvmlDeviceGetTotalEnergyConsumption"],
            ["energy_joules"],
            ["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION_total"],
        ),
        (["nvmlDeviceGetTemperature"], ["temperature_celsius"], ["DCGM_FI_DEV_GPU_TEMP"]),
        (["nvmlDeviceGetClockInfo"], ["sm_clock_hz"], ["DCGM_FI_DEV_SM_CLOCK"]),
        (
            ["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"],
            ["throttle_mask", "throttle_reasons"],
            ["DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "stoker_gpu_throttled"],
        ),
        (
            ["nvmlDeviceGetTotalEccErrors"],
            ["ecc_corrected", "ecc_uncorrected"],
            ["DCGM_FI_DEV_ECC_SBE_VOL_TOTAL_total", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL_total"],
        ),
        (["nvmlDeviceGetComputeRunningProcesses"], ["processes"], ["stoker_gpu_process_memory_bytes"]),
    ],
)
def test_a_figure_that_a_gpu_does_not_give_is_none_and_has_no_sample(
    functions: list[str], figures: list[str], metrics: list[str], code: int
) -> None:
    device = gpu(0)
    device.refusals |= dict.fromkeys(functions, code)
    reading = NvmlReader(FakeNvml(device)).read()
    whole = NvmlReader(FakeNvml(gpu(0))).read()
    read = reading.gpus[0]
    assert read.up
    assert [getattr(read, figure) for figure in figures] == [None] * len(figures)
    assert set(read.unread) > set(whole.gpus[0].unread), "why it is missing is kept"
    left, all_of_them = _samples(_text(reading)), _samples(_text(whole))
    assert {name for name, _ in all_of_them} - {name for name, _ in left} == set(metrics)
    assert left.items() <= all_of_them.items(), "the other figures are as they were"


def test_older_drivers_are_asked_by_older_names() -> None:
    device = gpu(0)
    device.refusals |= {
        "nvmlDeviceGetCurrentClocksEventReasons": FUNCTION_NOT_FOUND,
        "nvmlDeviceGetMemoryInfo_v2": FUNCTION_NOT_FOUND,
    }
    read = NvmlReader(FakeNvml(device)).read().gpus[0]
    assert read.throttle_mask == 0x44
    assert read.memory is not None
    assert read.memory.total_bytes == 81559 * MIB
    assert set(read.unread) == {"mig_mode"}


@pytest.mark.parametrize("code", [GPU_IS_LOST, RESET_REQUIRED])
def test_one_lost_gpu_is_down_and_the_others_go_on(code: int) -> None:
    nvml = FakeNvml(gpu(0), gpu(1), gpu(2))
    reader = NvmlReader(nvml)
    before = reader.read()
    nvml.devices[1].lost = code
    reading = reader.read()
    assert [each.up for each in reading.gpus] == [True, False, True]
    lost = reading.gpus[1]
    assert lost.identity == before.gpus[1].identity
    assert lost == GpuReading(lost.identity, up=False, problem=lost.problem), "it has no figures"
    assert lost.problem
    text = _text(reading)
    assert _values(text, "stoker_gpu_up", gpu="1", UUID=lost.identity.uuid) == [0]
    assert _values(text, "stoker_gpu_up", gpu="2") == [1]
    assert _values(text, "DCGM_FI_DEV_POWER_USAGE", gpu="1") == []
    assert _values(text, "stoker_gpu_driver_up") == [1]


def test_a_gpu_that_is_lost_from_the_first_is_known_by_its_index() -> None:
    nvml = FakeNvml(gpu(0), gpu(1))
    nvml.devices[0].refusals["nvmlDeviceGetHandleByIndex"] = GPU_IS_LOST
    reading = NvmlReader(nvml).read()
    assert [(each.identity.index, each.identity.uuid[:5], each.up) for each in reading.gpus] == [
        (0, "", False),
        (1, "GPU-1", True),
    ]


@pytest.mark.parametrize("code", [GPU_IS_LOST, RESET_REQUIRED])
def test_a_gpu_that_falls_out_in_the_middle_of_a_reading_gives_no_half_of_its_figures(code: int) -> None:
    nvml = FakeNvml(gpu(0))
    nvml.devices[0].refusals["nvmlDeviceGetCurrentClocksEventReasons"] = code
    read = NvmlReader(nvml).read().gpus[0]
    assert not read.up
    assert read.power_watts is None


def test_a_reloaded_driver_is_opened_again() -> None:
    nvml = FakeNvml(gpu(0))
    reader = NvmlReader(nvml)
    reader.read()
    nvml.reload()
    assert reader.read().gpus[0].up
    assert nvml.inits == 2


def test_a_gpu_that_the_driver_no_longer_lists_after_a_reload_is_down() -> None:
    nvml = FakeNvml(gpu(0), gpu(1))
    reader = NvmlReader(nvml)
    gone = reader.read().gpus[0].identity
    nvml.reload()
    del nvml.devices[0]
    reading = reader.read()
    assert [(each.identity.uuid[:5], each.identity.index, each.up) for each in reading.gpus] == [
        ("GPU-1", 0, True),
        ("GPU-0", 0, False),
    ]
    assert reading.gpus[1].identity == gone


def test_a_missing_driver_is_an_error_with_a_remedy_and_is_looked_for_again() -> None:
    nvml = FakeNvml(gpu(0))
    nvml.refuses_init = DRIVER_NOT_LOADED
    reader = NvmlReader(nvml)
    for _ in range(2):
        with pytest.raises(DriverUnavailable) as caught:
            reader.read()
        assert "Driver Not Loaded" in caught.value.message
        assert "nvidia-smi" in caught.value.remedy
    nvml.refuses_init = None
    assert reader.read().gpus[0].up


def test_a_driver_that_goes_away_between_two_readings_is_an_error() -> None:
    nvml = FakeNvml(gpu(0))
    reader = NvmlReader(nvml)
    reader.read()
    nvml.reload()
    nvml.refuses_init = DRIVER_NOT_LOADED
    with pytest.raises(DriverUnavailable):
        reader.read()
    reader.close()


# -------------------------------------------------------------------------------------------------- the exposition

# As dcgm-exporter writes it, of the same GPU; its template orders the labels so.
_LABELS = (
    'gpu="0",UUID="GPU-00000000-aaaa-bbbb-cccc-dddddddddddd",pci_bus_id="00000000:1B:00.0",device="nvidia0",'
    'modelName="NVIDIA H100 80GB HBM3",Hostname="host-a"'
)
_EXPORTER = f"""# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{{{_LABELS}}} 1980
# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature (in C).
# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{{{_LABELS}}} 54
# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{{{_LABELS}}} 312.345000
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{_LABELS}}} 123456789123
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{{{_LABELS}}} 29
# HELP DCGM_FI_DEV_MEM_COPY_UTIL Memory utilization (in %).
# TYPE DCGM_FI_DEV_MEM_COPY_UTIL gauge
DCGM_FI_DEV_MEM_COPY_UTIL{{{_LABELS}}} 7
# HELP DCGM_FI_DEV_FB_FREE Framebuffer memory free (in MiB).
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{{{_LABELS}}} 11559
# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{{{_LABELS}}} 70000
# HELP DCGM_FI_DEV_ECC_SBE_VOL_TOTAL Total number of single-bit volatile ECC errors.
# TYPE DCGM_FI_DEV_ECC_SBE_VOL_TOTAL counter
DCGM_FI_DEV_ECC_SBE_VOL_TOTAL{{{_LABELS}}} 5
# HELP DCGM_FI_DEV_ECC_DBE_VOL_TOTAL Total number of double-bit volatile ECC errors.
# TYPE DCGM_FI_DEV_ECC_DBE_VOL_TOTAL counter
DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{_LABELS}}} 0
# HELP DCGM_FI_DEV_CLOCK_THROTTLE_REASONS Throttle reasons (bitmask).
# TYPE DCGM_FI_DEV_CLOCK_THROTTLE_REASONS gauge
DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{{{_LABELS}}} 68
"""


def test_what_is_read_from_nvml_looks_as_if_dcgm_exporter_had_said_it() -> None:
    text = _text(NvmlReader(FakeNvml(gpu(0))).read())
    theirs = {family.name: family for family in text_string_to_metric_families(_EXPORTER)}
    ours = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in theirs.items():
        assert ours[name].type == family.type, name
        assert ours[name].samples == family.samples, name
    names = {line.split("{")[0] for line in _EXPORTER.splitlines() if not line.startswith("#")}
    assert names <= {line.split("{")[0] for line in text.splitlines()}, "not even `_total` is added"


def test_what_is_our_own_tells_of_processes_reasons_and_the_driver() -> None:
    reading = NvmlReader(FakeNvml(gpu(0))).read()
    text, uuid = _text(reading), reading.gpus[0].identity.uuid
    assert _values(text, "stoker_gpu_process_memory_bytes", gpu="0", UUID=uuid, pid="4242") == [69000 * MIB]
    assert _values(text, "stoker_gpu_process_memory_bytes", pid="17") == [], "unknown is not 0"
    assert _values(text, "stoker_gpu_throttled", UUID=uuid, reason="hw_thermal") == [1]
    assert _values(text, "stoker_gpu_throttled", UUID=uuid, reason="sw_thermal") == [0]
    assert _values(text, "stoker_gpu_throttled", reason="gpu_idle") == [], "an idle GPU is not held down"
    assert _values(text, "stoker_gpu_driver_info", driver_version="580.95.05", cuda_version="13.0") == [1]


def test_under_mig_every_byte_and_every_watt_is_there_once() -> None:
    shared = instance(8, gpu_instance=7)
    shared.uuid = "MIG-second-compute-instance"
    nvml = FakeNvml(cut(gpu(0), instance(7), shared, instance(9, "2g.20gb")))
    reading = NvmlReader(nvml).read()
    text = _text(reading)
    uuid = reading.gpus[0].identity.uuid
    assert _values(text, "DCGM_FI_DEV_FB_USED", UUID=uuid, GPU_I_ID="7", GPU_I_PROFILE="1g.10gb") == [107]
    assert sorted(_values(text, "DCGM_FI_DEV_FB_USED")) == [107, 109]
    assert _values(text, "DCGM_FI_DEV_POWER_USAGE") == [312.345]
    assert _values(text, "DCGM_FI_DEV_GPU_UTIL") == []
    assert _values(text, "stoker_gpu_process_memory_bytes", UUID=instance(9).uuid, pid="9009") == [90 * MIB]
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines)), "Prometheus takes a series once"


# ----------------------------------------------------------------------------------------------------- the sampler


class _Rig:
    """A sampler over the fake, with a clock that is moved by hand."""

    def __init__(self, *, deadline_s: float = GENEROUS_S) -> None:
        self.nvml = FakeNvml(gpu(0), gpu(1))
        self.clock = ManualClock()
        self.sampler = Sampler(
            NvmlReader(self.nvml).read, min_interval_s=0.5, deadline_s=deadline_s, stale_s=10, clock=self.clock
        )

    def quick(self) -> Reading:
        """`latest`, which must not have waited for long."""
        began_s = time.monotonic()
        reading = self.sampler.latest()
        assert time.monotonic() - began_s < GENEROUS_S / 2
        return reading


@pytest.fixture
def hanging() -> Iterator[_Rig]:
    rig = _Rig(deadline_s=0.05)
    yield rig
    rig.nvml.release.set()


def test_many_callers_cost_one_reading() -> None:
    rig = _Rig()
    seen: list[Reading] = []
    threads = [threading.Thread(target=lambda: seen.append(rig.sampler.latest())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GENEROUS_S)
    assert len(seen) == 8
    assert rig.nvml.readings == 1
    rig.clock.advance(0.4)
    rig.sampler.latest()
    assert rig.nvml.readings == 1
    rig.clock.advance(0.1)
    rig.sampler.latest()
    assert rig.nvml.readings == 2


def test_a_reading_that_hangs_holds_nobody_up_and_ends_in_gpus_that_are_down(hanging: _Rig) -> None:
    nvml, clock = hanging.nvml, hanging.clock
    good = _good(hanging)
    assert good is not None
    nvml.hangs = True
    clock.advance(5)
    assert hanging.quick() is good, "late: the one before"
    clock.advance(5)
    assert hanging.quick() is good, "as old as it may be"
    assert nvml.readings == 2, "no thread is added to one that hangs"
    clock.advance(0.1)
    late = hanging.quick()
    assert "has not answered for 5.1 s" in (late.problem or "")
    text = _text(late)
    assert _values(text, "stoker_gpu_up") == [0, 0]
    assert _values(text, "stoker_gpu_driver_up") == [0]
    assert not any(name.startswith("DCGM") for name, _ in _samples(text))
    assert nvml.readings == 2
    nvml.hangs = False
    nvml.release.set()
    assert _good(hanging) is not None, "it is read again once the driver answers"


def _good(rig: _Rig) -> Reading | None:
    """The first reading without a problem, the deadline being so short that the machine may miss it."""
    end_s = time.monotonic() + GENEROUS_S
    while time.monotonic() < end_s:
        reading = rig.sampler.latest()
        if reading.problem is None:
            return reading
        time.sleep(0.01)
    return None


def test_a_driver_that_hangs_from_the_first_is_down_without_figures(hanging: _Rig) -> None:
    hanging.nvml.hangs = True
    reading = hanging.quick()
    assert reading.gpus == ()
    assert reading.problem is not None
    assert _values(_text(reading), "stoker_gpu_driver_up") == [0]


def test_a_driver_that_refuses_is_believed_at_once_and_known_gpus_are_down() -> None:
    rig = _Rig()
    rig.sampler.latest()
    rig.nvml.reload()
    rig.nvml.refuses_init = DRIVER_NOT_LOADED
    rig.clock.advance(1)
    reading = rig.sampler.latest()
    assert "Driver Not Loaded" in (reading.problem or "")
    assert [(each.up, bool(each.identity.uuid)) for each in reading.gpus] == [(False, True), (False, True)]
    rig.nvml.refuses_init = None
    rig.clock.advance(1)
    assert [each.up for each in rig.sampler.latest().gpus] == [True, True]


def test_an_error_that_nobody_thought_of_ends_neither_the_sampler_nor_says_its_text() -> None:
    answers: list[Reading] = []

    def read() -> Reading:
        if not answers:
            raise RuntimeError("a secret")
        return answers[0]

    clock = ManualClock()
    sampler = Sampler(read, min_interval_s=0.5, deadline_s=GENEROUS_S, stale_s=10, clock=clock)
    problem = sampler.latest().problem
    assert problem is not None
    assert "secret" not in problem
    answers.append(Reading())
    clock.advance(1)
    assert sampler.latest().problem is None


# ------------------------------------------------------------------------------------------------------ the server


@contextmanager
def _serving(rig: _Rig) -> Iterator[httpx.Client]:
    port = free_port()
    app = build_app(rig.sampler, "host-a")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    end_s = time.monotonic() + GENEROUS_S
    while not server.started and time.monotonic() < end_s:
        time.sleep(0.01)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=GENEROUS_S) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(GENEROUS_S)


def test_the_server_answers_metrics_and_health_and_nothing_else() -> None:
    rig = _Rig()
    with _serving(rig) as client:
        metrics = client.get("/metrics")
        assert metrics.status_code == 200
        assert metrics.headers["content-type"].startswith("text/plain")
        assert sorted(_values(metrics.text, "DCGM_FI_DEV_GPU_UTIL", Hostname="host-a")) == [29, 30]
        rig.nvml.devices[1].lost = GPU_IS_LOST
        rig.clock.advance(1)
        health = client.get("/health")
        assert (health.status_code, health.json()) == (200, {"status": "ok", "gpus": 2, "down": {"1": "GPU is lost"}})
        for path in ("/", "/metrics/x", "/docs"):
            assert client.get(path).status_code == 404


def test_health_says_why_the_driver_is_gone() -> None:
    rig = _Rig()
    rig.nvml.refuses_init = DRIVER_NOT_LOADED
    with _serving(rig) as client:
        health = client.get("/health")
        assert health.status_code == 503
        assert "Driver Not Loaded" in health.json()["reason"]
        assert _values(client.get("/metrics").text, "stoker_gpu_driver_up") == [0]


def test_the_server_answers_while_a_reading_hangs(hanging: _Rig) -> None:
    hanging.nvml.hangs = True
    with _serving(hanging) as client:
        began_s = time.monotonic()
        assert client.get("/health").status_code == 503
        assert client.get("/metrics").status_code == 200
        assert time.monotonic() - began_s < GENEROUS_S / 2


def _run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitoring.nvml", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_once_prints_the_readings_as_json(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text(
        "from tests.support.nvml import FakeNvml, cut, gpu, instance\n"
        "nvml = FakeNvml(gpu(0), cut(gpu(1), instance(7)))\n"
        "globals().update({name: getattr(nvml, name) for name in dir(nvml) if not name.startswith('_')})\n"
    )
    ended = _run(tmp_path, "--once", "--gpus", "1")
    assert ended.returncode == 0, ended.stderr
    reading = json.loads(ended.stdout)
    assert reading["driver_version"] == "580.95.05"
    (only,) = reading["gpus"]
    assert only["identity"]["index"] == 1
    assert only["throttle_reasons"] == ["hw_thermal", "power_cap"]
    assert only["gpu_utilisation_ratio"] is None
    assert only["instances"][0]["profile"] == "1g.10gb"


def test_without_the_binding_the_error_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('not here')\n")
    ended = _run(tmp_path, "--once")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "nvidia-ml-py" in ended.stderr


def test_gpus_are_chosen_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_NVML_GPUS", "0, GPU-abc,,2")
    assert NvmlSettings().wanted == {"0", "GPU-abc", "2"}


def test_a_process_that_is_listed_twice_is_one_series() -> None:
    device = gpu(0)
    device.answers["nvmlDeviceGetComputeRunningProcesses"] = [process(5, 10), process(5, 10)]
    device.answers["nvmlDeviceGetMemoryInfo"] = memory(100, 10)
    text = _text(NvmlReader(FakeNvml(device)).read())
    assert text.count("stoker_gpu_process_memory_bytes{") == 1
