"""Sparse vectors of many rows, by term: what a search by inner product walks through."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # has no stubs
from numpy.typing import NDArray

_PAIR = np.dtype([("term", "<u4"), ("weight", "<f4")])  # as Milvus writes a sparse vector


class Postings:
    """For each term the rows that hold it, and its weight there."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Read a column of sparse vectors, each the bytes of its pairs; empty or null: no terms."""
        vectors = [each or b"" for each in column.to_pylist()]
        pairs = np.frombuffer(b"".join(vectors), _PAIR)
        self._count = len(vectors)
        lengths = np.fromiter(map(len, vectors), np.int64, self._count) // _PAIR.itemsize
        order = np.argsort(pairs["term"], kind="stable")
        self._terms, starts = np.unique(pairs["term"][order], return_index=True)
        self._starts = np.append(starts, len(pairs))
        self._rows = np.repeat(np.arange(self._count, dtype=np.int32), lengths)[order]
        self._weights = pairs["weight"][order]

    def best(
        self, query: Mapping[int, float], limit: int, valid: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that share a term with a query, best first; of equals the first row.

        Args:
            query: weights by term.
            valid: rows that count; None: all.

        Returns: at most `limit` rows, and the inner product of each.
        """
        scores = np.zeros(self._count)
        found = np.zeros(self._count, np.bool_)
        for term, weight in query.items():
            at = int(np.searchsorted(self._terms, term))
            if at < len(self._terms) and self._terms[at] == term:
                some = slice(self._starts[at], self._starts[at + 1])
                rows = self._rows[some]
                scores[rows] += self._weights[some] * weight
                found[rows] = True
        if valid is not None:
            found &= valid
        candidates = np.flatnonzero(found)
        return first(candidates, -scores[candidates], limit)


def first(
    rows: NDArray[np.int64], distances: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of these rows, nearest first; of equals the first row. Returns: rows, and minus their distances."""
    if len(rows) > limit:
        bound = np.partition(distances, limit - 1)[limit - 1]
        near = distances <= bound
        rows, distances = rows[near], distances[near]
    order = np.lexsort((rows, distances))[:limit]
    return rows[order], -distances[order]
