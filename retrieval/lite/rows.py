"""Rows that never change, and what searches need to know of them, worked out once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from milvus_lite.storage.segment import Segment
from numpy.typing import NDArray

from retrieval.lite import filters
from retrieval.lite.filters import Mask
from retrieval.lite.postings import of_column
from retrieval.postings import Postings, first

T = TypeVar("T")

_EXACT_ROWS = 4096  # up to so many, looking at each is faster than an index, and misses none
_COPIED = 3  # to copy a row costs as much as to multiply so many
_KEPT = 64  # answers to parts of expressions
_KEPT_VALUES = 16  # lists and keys of metadata: whoever asks by a thousand names must not fill the memory
_PARTITION = "_partition"


class Rows:
    """The rows of one segment, or of batches that are in no segment yet.

    Attributes:
        pks: their primary keys.
        row_of: the row of each.
        seqs: the number of the write of each.
    """

    def __init__(self, table: pa.Table, pk_field: str, segment: Segment | None = None) -> None:
        self.table = table
        self.pks: Sequence[Any] = table.column(pk_field).to_pylist() if segment is None else segment.pks
        self.row_of: dict[Any, int] = (
            {pk: row for row, pk in enumerate(self.pks)} if segment is None else segment.pk_to_row
        )
        self.seqs: NDArray[np.uint64] = table.column("_seq").to_numpy() if segment is None else segment.seqs
        self._segment = segment
        self._making = threading.Lock()
        self._made: dict[Any, Any] = {}
        self._truths: OrderedDict[Any, filters.Truth] = OrderedDict()
        self._values: OrderedDict[Any, filters.Values] = OrderedDict()

    @classmethod
    def of_batches(cls, batches: Sequence[pa.RecordBatch], pk_field: str) -> "Rows":
        return cls(pa.Table.from_batches(batches).combine_chunks(), pk_field)

    @classmethod
    def of_segment(cls, segment: Segment, pk_field: str) -> "Rows":
        return cls(segment.table, pk_field, segment)

    def in_partitions(self, names: Sequence[str]) -> Mask | None:
        """The rows that are in one of these partitions; None: all."""
        if self._segment is not None:
            return None if self._segment.partition in names else np.zeros(len(self.pks), np.bool_)
        found = np.array([name in names for name in self.table.column(_PARTITION).to_pylist()])
        return None if found.all() else found

    def fulfil(self, expression: Any) -> Mask:
        """The rows that an expression is true of.

        Raises: filters.Unsupported
        """
        return filters.joined(expression, self._truth).true

    def postings(self, field: str) -> Postings:
        return self._once(("postings", field), lambda: of_column(self.table.column(field)))

    def lengths(self, field: str) -> NDArray[np.float32]:
        """Of the vectors of a field, float32[n]; 1 for one that is nothing."""
        return self._once(("lengths", field), lambda: _lengths(self._vectors(field)))

    def nearest(
        self,
        field: str,
        queries: NDArray[np.float32],
        limit: int,
        valid: Mask | None,
        metric: str,
        params: dict[str, Any] | None,
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """For each of `queries`, float32[n, dimensions], at most `limit` rows and their similarities, best first.

        Args:
            valid: rows that count; None: all.
            metric: COSINE or IP.
        """
        chosen = None if valid is None else np.flatnonzero(valid)
        count = len(self.pks) if chosen is None else len(chosen)
        index = None if self._segment is None else self._segment.indexes.get(field)
        if index is not None and count > _EXACT_ROWS:
            rows, distances = index.search(queries, limit, valid_mask=valid, params=params)
            return [
                (each[each >= 0], (1.0 if metric == "COSINE" else 0.0) - near[each >= 0].astype(np.float64))
                for each, near in zip(rows, distances, strict=True)
            ]
        scores = self._products(field, queries, chosen)
        if metric == "COSINE":
            lengths = self.lengths(field)
            scores /= _lengths(queries)[:, None] * (lengths if chosen is None else lengths[chosen])
        rows = np.arange(count) if chosen is None else chosen
        return [first(rows, -each.astype(np.float64), limit) for each in scores]

    def _products(
        self, field: str, queries: NDArray[np.float32], chosen: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        vectors = self._vectors(field)
        if chosen is None:
            return queries @ vectors.T
        if len(chosen) * _COPIED > len(vectors):
            return (queries @ vectors.T)[:, chosen]
        return queries @ vectors[chosen].T

    def _vectors(self, field: str) -> NDArray[np.float32]:
        if self._segment is not None:
            vectors: NDArray[np.float32] = self._segment.vector_data(field)[0]
            return vectors
        array = self.table.column(field).combine_chunks()
        flat: NDArray[np.float32] = array.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        return flat.reshape(len(array), -1)

    def _truth(self, part: Any) -> filters.Truth:
        known = self._truths.get(part)
        if known is None:
            source = filters.looked_up(part)
            if source is None:
                known = filters.of_columns(part, self.table.column, len(self.pks))
            else:
                known = filters.of_values(part, source, self._values_of(source))
            _keep(self._truths, part, known, _KEPT)
        return known

    def _values_of(self, source: Any) -> filters.Values:
        name = filters.name_of(source)
        found = self._values.get(name)
        if found is None:
            found = filters.values(source, self.table.column)
            _keep(self._values, name, found, _KEPT_VALUES)
        return found

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._made:
            with self._making:
                if key not in self._made:
                    self._made[key] = make()
        made: T = self._made[key]
        return made


def _keep(there: OrderedDict[Any, T], key: Any, one: T, most: int) -> None:
    """Add one, and drop what was added first where there are too many."""
    there[key] = one
    if len(there) > most:
        there.popitem(last=False)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1)
    return np.where(lengths == 0, 1, lengths).astype(np.float32, copy=False)
