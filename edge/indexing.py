"""Writing an export's index out of the records of `/v1/collections/{name}/export`, one document after the other."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from edge.errors import ExportBroken
from edge.index import CHUNK, CHUNKS, DOCUMENTS, NO_PAGE, POSTINGS, TEXTS, VECTORS, Shelved
from retrieval.postings import Postings

MOST_FLAT = 200_000
"""Chunks up to which every vector is looked at; beyond, a graph finds almost all of the nearest."""
_LINKS, _BUILT_WITH = 16, 200  # as the origin's graph is built

Record = Mapping[str, Any]


class IndexWriter:
    """Writes one; used as a context manager."""

    def __init__(self, folder: Path, dimensions: int, chunks: int) -> None:
        """Args: chunks: about how many will come."""
        self._folder = folder
        self._dimensions = dimensions
        self.kind = "flat" if chunks <= MOST_FLAT else "hnsw"
        if self.kind == "flat":
            self._vectors = faiss.IndexFlatIP(dimensions)
        else:
            self._vectors = faiss.IndexHNSWFlat(dimensions, _LINKS, faiss.METRIC_INNER_PRODUCT)
            self._vectors.hnsw.efConstruction = _BUILT_WITH
        self._texts = (folder / TEXTS).open("wb")
        self._documents: list[Shelved] = []
        self._chunks: list[np.ndarray[Any, Any]] = []
        self._held: list[np.ndarray[Any, Any]] = []
        self._terms: list[np.ndarray[Any, Any]] = []
        self._weights: list[np.ndarray[Any, Any]] = []
        self._text = ""

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._texts.close()

    @property
    def chunks(self) -> int:
        return sum(map(len, self._chunks))

    def document(self, record: Record) -> None:
        """The next document, whose chunks follow."""
        text: str = record["text"]
        at = self._texts.tell()
        self._texts.write(text.encode())
        shelved = Shelved(
            id=record["id"],
            revision_id=record["revision_id"],
            version=record["version"],
            filename=record["filename"],
            at=at,
            until=self._texts.tell(),
            metadata=record["metadata"],
        )
        self._documents.append(shelved)
        self._text = text
        self._bytes = _bytes_before(text)

    def add(self, record: Record) -> None:
        """Chunks of the last document. Raises: ExportBroken: they are not of it, or not whole."""
        last = self._documents[-1] if self._documents else None
        dense = _array(record["dense"], "<f4").reshape(-1, self._dimensions)
        terms, weights = _array(record["terms"], "<u4"), _array(record["weights"], "<f4")
        held = np.array(record["held"], np.int64)
        start, end = np.array(record["start"], np.int64), np.array(record["end"], np.int64)
        whole = len(start) == len(end) == len(dense) == len(held) and held.sum() == len(terms) == len(weights)
        if last is None or record["document"] != last.id or not whole or not _lie_in(self._text, start, end):
            raise ExportBroken("the gateway sent chunks that do not fit their document", "export it again")
        chunks = np.empty(len(start), CHUNK)
        chunks["document"] = len(self._documents) - 1
        chunks["start"], chunks["end"] = start, end
        chunks["page"] = [NO_PAGE if page is None else page for page in record["page"]]
        chunks["at"], chunks["until"] = last.at + self._bytes[start], last.at + self._bytes[end]
        self._vectors.add(np.ascontiguousarray(dense, np.float32))
        self._chunks.append(chunks)
        self._held.append(held)
        self._terms.append(terms)
        self._weights.append(weights)

    def finish(self) -> None:
        """Write what is kept until all chunks are there."""
        faiss.write_index(self._vectors, str(self._folder / VECTORS))
        chunks = np.concatenate([np.empty(0, CHUNK), *self._chunks])
        np.save(self._folder / CHUNKS, chunks)
        held = np.concatenate([np.empty(0, np.int64), *self._held])
        rows = np.repeat(np.arange(len(chunks), dtype=np.int32), held)
        terms = np.concatenate([np.empty(0, np.uint32), *self._terms]).astype(np.uint32)
        weights = np.concatenate([np.empty(0, np.float32), *self._weights]).astype(np.float32)
        postings = Postings.of(len(chunks), rows, terms, weights)
        for name, file in POSTINGS.items():
            np.save(self._folder / file, getattr(postings, name))
        (self._folder / DOCUMENTS).write_text(json.dumps([asdict(one) for one in self._documents], ensure_ascii=False))


def _bytes_before(text: str) -> np.ndarray[Any, Any]:
    """For each character, and the end: how many bytes of UTF-8 stand before it."""
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    return np.concatenate([[0], np.cumsum(sizes)])


def _lie_in(text: str, start: np.ndarray[Any, Any], end: np.ndarray[Any, Any]) -> bool:
    return bool((start >= 0).all() and (start <= end).all() and (end <= len(text)).all())


def _array(raw: str, dtype: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(raw, validate=True), dtype)
