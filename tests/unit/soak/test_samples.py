"""What counts as grown."""

import os
from dataclasses import replace

import pytest

from tests.faults.soak.samples import Bounds, Sample, course, form_of, grown, growth, median, own_bytes

MIB = 2**20
BEFORE = Sample(600.0, {"gateway": 200 * MIB, "valkey": 8 * MIB}, {"gateway": 50, "valkey": 20}, 1000, {"a:*": 3})
BOUNDS = Bounds(memory_share=0.05)


def test_nothing_has_grown_between_a_moment_and_itself() -> None:
    assert grown(BEFORE, BEFORE, BOUNDS) == []


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (replace(BEFORE, memory_bytes={"gateway": 211 * MIB, "valkey": 8 * MIB}), "gateway holds 11.0 MiB more"),
        (replace(BEFORE, memory_bytes={"gateway": 200 * MIB, "valkey": 13 * MIB}), "valkey holds 5.0 MiB more"),
        (replace(BEFORE, files={"gateway": 91, "valkey": 20}), "gateway has 91 files open"),
        (replace(BEFORE, series=1051), "1051 series"),
        (replace(BEFORE, lasting={"a:*": 12}), "12 keys a:[*] have no end"),
        (replace(BEFORE, lasting={"a:*": 3, "b:*": 9}), "9 keys b:[*] have no end"),
    ],
)
def test_growth_beyond_a_bound_is_named(after: Sample, says: str) -> None:
    (found,) = grown(BEFORE, after, BOUNDS)
    assert says.replace("[*]", "*") in found


def test_five_percent_are_allowed_and_small_processes_have_a_floor() -> None:
    after = replace(BEFORE, memory_bytes={"gateway": 210 * MIB, "valkey": 12 * MIB}, series=1050, lasting={"a:*": 11})
    assert grown(BEFORE, after, BOUNDS) == []
    assert growth(BEFORE, after)["memory %"] == {"gateway": 5.0, "valkey": 50.0}
    assert growth(BEFORE, after)["lasting keys"] == {"a:*": 8}


def test_memory_is_only_told_where_no_share_is_given() -> None:
    after = replace(BEFORE, memory_bytes={"gateway": 900 * MIB, "valkey": 8 * MIB})
    assert grown(BEFORE, after, Bounds(None)) == []


def test_keys_of_one_form_are_one() -> None:
    assert form_of("stoker:{ten_01k9abcdefghjkmnpqrstvwxyz}:key:7") == form_of(
        "stoker:{ten_01k9zyxwvtsrqpnmkjhgfedcba}:key:12"
    )


def test_one_high_moment_is_no_growth() -> None:
    peaks = [replace(BEFORE, at_s=at, memory_bytes={"gateway": size * MIB}) for at, size in ((1, 5), (2, 90), (3, 6))]
    assert median(peaks, 2, 5).memory_bytes == {"gateway": 6 * MIB}


def test_a_process_that_holds_more_is_seen_to() -> None:
    before = own_bytes(os.getpid())
    held = bytearray(os.urandom(16 * MIB))
    assert own_bytes(os.getpid()) - before > 12 * MIB
    del held


def test_the_course_of_memory_begins_and_ends_with_the_samples() -> None:
    rising = [replace(BEFORE, at_s=at, memory_bytes={"gateway": at * MIB}) for at in range(101)]
    assert course(rising, 5) == {"gateway": [0.0, 25.0, 50.0, 75.0, 100.0]}
