"""What a reader may see: a collection pinned at one version."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.reach import ANYWHERE, Reach
from retrieval.access import live, may_read, readers_of
from retrieval.analyzer import analyzer
from retrieval.called import CollectionId
from retrieval.errors import CollectionNotFound
from retrieval.index import Place
from retrieval.life import FOREVER, Life
from retrieval.query import Way
from retrieval.rows import fetch
from storage.schema import collections, documents, revisions, term_frequencies
from storage.sql import Database

_MOST_TERMS = 200  # that lexical search looks for

# Every search asks these: they are put together once.
_NAMED = sa.select(collections).where(
    collections.c.tenant_id == sa.bindparam("tenant_id"), collections.c.live_name == sa.bindparam("name")
)
_IDENTIFIED = sa.select(collections).where(
    collections.c.tenant_id == sa.bindparam("tenant_id"),
    collections.c.id == sa.bindparam("name"),
    collections.c.deleted_at.is_(None),
)
_KNOWN = sa.select(term_frequencies.c.term, term_frequencies.c.chunks).where(
    term_frequencies.c.collection_id == sa.bindparam("collection_id"),
    term_frequencies.c.term.in_(sa.bindparam("terms", expanding=True)),
)
_CHANGED = sa.select(documents.c.id, documents.c.metadata, documents.c.acl).where(
    documents.c.collection_id == sa.bindparam("collection_id"), documents.c.stale, documents.c.revision_id.is_not(None)
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A collection as it was when a search began.

    Attributes:
        chunks: how many are visible.
        asked: the terms of each text that was asked for, in its language.
        frequencies: how many of them hold each of the terms asked for; unknown terms are missing.
        language: of the collection's texts.
        way: how it is searched unless a question asks for another way.
        stale: documents of which the catalog says other things than the rows in the index, or other readers.
        life: how long it lasts unless it is used.
    """

    collection_id: str
    place: Place
    tenant_id: str
    version: int
    chunks: int
    embedding_space: str
    dimensions: int
    asked: Sequence[Sequence[str]]
    frequencies: Mapping[str, int]
    language: str
    way: Way
    stale: Sequence["Stale"] = ()
    reach: Reach = ANYWHERE
    life: Life = FOREVER


@dataclass(frozen=True, slots=True)
class Stale:
    """What the catalog says of a document; the rows in the index hold something older."""

    document_id: str
    metadata: Mapping[str, Any]
    readers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Visible:
    """What the catalog says of a revision that may be seen.

    Attributes:
        number: the document's version.
        file_id: the file of `/v1/files` that the document is a copy of; None: it came without one.
    """

    number: int
    metadata: dict[str, Any]
    file_id: str | None = None


async def pin(database: Database, tenant_id: str, name: str, texts: Sequence[str]) -> Snapshot:
    """Read version and statistics from one consistent view.

    Args:
        texts: whose terms are asked for; those beyond the first 200 different ones are left out.

    Raises: CollectionNotFound; DependencyError: SQL is away.
    """

    async def read(connection: AsyncConnection) -> Snapshot:
        statement = _IDENTIFIED if isinstance(name, CollectionId) else _NAMED
        row = (await connection.execute(statement, {"tenant_id": tenant_id, "name": str(name)})).one_or_none()
        if row is None:
            raise CollectionNotFound(name)
        asked = [analyzer(row.language).terms(text) for text in texts]
        terms = list(dict.fromkeys(term for words in asked for term in words))[:_MOST_TERMS]
        asks_for = {"collection_id": row.id, "terms": terms}
        found = (await connection.execute(_KNOWN, asks_for)).all() if terms else ()
        stale = (await connection.execute(_CHANGED, {"collection_id": row.id})).all()
        return Snapshot(
            collection_id=row.id,
            place=Place(row.id, row.pool, row.generation),
            tenant_id=tenant_id,
            version=row.version,
            chunks=row.chunks,
            embedding_space=row.embedding_space,
            dimensions=row.dimensions,
            asked=asked,
            frequencies={term.term: term.chunks for term in found},
            language=row.language,
            way=Way.read(row.search, "search"),
            stale=[Stale(one.id, one.metadata, readers_of(one.acl)) for one in stale],
            reach=Reach.read(row.reach),
            life=Life.of(row),
        )

    return await database.read(read)


async def visible(
    database: Database, snapshot: Snapshot, revision_ids: Collection[str], readers: Sequence[str] | None, now_s: float
) -> dict[str, Visible]:
    """Of these revisions, those that the snapshot sees and the caller may read, of documents that still live.

    Args:
        readers: as `access.reads_as` gives them; asked of the catalog as it is now, not as it was pinned.

    Raises: DependencyError: SQL is away.
    """
    if not revision_ids:
        return {}
    asked = {
        "revision_ids": list(revision_ids),
        "collection_id": snapshot.collection_id,
        "tenant_id": snapshot.tenant_id,
        "version": snapshot.version,
        "now_s": now_s,
    }
    if readers is not None:
        asked["readers"] = list(readers)
    rows = await fetch(database, _VISIBLE if readers is None else _VISIBLE_TO, asked)
    return {row.id: Visible(row.number, row.metadata, row.file_id) for row in rows}


def shown(snapshot: Snapshot, readers: Sequence[str] | None, now_s: float) -> sa.ColumnElement[bool]:
    """The clause that holds for a revision, joined with its document and collection, that this caller is shown now."""
    return _shown(snapshot.collection_id, snapshot.tenant_id, snapshot.version, readers, now_s)


def _shown(collection_id: Any, tenant_id: Any, version: Any, readers: Any, now_s: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        revisions.c.collection_id == collection_id,
        documents.c.tenant_id == tenant_id,
        revisions.c.visible_from <= version,
        sa.or_(revisions.c.visible_to.is_(None), revisions.c.visible_to > version),
        live(now_s),
        may_read(readers),
        collections.c.deleted_at.is_(None),
    )


def _visible(readers: Any) -> sa.Select[Any]:
    def given(name: str) -> sa.BindParameter[Any]:
        return sa.bindparam(name)

    return (
        sa.select(revisions.c.id, revisions.c.number, documents.c.metadata, documents.c.file_id)
        .join(documents, documents.c.id == revisions.c.document_id)
        .join(collections, collections.c.id == revisions.c.collection_id)
        .where(
            revisions.c.id.in_(sa.bindparam("revision_ids", expanding=True)),
            _shown(given("collection_id"), given("tenant_id"), given("version"), readers, given("now_s")),
        )
    )


_VISIBLE, _VISIBLE_TO = _visible(None), _visible(sa.bindparam("readers", expanding=True))
