"""A collection as it stands at one version, to be carried elsewhere: its texts, chunks, vectors and lexical statistics.

It is a row of records. `collection` comes first, then of each document `document` and its `chunks`, in lots; then
`statistics`, and `end`, without which it is not whole. Vectors and weights are those in the index, bit by bit.

Of the lexical statistics only terms are told that stand in a document which is: the others are words of documents that
whoever gets the export may not read. How many chunks hold such a term is counted over the whole collection, as the
collection's own searches count it.
"""

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import snapshot
from retrieval.access import EVERYONE, may_read, reads_as
from retrieval.errors import CollectionExpired, CollectionMoved, InputInvalid
from retrieval.hosted import PREFIX
from retrieval.index import Row, row_id
from retrieval.milvus import VectorIndex
from retrieval.rows import fetch
from retrieval.snapshot import Snapshot
from storage.objects import ObjectNotFound, ObjectStore
from storage.schema import collections, documents, revision_terms, revisions, term_frequencies
from storage.sql import Database

FORMAT = 1
_LOT = 200  # chunks in one record
_TERMS = 20_000  # in one record
_MOST_READERS = 100
_KINDS = ("user:", "group:")

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be told, pinned.

    Attributes:
        readers: whose rights apply; everyone's, always, and these.
        documents: rows of those that are told, the first to be found first.
        frequencies: by term, how many chunks of the collection hold it.
    """

    pinned: Snapshot
    average_terms: float
    readers: Sequence[str]
    documents: Sequence[Any]
    frequencies: Mapping[str, int]


class Exporter:
    """Tells collections.

    Args:
        deadline_s: for one lot of rows.
    """

    def __init__(
        self, database: Database, index: VectorIndex, objects: ObjectStore, clock: Clock, deadline_s: float
    ) -> None:
        self._database = database
        self._index = index
        self._objects = objects
        self._clock = clock
        self._deadline_s = deadline_s

    async def begin(self, principal: Principal, name: str, readers: Sequence[str]) -> Export:
        """Pin a collection.

        Args:
            readers: whose rights apply beside everyone's, as `user:ID` or `group:NAME`; never more than the caller's.

        Raises: CollectionNotFound, CollectionExpired; InputInvalid: a reader is none, or the collection's vectors are a
            hosted model's.
        """
        wanted = check_readers(readers)
        now_s = self._clock.time()
        pinned = await snapshot.pin(self._database, principal.tenant_id, name, [])
        if pinned.life.is_over(now_s):  # the sweep may not have come to its documents yet
            raise CollectionExpired(name)
        if pinned.embedding_space.startswith(PREFIX):
            raise InputInvalid(
                "name",
                f"The collection {name!r} is embedded by {pinned.embedding_space}, which cannot be carried: index it "
                f"anew with a model of the house first (./stoker collections reindex {name} --model MODEL).",
            )
        statement = (
            sa.select(documents, *(getattr(revisions.c, column).label(label) for column, label in _OF_REVISIONS))
            .join(revisions, revisions.c.document_id == documents.c.id)
            .join(collections, collections.c.id == revisions.c.collection_id)
            .where(snapshot.shown(pinned, reads_as(principal), now_s), may_read(wanted))
            .order_by(revisions.c.visible_from, revisions.c.id)
        )
        known = sa.select(term_frequencies.c.term, term_frequencies.c.chunks).where(
            term_frequencies.c.collection_id == pinned.collection_id
        )
        about = sa.select(collections.c.version, collections.c.average_terms).where(
            collections.c.id == pinned.collection_id
        )

        async def read(connection: AsyncConnection) -> Export:
            found = (await connection.execute(statement)).all()
            frequencies = {row.term: row.chunks for row in (await connection.execute(known)).all()}
            row = (await connection.execute(about)).one()
            if row.version != pinned.version:  # the statistics are of another one
                raise CollectionMoved(name)
            return Export(pinned, row.average_terms, wanted, found, frequencies)

        return await self._database.read(read)

    async def records(self, export: Export, about: Mapping[str, Any]) -> AsyncGenerator[Record, None]:
        """All records.

        Args:
            about: more of the collection, for its own record.

        Raises: CollectionMoved: what was pinned has been swept meanwhile; IndexRefused; DependencyError.
        """
        pinned = export.pinned
        yield {
            **about,
            "kind": "collection",
            "format": FORMAT,
            "id": pinned.collection_id,
            "version": pinned.version,
            "chunks": pinned.chunks,
            "embedding_model": pinned.embedding_space,
            "dimensions": pinned.dimensions,
            "average_terms": export.average_terms,
            "language": pinned.language,
            "search": pinned.way.as_json(),
            "readers": list(export.readers),
        }
        told: set[str] = set()
        chunks = 0
        for row in export.documents:
            terms = await self._terms(export, row)
            told |= terms.keys()
            yield await self._document(export, row, terms)
            async for record in self._chunks(export, row):
                yield record
            chunks += row.chunks
        for lot in _lots(sorted(told & export.frequencies.keys()), _TERMS):
            yield {"kind": "statistics", "terms": {term: export.frequencies[term] for term in lot}}
        yield {"kind": "end", "documents": len(export.documents), "chunks": chunks}

    async def _document(self, export: Export, row: Any, terms: Mapping[str, int]) -> Record:
        try:
            text = (await self._objects.get(row.text_key)).decode()
        except ObjectNotFound as error:
            raise CollectionMoved(export.pinned.collection_id) from error
        return {
            "kind": "document",
            "id": row.id,
            "revision_id": row.revision,
            "version": row.number,
            "filename": row.filename,
            "media_type": row.media_type,
            "sha256": row.sha256,
            "metadata": row.metadata,
            "file_id": row.file_id,
            "pages": row.pages,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "chunks": row.chunks,
            "terms": dict(terms),
            "text": text,
        }

    async def _terms(self, export: Export, row: Any) -> Mapping[str, int]:
        statement = sa.select(revision_terms.c.terms).where(revision_terms.c.revision_id == row.revision)
        for found in await fetch(self._database, statement):
            terms: Mapping[str, int] = found.terms
            return terms
        raise CollectionMoved(export.pinned.collection_id)

    async def _chunks(self, export: Export, row: Any) -> AsyncIterator[Record]:
        for numbers in _lots(range(row.chunks), _LOT):
            ids = [row_id(row.revision, number) for number in numbers]
            found = {one.id: one for one in await self._index.rows(export.pinned.place, ids, self._deadline_s)}
            if len(found) != len(ids):
                raise CollectionMoved(export.pinned.collection_id)
            yield {"kind": "chunks", "document": row.id, **packed([found[one] for one in ids])}


_OF_REVISIONS = (
    ("id", "revision"),
    ("number", "number"),
    ("text_key", "text_key"),
    ("pages", "pages"),
    ("chunks", "chunks"),
)


def check_readers(raw: Sequence[str]) -> list[str]:
    """Everyone, and the readers that are asked for. Raises: InputInvalid."""
    if len(raw) > _MOST_READERS or not all(_is_reader(one) for one in raw):
        raise InputInvalid("readers", f"readers are up to {_MOST_READERS} of the form user:ID or group:NAME.")
    return [EVERYONE, *dict.fromkeys(raw)]


def packed(rows: Sequence[Row]) -> Record:
    """Chunks of one document as JSON holds them: numbers of all of them joined, little-endian, in base64."""
    sparse = [sorted(row.sparse.items()) for row in rows]
    return {
        "start": [row.start for row in rows],
        "end": [row.end for row in rows],
        "page": [row.page for row in rows],
        "dense": _text(np.stack([row.dense for row in rows]).astype("<f4")),
        "held": [len(pairs) for pairs in sparse],
        "terms": _text(np.array([term for pairs in sparse for term, _ in pairs], "<u4")),
        "weights": _text(np.array([weight for pairs in sparse for _, weight in pairs], "<f4")),
    }


def _text(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _is_reader(raw: str) -> bool:
    return raw.isprintable() and any(raw.startswith(kind) and kind < raw for kind in _KINDS) and len(raw) <= 300


def _lots(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
