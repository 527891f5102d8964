"""What a reader may see: a collection pinned at one version."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval.errors import CollectionNotFound
from retrieval.rows import fetch
from storage.schema import collections, documents, revisions, term_frequencies
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A collection as it was when a search began.

    Attributes:
        chunks: how many are visible.
        frequencies: how many of them hold each of the terms asked for; unknown terms are missing.
    """

    collection_id: str
    tenant_id: str
    version: int
    chunks: int
    embedding_space: str
    dimensions: int
    frequencies: Mapping[str, int]


async def pin(database: Database, tenant_id: str, name: str, terms: Collection[str]) -> Snapshot:
    """Read version and statistics from one consistent view.

    Raises: CollectionNotFound; DependencyError: SQL is away.
    """

    async def read(connection: AsyncConnection) -> Snapshot:
        live = sa.select(collections).where(collections.c.tenant_id == tenant_id, collections.c.live_name == name)
        row = (await connection.execute(live)).one_or_none()
        if row is None:
            raise CollectionNotFound(name)
        known = sa.select(term_frequencies.c.term, term_frequencies.c.chunks).where(
            term_frequencies.c.collection_id == row.id, term_frequencies.c.term.in_(terms)
        )
        found = (await connection.execute(known)).all() if terms else ()
        return Snapshot(
            collection_id=row.id,
            tenant_id=tenant_id,
            version=row.version,
            chunks=row.chunks,
            embedding_space=row.embedding_space,
            dimensions=row.dimensions,
            frequencies={term.term: term.chunks for term in found},
        )

    return await database.read(read)


async def visible(database: Database, snapshot: Snapshot, revision_ids: Collection[str]) -> dict[str, int]:
    """Of these revisions, those that the snapshot sees and whose document and collection still live.

    Returns: the document's version for each such revision.

    Raises: DependencyError: SQL is away.
    """
    if not revision_ids:
        return {}
    statement = (
        sa.select(revisions.c.id, revisions.c.number)
        .join(documents, documents.c.id == revisions.c.document_id)
        .join(collections, collections.c.id == revisions.c.collection_id)
        .where(
            revisions.c.id.in_(revision_ids),
            revisions.c.collection_id == snapshot.collection_id,
            documents.c.tenant_id == snapshot.tenant_id,
            revisions.c.visible_from <= snapshot.version,
            sa.or_(revisions.c.visible_to.is_(None), revisions.c.visible_to > snapshot.version),
            documents.c.deleted_at.is_(None),
            collections.c.deleted_at.is_(None),
        )
    )
    return {row.id: row.number for row in await fetch(database, statement)}
