"""The index of an export: vectors in FAISS, weights of terms as postings, texts in one file of UTF-8.

All of it is mapped into memory where it can be, so that pages which nobody asks for take none.
"""

import asyncio
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.expression import Filter, Scope, holds
from retrieval.index import Hit, Place
from retrieval.postings import Postings, first

VECTORS, TEXTS, CHUNKS, DOCUMENTS = "vectors.faiss", "texts.utf8", "chunks.npy", "documents.json"
POSTINGS = {name: f"postings.{name}.npy" for name in ("terms", "starts", "rows", "weights")}
CHUNK = np.dtype(
    [("document", "<i4"), ("start", "<i4"), ("end", "<i4"), ("page", "<i4"), ("at", "<i8"), ("until", "<i8")]
)
"""A chunk: its document's place in `documents.json`, its span in characters, its page or -1, its bytes in the texts."""
NO_PAGE = -1

_LOOKED_AT = 256  # as the origin's graph is searched
_EXACT_CHUNKS = 4096  # up to so many fulfil a filter, each is looked at, and none is missed
_KEPT_FILTERS = 64


@dataclass(frozen=True, slots=True)
class Shelved:
    """A document: `at` and `until` count bytes of the texts' file."""

    id: str
    revision_id: str
    version: int
    filename: str
    at: int
    until: int
    metadata: Mapping[str, Any]


class FileIndex:
    """Searches one folder; close it.

    Args:
        kind: flat or hnsw, as the manifest says.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._texts = _mapped(folder / TEXTS)
        self.documents = [Shelved(**one) for one in json.loads((folder / DOCUMENTS).read_bytes())]
        self.by_id = {one.id: one for one in self.documents}
        self._chunks = np.load(folder / CHUNKS, mmap_mode="r")
        self._of = np.array(self._chunks["document"])
        terms, starts, rows, weights = (np.load(folder / name, mmap_mode="r") for name in POSTINGS.values())
        self._postings = Postings(len(self._chunks), terms, starts, rows, weights)
        self._vectors = faiss.read_index(str(folder / VECTORS), faiss.IO_FLAG_MMAP_IFC)
        self._graph = kind == "hnsw"
        self._fulfilling = lru_cache(_KEPT_FILTERS)(self._fulfil)

    @property
    def chunks(self) -> int:
        return len(self._chunks)

    def close(self) -> None:
        if isinstance(self._texts, mmap.mmap):
            self._texts.close()

    def text(self, at: int, until: int) -> str:
        """What stands between two bytes."""
        return self._texts[at:until].decode()

    async def search_dense(
        self,
        place: Place,
        vectors: NDArray[np.float32],
        scope: Scope,
        limit: int,
    ) -> list[list[Hit]]:
        """By cosine similarity, best first, for each row of `vectors`, float32[n, dimensions]."""
        return await asyncio.to_thread(lambda: [self._nearest(vector, scope, limit) for vector in vectors])

    async def search_sparse(
        self,
        place: Place,
        vectors: Sequence[dict[int, float]],
        scope: Scope,
        limit: int,
    ) -> list[list[Hit]]:
        """By inner product, best first, for each of `vectors`; an empty one finds nothing."""

        def look() -> list[list[Hit]]:
            valid = self._valid(scope)
            return [self._hits(*self._postings.best(vector, limit, valid)) for vector in vectors]

        return await asyncio.to_thread(look)

    async def vectors(self, place: Place, ids: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """The dense vectors of chunks by their ids."""
        return {one: self._vectors.reconstruct(int(one)) for one in ids}

    def sample(self, count: int) -> tuple[list[str], NDArray[np.float32]]:
        """Some chunks, spread over all: their texts, and their vectors, float32[n, dimensions]."""
        rows = np.unique(np.linspace(0, self.chunks - 1, min(count, self.chunks)).astype(np.int64))
        texts = [self.text(int(self._chunks["at"][row]), int(self._chunks["until"][row])) for row in rows]
        return texts, np.stack([self._vectors.reconstruct(int(row)) for row in rows])

    def _nearest(self, vector: NDArray[np.float32], scope: Scope, limit: int) -> list[Hit]:
        valid = self._valid(scope)
        count = self.chunks if valid is None else int(valid.sum())
        if not count:
            return []
        query = np.ascontiguousarray(vector[None, :], np.float32)
        if valid is not None and count <= _EXACT_CHUNKS:
            rows = np.flatnonzero(valid)
            near = self._vectors.reconstruct_batch(rows) @ query[0]
            return self._hits(*first(rows, -near.astype(np.float64), limit))
        chosen = None if valid is None else faiss.IDSelectorBitmap(np.packbits(valid, bitorder="little"))
        params = (
            faiss.SearchParametersHNSW(efSearch=max(_LOOKED_AT, 2 * limit), sel=chosen)
            if self._graph
            else faiss.SearchParameters(sel=chosen)
        )
        near, rows = self._vectors.search(query, min(limit, count), params=params)
        found = rows[0] >= 0
        return self._hits(*first(rows[0][found], -near[0][found].astype(np.float64), limit))

    def _valid(self, scope: Scope) -> NDArray[np.bool_] | None:
        return None if scope.filter is None else self._fulfilling(scope.filter)

    def _fulfil(self, node: Filter) -> NDArray[np.bool_]:
        """The chunks of documents that a filter holds for."""
        documents = np.fromiter((holds(node, one.metadata) for one in self.documents), np.bool_, len(self.documents))
        chunks: NDArray[np.bool_] = documents[self._of]
        return chunks

    def _hits(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> list[Hit]:
        return [self._hit(int(row), float(score)) for row, score in zip(rows, scores, strict=True)]

    def _hit(self, row: int, score: float) -> Hit:
        chunk = self._chunks[row]
        document = self.documents[chunk["document"]]
        page = int(chunk["page"])
        return Hit(
            id=str(row),
            revision_id=document.revision_id,
            document_id=document.id,
            filename=document.filename,
            start=int(chunk["start"]),
            end=int(chunk["end"]),
            page=None if page == NO_PAGE else page,
            text=self.text(int(chunk["at"]), int(chunk["until"])),
            metadata=dict(document.metadata),
            score=score,
        )


def _mapped(path: Path) -> mmap.mmap | bytes:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
