"""What a search of a collection sees: rows in segments and rows that are in none yet, less what hides them.

Milvus Lite's own readers wait while a segment is written or segments are merged, and miss rows for a moment between the
two. A view is taken without its locks: each merge and each flush publishes what there is when it is done, and rows on
their way into a segment stay to be seen until it is published.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from milvus_lite.engine.collection import Collection
from milvus_lite.storage.memtable import MemTable

from retrieval.lite.filters import Mask
from retrieval.lite.rows import Rows

Seqs = dict[Any, int]
Batches = tuple[Any, ...]

_TOGETHER = 64  # rows: each of many small batches would cost a search, and memory, as much as all of them together


@dataclass(frozen=True, slots=True)
class Part:
    """Rows, and which of them can be seen; None: all."""

    rows: Rows
    seen: Mask | None


@dataclass(frozen=True, slots=True)
class _Published:
    """Segments, less rows that others hide or that were deleted: by primary key, the number of the write that did."""

    parts: tuple[Part, ...]
    deleted: Mapping[Any, int]


class View:
    """Of one collection; kept as long as it."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._pk_field = collection.pk_field
        self._segments: dict[int, tuple[Any, Rows]] = {}
        self._batches: dict[tuple[int, int], tuple[Batches, Rows]] = {}
        self._flushing: tuple[MemTable, ...] = ()
        self._published: _Published | None = None

    def publish(self) -> None:
        """Show the segments that there are now; the caller holds the collection's lock."""
        kept = {}
        for segment in self._collection._segment_cache.values():
            known = self._segments.get(id(segment)) or (segment, Rows.of_segment(segment, self._pk_field))
            kept[id(segment)] = known
        self._segments = kept
        deleted = self._collection._delta_index.snapshot
        self._published = _Published(tuple(_visible([rows for _, rows in kept.values()], deleted)), deleted)

    def warm(self, sparse: Sequence[str], dense: Sequence[str]) -> None:
        """Work out now what the next search of these fields would have to."""
        for part in self._latest().parts:
            for field in sparse:
                part.rows.postings(field)
            for field in dense:
                part.rows.lengths(field)

    def flush(self, flush: Callable[[], None]) -> None:
        """Run a flush, while which its rows stay to be seen."""
        table = self._collection._memtable
        self._flushing = (*self._flushing, table)
        try:
            flush()
        finally:
            self._flushing = tuple(each for each in self._flushing if each is not table)

    def parts(self) -> list[Part]:
        """All rows that can be seen, each once."""
        # In this order, whatever is moved on meanwhile is met once at least; what is met twice is hidden once.
        newest = self._collection._memtable
        tables = [newest, *(each for each in reversed(self._flushing) if each is not newest)]
        published = self._latest()
        newer: Seqs = {}
        parts: list[Part] = []
        batches: dict[tuple[int, int], tuple[Batches, Rows]] = {}
        for table in tables:
            with table._lock:
                inserted, placed, gone = tuple(table._insert_batches), dict(table._pk_index), dict(table._delete_index)
            shown = _shown(placed, newer, published)
            number = 0
            for group in _grouped(inserted):
                name = (id(group[0]), len(group))
                known = self._batches.get(name) or (group, Rows.of_batches(group, self._pk_field))
                batches[name] = known
                seen = np.zeros(len(known[1].pks), np.bool_)
                before = 0
                for batch in group:
                    seen[[before + row for row in shown.get(number, ())]] = True
                    number, before = number + 1, before + batch.num_rows
                if seen.any():
                    parts.append(Part(known[1], None if seen.all() else seen))
            _add(newer, {pk: seq for pk, (_, _, seq) in placed.items()})
            _add(newer, {pk: seq for pk, (seq, _) in gone.items()})
        self._batches = batches
        for part in published.parts:
            less = _less(part, newer)
            if less is None or less.any():
                parts.append(Part(part.rows, less))
        return parts

    def _latest(self) -> _Published:
        if self._published is None:
            with self._collection._maintenance_lock:
                self.publish()
        assert self._published is not None
        return self._published


def _grouped(batches: Batches) -> Iterator[Batches]:
    """Those that are looked at as one, in their order; of the newest each by itself, as more are to come."""
    group: list[Any] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        if rows >= _TOGETHER:
            yield tuple(group)
            group, rows = [], 0
    yield from ((batch,) for batch in group)


def _add(newer: Seqs, more: Seqs) -> None:
    for pk, seq in more.items():
        if newer.get(pk, -1) < seq:
            newer[pk] = seq


def _shown(placed: Mapping[Any, tuple[int, int, int]], newer: Seqs, published: _Published) -> dict[int, list[int]]:
    """By number of batch, its rows that nothing newer hides, and no segment holds already."""
    hidden = {pk for pk in placed.keys() & newer.keys() if newer[pk] > placed[pk][2]}
    hidden |= {pk for pk in placed.keys() & published.deleted.keys() if published.deleted[pk] > placed[pk][2]}
    for part in published.parts:
        for pk in placed.keys() & part.rows.row_of.keys():
            if part.rows.seqs[part.rows.row_of[pk]] >= placed[pk][2]:
                hidden.add(pk)
    shown: dict[int, list[int]] = {}
    for pk, (batch, row, _) in placed.items():
        if pk not in hidden:
            shown.setdefault(batch, []).append(row)
    return shown


def _less(part: Part, newer: Seqs) -> Mask | None:
    """The rows of a part that can be seen, less those of which there is something newer."""
    rows = part.rows
    hidden = [rows.row_of[pk] for pk in rows.row_of.keys() & newer.keys() if newer[pk] > rows.seqs[rows.row_of[pk]]]
    if not hidden:
        return part.seen
    seen = np.ones(len(rows.pks), np.bool_) if part.seen is None else part.seen.copy()
    seen[hidden] = False
    return seen


def _visible(segments: Sequence[Rows], deleted: Mapping[Any, int]) -> Iterator[Part]:
    known: set[Any] = set()
    several: set[Any] = set()
    for rows in segments:
        several |= known & rows.row_of.keys()
        known |= rows.row_of.keys()
    newest: Seqs = {}
    for rows in segments:
        _add(newest, {pk: int(rows.seqs[rows.row_of[pk]]) for pk in several & rows.row_of.keys()})
    for rows in segments:
        hidden = [
            row
            for hiding in (newest, deleted)
            for pk in rows.row_of.keys() & hiding.keys()
            if hiding[pk] > rows.seqs[row := rows.row_of[pk]]
        ]
        seen = None
        if hidden:
            seen = np.ones(len(rows.pks), np.bool_)
            seen[hidden] = False
        yield Part(rows, seen)
