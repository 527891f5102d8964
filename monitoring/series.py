"""Series that go: out of this process's metrics, out of the files that it counts into, and out of files of the dead.

prometheus_client removes series only where processes share no folder. Where they do, its files only grow; here each
process writes its own anew, so that who reads one sees it whole, before or after.
"""

import asyncio
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.mmap_dict import MmapedDict

from monitoring import mapped, metrics
from monitoring.mapped import rewrite, written
from monitoring.names import KINDS, Hidden, Kind, NamePage, Names, named
from monitoring.tally import tally

Metric = Counter | Gauge | Histogram
One = tuple[Metric, tuple[str, ...]]
"""A series, or those of one histogram: the values of its metric's labels."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_finders: list[Callable[[], None]] = []


def found_once(find: Callable[_P, _T]) -> Callable[_P, _T]:
    """Remember which series were found, which costs more than counting in them, until any are taken away."""
    remembered = lru_cache(maxsize=1000)(find)
    _finders.append(remembered.cache_clear)
    return remembered  # type: ignore[return-value]  # it is called as what it remembers


class Series:
    """Those of one process whose labels hold names that come and go.

    Args:
        there: the names that there are now; None: this process does not know.
    """

    def __init__(self, page: NamePage, there: Callable[[], Names] | None = None) -> None:
        self._page = page
        self._there = there
        self._counts: Mapping[One, float] = {}
        self._dead: set[Path] = set()  # whose names were read

    async def look(self) -> None:
        """Take away what is to go: gauges of names that are gone at once, counters when they are hidden.

        What was to go stays until the next look where another process has the page for long.

        Raises: OSError: the folder can't be written.
        """
        with suppress(BlockingIOError):
            await self._look()

    async def _look(self) -> None:
        mapped.come_back()
        tally.flush()
        if self._there is None:
            before, self._counts = self._counts, {(metric, at): _count(metric, at) for metric, at in _passing()}
            counted = [one for one, count in self._counts.items() if before.get(one) != count]
            hidden = await asyncio.to_thread(self._page.note, _names_of(counted))
        else:
            hidden = await asyncio.to_thread(self._told, self._there(), _names_of(_passing()))
        take_away([one for one in _passing() if self._goes(one, hidden)])

    def _told(self, there: Names, seen: set[tuple[Kind, str]]) -> Hidden:
        dead = set(_files_of_the_dead())
        for file in dead - self._dead:
            seen.update(name for key in _keys(file) for name in named(_labels(key)))
        self._dead = dead
        hidden = self._page.tell(there, seen)
        if hidden:
            for file in dead:
                _rewrite_dead(file, hidden)
        return hidden

    def _goes(self, one: One, hidden: Hidden) -> bool:
        metric, labels = one[0], _labels_of(one)
        if not isinstance(metric, Gauge):
            return hidden.has(labels)
        there = {} if self._there is None else self._there()
        return any(kind in there and name not in there[kind] for kind, name in named(labels))


def take_away(series: Collection[One]) -> None:
    """Take series out of this process; who counts in one of them again begins at 0. Call it where the process counts.

    Raises: OSError: there is no room to write a file anew; nothing has gone.
    """
    if not series:
        return
    tally.flush()
    held = [value for metric, at in series if at in metric._metrics for value in _values(metric._metrics[at])]
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        _out_of_files(held)
    for metric, at in series:
        with metric._lock:
            metric._metrics.pop(at, None)
    for forget in _finders:
        forget()


def _passing() -> list[One]:
    """This process's series with names that come and go."""
    every = (metric for metric in vars(metrics).values() if isinstance(metric, Counter | Gauge | Histogram))
    some = [metric for metric in every if not KINDS.keys().isdisjoint(metric._labelnames)]
    return [(metric, at) for metric in some for at in map(tuple, list(metric._metrics))]


def _names_of(series: Iterable[One]) -> set[tuple[Kind, str]]:
    return {name for one in series for name in named(_labels_of(one))}


def _labels_of(one: One) -> Mapping[str, str]:
    metric, at = one
    return dict(zip(metric._labelnames, at, strict=True))


def _count(metric: Metric, at: tuple[str, ...]) -> float:
    return sum(float(value.get()) for value in _values(metric._metrics[at]))


def _values(child: Any) -> Iterator[Any]:
    """What a series counts in."""
    if isinstance(child, Histogram):
        yield child._sum
        yield from child._buckets
    else:
        yield child._value


def _out_of_files(gone: Collection[Any]) -> None:
    """Raises: OSError: nothing has gone."""
    lock, held = mapped.inside()["lock"], mapped.inside()["values"]
    keys: dict[int, set[str]] = {}
    files: dict[int, Any] = {}
    for value in gone:
        keys.setdefault(id(value._file), set()).add(value._key)
        files[id(value._file)] = value._file
    with lock:
        for at, file in files.items():
            rewrite(file, keys[at])
        those = {id(value) for value in gone}
        held[:] = [value for value in held if id(value) not in those]


def _files_of_the_dead() -> Iterator[Path]:
    """Files into which nobody counts any more; of those of gauges of now, `forget_dead` takes care."""
    shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in () if shared is None else Path(shared).glob("*.db"):
        if not file.name.startswith("gauge_live") and _is_dead(file) and file.stat().st_size:
            yield file


def _is_dead(file: Path) -> bool:
    return not Path("/proc", file.stem.rpartition("_")[2]).exists()


def _rewrite_dead(file: Path, hidden: Hidden) -> None:
    """Raises: OSError: it stays as it was."""
    entries = [(key, count, at_s) for key, count, at_s, _ in _entries(file)]
    kept = [entry for entry in entries if not hidden.has(_labels(entry[0]))]
    if len(kept) == len(entries):
        return
    fresh = written(str(file), kept)
    try:
        os.truncate(fresh._fname, fresh._used)
        if _is_dead(file):  # its number may have been given again
            os.replace(fresh._fname, file)
    finally:
        fresh.close()
        Path(fresh._fname).unlink(missing_ok=True)


def _keys(file: Path) -> Iterator[str]:
    return (key for key, *_ in _entries(file))


def _entries(file: Path) -> Iterable[tuple[str, float, float, int]]:
    found: Iterable[tuple[str, float, float, int]] = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
    return found


def _labels(key: str) -> Mapping[str, str]:
    labels: Mapping[str, str] = json.loads(key)[2]
    return labels
