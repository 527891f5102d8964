"""Rows of chunks, where they are, and what a search asks of an index of them: of Milvus, or of an edge's files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.expression import Scope

GENERATION = "_g"
"""Between a collection's id and the number of a later generation of its index."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection's rows are.

    Attributes:
        pool: the Milvus collection that it shares with others, told apart by every expression; None: its own.
        generation: of its index; each has a Milvus collection of its own, but in a pool.
    """

    collection_id: str
    pool: str | None = None
    generation: int = 0

    @property
    def name(self) -> str:
        """Of the Milvus collection."""
        if self.pool is not None:
            return self.pool
        return f"{self.collection_id}{GENERATION}{self.generation}" if self.generation else self.collection_id


@dataclass(frozen=True, slots=True)
class Row:
    """One chunk on its way into the index.

    Attributes:
        dense: float32[dimensions], L2-normalised.
        sparse: BM25 weights by term index; not empty.
    """

    id: str
    revision_id: str
    document_id: str
    tenant_id: str
    collection_id: str
    acl: Sequence[str]
    filename: str
    start: int
    end: int
    page: int | None
    text: str
    metadata: dict[str, Any]
    dense: NDArray[np.float32]
    sparse: dict[int, float]


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found; `score` is cosine similarity (dense) or BM25 (lexical)."""

    id: str
    revision_id: str
    document_id: str
    filename: str
    start: int
    end: int
    page: int | None
    text: str
    metadata: dict[str, Any]
    score: float


class Index(Protocol):
    """Finds chunks; each call raises DependencyError when the index is away, IndexRefused when it says no."""

    async def search_dense(
        self, place: Place, vectors: NDArray[np.float32], scope: Scope, limit: int
    ) -> list[list[Hit]]:
        """By cosine similarity, best first, for each row of `vectors`, float32[n, dimensions]."""
        ...

    async def search_sparse(
        self, place: Place, vectors: Sequence[dict[int, float]], scope: Scope, limit: int
    ) -> list[list[Hit]]:
        """By inner product, best first, for each of `vectors`; an empty one finds nothing."""
        ...

    async def vectors(self, place: Place, ids: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """The dense vectors of rows, L2-normalised, by their ids; rows that are gone are missing."""
        ...


def row_id(revision_id: str, number: int) -> str:
    """The id of a revision's chunk, counted from 0."""
    return f"{revision_id}_{number}"
