"""Sparse vectors of many rows, by term: what a search by inner product walks through."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Postings:
    """For each term the rows that hold it, and its weight there.

    Attributes:
        count: of rows.
        terms: uint32, sorted.
        starts: where each term's rows begin, and where the last one's end.
        rows, weights: of all terms, one after the other.
    """

    count: int
    terms: NDArray[np.uint32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]

    @classmethod
    def of(
        cls, count: int, rows: NDArray[np.int32], terms: NDArray[np.uint32], weights: NDArray[np.float32]
    ) -> "Postings":
        """Of (row, term, weight) in the order of the rows."""
        order = np.argsort(terms, kind="stable")
        different, starts = np.unique(terms[order], return_index=True)
        return cls(count, different, np.append(starts, len(terms)), rows[order], weights[order])

    def best(
        self, query: Mapping[int, float], limit: int, valid: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows that share a term with a query, best first; of equals the first row.

        Args:
            query: weights by term.
            valid: rows that count; None: all.

        Returns: at most `limit` rows, and the inner product of each.
        """
        scores = np.zeros(self.count)
        found = np.zeros(self.count, np.bool_)
        for term, weight in query.items():
            at = int(np.searchsorted(self.terms, term))
            if at < len(self.terms) and self.terms[at] == term:
                some = slice(self.starts[at], self.starts[at + 1])
                rows = self.rows[some]
                scores[rows] += self.weights[some] * weight
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
