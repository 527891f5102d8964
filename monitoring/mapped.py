"""Files of metrics without holes: they are mapped into memory, where a hole is a SIGBUS once the disk is full.

prometheus_client makes its files as long as they may become, and has no room for them yet.
"""

import inspect
import mmap
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

from prometheus_client import values
from prometheus_client.mmap_dict import _INITIAL_MMAP_SIZE, MmapedDict

Entry = tuple[str, float, float]
"""A series as the files have it: its key, its value, and when it was set."""


class SolidFile(MmapedDict):
    """One that has room for all that it is long. Raises: OSError: where it was to become longer, there is none."""

    def __init__(self, name: str) -> None:
        with Path(name).open("ab") as file:
            if file.tell() == 0:
                _lengthen(file.fileno(), 0, _INITIAL_MMAP_SIZE)
        super().__init__(name)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        capacity = self._capacity
        while self._used + len(key.encode()) + 32 > capacity:  # length, padding and two doubles
            capacity *= 2
        if capacity > self._capacity:
            _lengthen(self._f.fileno(), self._capacity, capacity)
            self._capacity = capacity
            self._m = mmap.mmap(self._f.fileno(), capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class CountingFile(SolidFile):
    """One in which this process counts, which it never ceases to do: without room on the disk it counts in memory.

    What it counts there is told again once it is back in its file, by `come_back` or by a new series.
    """

    def __init__(self, name: str) -> None:
        try:
            super().__init__(name)
        except OSError:
            Path(name).unlink(missing_ok=True)  # who reads the folder expects more of a file than nothing
            with _memory() as file:
                super().__init__(f"/proc/self/fd/{file.fileno()}")
            self._fname = name
            _away.add(self)

    def _init_value(self, key: str) -> None:
        if self in _away:
            with suppress(OSError):
                rewrite(self)
        try:
            super()._init_value(key)
        except OSError:
            held = self._m[: self._capacity]
            self._f = _memory()
            self._f.write(held)
            self._f.flush()
            self._m = mmap.mmap(self._f.fileno(), self._capacity)
            _away.add(self)
            super()._init_value(key)


_away: WeakSet[Any] = WeakSet()  # files that are in memory


def count_without_holes() -> None:
    """Have prometheus_client count in such files; call it before the first metric is made."""
    values.MmapedDict = CountingFile  # type: ignore[attr-defined,assignment]


def come_back() -> None:
    """Bring what this process counts in memory into its files. Raises: OSError: there is no room yet."""
    if _away:
        with inside()["lock"]:
            for file in list(_away):
                rewrite(file)


def inside() -> Mapping[str, Any]:
    """What prometheus_client keeps to itself: its `lock`, and `values`, by which it holds every value for ever."""
    return inspect.getclosurevars(values.ValueClass.close_all_files).nonlocals


def rewrite(file: Any, without: Iterable[str] = ()) -> None:
    """Write a file that this process has open anew, in the same place. Raises: OSError: it stays as it was."""
    gone = set(without)
    fresh = written(file._fname, [entry for entry in file.read_all_values() if entry[0] not in gone])
    try:
        os.replace(fresh._fname, file._fname)
    except OSError:
        fresh.close()
        Path(fresh._fname).unlink(missing_ok=True)
        raise
    file.close()
    file._f, file._m = fresh._f, fresh._m
    file._capacity, file._used, file._positions = fresh._capacity, fresh._used, fresh._positions
    _away.discard(file)


def written(name: str, entries: Iterable[Entry]) -> Any:
    """A new file with these entries, beside the one of this name. Raises: OSError: nothing is left of it."""
    beside = Path(f"{name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    try:
        made = SolidFile(str(beside))
        for key, count, at_s in entries:
            made.write_value(key, count, at_s)  # type: ignore[no-untyped-call]
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return made


def _lengthen(handle: int, length: int, wanted: int) -> None:
    """Raises: OSError: there is no room; the file is as long as it was."""
    try:
        os.posix_fallocate(handle, 0, wanted)
    except OSError:
        os.ftruncate(handle, length)
        raise


def _memory() -> Any:
    """A file that is on no disk."""
    return os.fdopen(os.memfd_create("metrics"), "r+b")
