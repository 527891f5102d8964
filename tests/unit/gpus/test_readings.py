"""Exporters' texts: whatever is said twice is there once, and what nobody said is not there."""

from monitoring.gpus.readings import Gpu, Owner, read
from monitoring.nvml.exposition import GpuCollector, exposition
from monitoring.nvml.readings import GpuIdentity, GpuReading, MemoryReading, MigReading, Reading
from tests.unit.gpus.shapes import MIB, U0, scrape


def _only(text: str) -> Gpu:
    found = read(text)
    assert len(found) == 1
    return found[0]


def test_both_spellings_of_the_hosts_label_are_read() -> None:
    assert _only(scrape("host_label_old")) == _only(scrape("host_label_new"))
    assert _only(scrape("host_label_new")).host == "gpu-1"


def test_a_label_that_prometheus_renamed_wins_over_its_own() -> None:
    (part,) = _only(scrape("honor_labels_off")).parts
    assert part.owners == {Owner(pod="models/qwen-7d9c-x2x1z", container="vllm")}
    (part,) = _only(scrape("honor_labels_on")).parts
    assert part.owners == {Owner(pod="models/qwen-7d9c-x2x1z", container="vllm")}


def test_a_gpu_that_two_exporters_tell_of_is_there_once() -> None:
    assert read(scrape("host_label_old"), scrape("host_label_new")) == read(scrape("host_label_old"))


def test_under_mig_power_is_there_once_and_memory_is_that_of_the_instances() -> None:
    gpu = _only(scrape("mig"))
    assert (gpu.power_watts, gpu.energy_joules) == (210.0, 25_200_000.0)
    assert [(part.id, part.memory_used_bytes) for part in gpu.parts] == [
        ("1", 30_208 * MIB),
        ("7", 7_168 * MIB),
        ("9", 0),
    ]
    assert gpu.memory_used_bytes == (30_208 + 7_168) * MIB


def test_the_utilisation_of_a_mig_instance_is_not_the_0_that_dcgm_answers() -> None:
    assert [part.active_ratio for part in _only(scrape("mig")).parts] == [0.9, 0.4, 0.0]
    without = "\n".join(line for line in scrape("mig").splitlines() if "GR_ENGINE" not in line)
    assert _only(without + "\n").active_ratio is None


def test_memory_of_the_whole_gpu_that_is_repeated_for_its_instances_is_there_once() -> None:
    gpu = _only(scrape("mig_memory_repeated"))
    assert gpu.memory_used_bytes == 49_152 * MIB
    assert {part.memory_used_bytes for part in gpu.parts} == {None}


def test_dcgms_words_for_no_value_are_no_figures() -> None:
    gpu = _only(scrape("blank"))
    assert (gpu.power_watts, gpu.energy_joules, gpu.active_ratio, gpu.memory_free_bytes) == (None, None, None, None)
    assert gpu.memory_used_bytes == 61_440 * MIB


def test_a_figure_that_is_not_a_number_is_no_figure() -> None:
    text = scrape("host_label_old").replace("350.000000", "NaN")
    assert _only(text).power_watts is None


def test_what_our_own_reader_says_is_read_alike() -> None:
    def mig(number: int, used_mib: int) -> MigReading:
        memory = MemoryReading(10_240 * MIB, used_mib * MIB, (10_240 - used_mib) * MIB)
        return MigReading(f"MIG-{number}", number, 0, "1g.10gb", memory, ())

    reading = GpuReading(
        GpuIdentity(0, U0, "NVIDIA H100 80GB HBM3", "00000000:18:00.0"),
        power_watts=210.0,
        energy_joules=25_200_000.0,
        mig_enabled=True,
        instances=(mig(7, 7_168), mig(9, 0)),
    )
    gpu = _only(exposition(GpuCollector(lambda: Reading(gpus=(reading,)), "gpu-1")).decode())
    assert (gpu.host, gpu.index, gpu.uuid) == ("gpu-1", "0", U0)
    assert (gpu.power_watts, gpu.energy_joules, gpu.active_ratio) == (210.0, 25_200_000.0, None)
    assert [(part.id, part.profile, part.memory_used_bytes) for part in gpu.parts] == [
        ("7", "1g.10gb", 7_168 * MIB),
        ("9", "1g.10gb", 0),
    ]
