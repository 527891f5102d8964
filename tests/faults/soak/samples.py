"""What a running stack holds at a moment, and what has grown between two."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from cli.process import descendants

_DIGITS = re.compile(r"[0-9a-hjkmnp-tv-z]{20,}|\d+", re.IGNORECASE)  # ids and counters in names of keys
_OWN = ("RssAnon", "RssShmem")


@dataclass(frozen=True)
class Sample:
    """One moment.

    Attributes:
        at_s: seconds since the load began.
        memory_bytes: of each part with all of its processes: what is its own, without mapped files.
        files: descriptors that each part has open.
        series: of /metrics.
        lasting: keys of Redis that have no end, by the form of their names.
    """

    at_s: float
    memory_bytes: Mapping[str, int]
    files: Mapping[str, int]
    series: int
    lasting: Mapping[str, int]


def take(at_s: float, parts: Mapping[str, int], url: str, redis: "Redis") -> Sample:
    """Look at everything.

    Args:
        parts: name to the process that leads it.
    """
    memory: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for name, leader in parts.items():
        for pid in (leader, *(one.pid for one in descendants(leader))):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                memory[name] += own_bytes(pid)
                files[name] += len(os.listdir(f"/proc/{pid}/fd"))
    told = httpx.get(f"{url}/metrics", timeout=60).text
    series = sum(not line.startswith("#") for line in told.splitlines() if line)
    lasting = Counter(form_of(name) for name in redis.scan_iter(count=1000) if redis.ttl(name) == -1)
    return Sample(at_s, dict(memory), dict(files), series, dict(lasting))


def own_bytes(pid: int) -> int:
    """Memory of one process that no file stands behind."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in _OWN if name in fields)


def form_of(name: str) -> str:
    """A key's name without what makes it one of many."""
    return _DIGITS.sub("*", name)


def growth(first: Sample, last: Sample) -> dict[str, Any]:
    """What grew, as figures: percent of memory by part, and differences of counts."""
    return {
        "memory %": {
            name: round(100 * (last.memory_bytes[name] / held - 1), 1)
            for name, held in first.memory_bytes.items()
            if name in last.memory_bytes and held
        },
        "MiB": {name: round(held / 2**20, 1) for name, held in last.memory_bytes.items()},
        "files": {name: last.files[name] - held for name, held in first.files.items() if name in last.files},
        "series": last.series - first.series,
        "lasting keys": {
            form: count - first.lasting.get(form, 0)
            for form, count in last.lasting.items()
            if count != first.lasting.get(form, 0)
        },
    }


def course(samples: Sequence[Sample], moments: int = 10) -> dict[str, list[float]]:
    """Memory of each part in MiB at moments that are evenly spread, from the first to the last: a leak is a slope."""
    steps = [round(at * (len(samples) - 1) / (moments - 1)) for at in range(moments)]
    return {
        name: [round(samples[step].memory_bytes.get(name, 0) / 2**20, 1) for step in steps]
        for name in samples[0].memory_bytes
    }


@dataclass(frozen=True)
class Bounds:
    """How much may grow.

    Attributes:
        memory_share: of a part's memory; None: it is only told.
        floor_bytes: which a part may grow by in any case: a page more in a process of 8 MiB is no leak.
        files: descriptors of a part.
        series: of /metrics, as a share.
        keys: of one form without an end.
    """

    memory_share: float | None
    floor_bytes: int = 4 * 2**20
    files: int = 40
    series: float = 0.05
    keys: int = 8


def grown(first: Sample, last: Sample, bounds: Bounds) -> list[str]:
    """What grew beyond its bounds, in words."""
    found = []
    for name, held in first.memory_bytes.items():
        more = last.memory_bytes.get(name, 0) - held
        if bounds.memory_share is not None and more > max(bounds.memory_share * held, bounds.floor_bytes):
            found.append(f"{name} holds {more / 2**20:.1f} MiB more than {held / 2**20:.1f} MiB")
    for name, held in first.files.items():
        if last.files.get(name, 0) > held + bounds.files:
            found.append(f"{name} has {last.files[name]} files open, and had {held}")
    if last.series > first.series * (1 + bounds.series):
        found.append(f"/metrics has {last.series} series, and had {first.series}")
    for form, count in last.lasting.items():
        if count > first.lasting.get(form, 0) + bounds.keys:
            found.append(f"{count} keys {form} have no end, and {first.lasting.get(form, 0)} had none before")
    return found


def median(samples: Sequence[Sample], at_s: float, around_s: float) -> Sample:
    """The sample whose memory in all is the middle one of those within `around_s` of a moment."""
    near = [one for one in samples if abs(one.at_s - at_s) <= around_s]
    assert near, f"no sample at {at_s:g} s"
    return sorted(near, key=lambda one: sum(one.memory_bytes.values()))[len(near) // 2]
