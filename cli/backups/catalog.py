"""What SQL, as it was at one moment, stands on in the other stores.

A revision is never changed, and what it stands on is there before SQL shows it: so all that a moment needs has been
written by then, and can be missing later only because it was deleted since.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval.index import Place
from storage.schema import collections, documents, files, generations, revisions


@dataclass(frozen=True, slots=True)
class Indexed:
    """A revision that somebody is shown, or will be when a reindex ends.

    Attributes:
        chunks: rows that it has in the index.
    """

    id: str
    place: Place
    chunks: int


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one moment.

    Attributes:
        places: of the index, living collections' and those that are being made, with their dimensions.
    """

    objects: frozenset[str]
    revisions: tuple[Indexed, ...]
    places: dict[Place, int]


async def needs(connection: AsyncConnection, now_s: float) -> Needs:
    """Ask what is there that is neither deleted nor expired."""
    alive = sa.and_(
        documents.c.deleted_at.is_(None),
        sa.or_(documents.c.expires_at.is_(None), documents.c.expires_at > now_s),
        collections.c.deleted_at.is_(None),
    )
    of_documents = documents.join(collections, collections.c.id == documents.c.collection_id)
    of_revisions = revisions.join(of_documents, revisions.c.document_id == documents.c.id)
    twin = sa.and_(revisions.c.ready_at.is_not(None), revisions.c.retired_at.is_(None))
    readable = sa.or_(revisions.c.visible_from.is_not(None), twin)
    shown = sa.or_(sa.and_(revisions.c.visible_from.is_not(None), revisions.c.visible_to.is_(None)), twin)
    kept = sa.and_(
        files.c.deleted_at.is_(None),
        files.c.swept_at.is_(None),
        sa.or_(files.c.expires_at.is_(None), files.c.expires_at > now_s),
    )
    sources = sa.select(documents.c.source_key).select_from(of_documents).where(alive, documents.c.source_key != "")
    texts = sa.select(revisions.c.text_key).select_from(of_revisions).where(alive, readable)
    keys = [sources, texts, sa.select(files.c.object_key).where(kept)]
    found = {row[0] for statement in keys for row in await connection.execute(statement)}
    indexed = sa.select(revisions.c.id, revisions.c.collection_id, revisions.c.generation, revisions.c.chunks)
    places = await _places(connection)
    by_generation = {(place.collection_id, place.generation): place for place in places}
    rows = await connection.execute(indexed.select_from(of_revisions).where(alive, shown).order_by(revisions.c.id))
    return Needs(
        frozenset(found),
        tuple(Indexed(row.id, by_generation[row.collection_id, row.generation], row.chunks) for row in rows),
        places,
    )


async def _places(connection: AsyncConnection) -> dict[Place, int]:
    living = collections.c.deleted_at.is_(None)
    there = sa.select(collections.c.id, collections.c.pool, collections.c.generation, collections.c.dimensions)
    found = {
        Place(row.id, row.pool, row.generation): row.dimensions for row in await connection.execute(there.where(living))
    }
    coming = sa.select(generations).join(collections, collections.c.id == generations.c.collection_id)
    for row in await connection.execute(coming.where(living, generations.c.retired_at.is_(None))):
        found[Place(row.collection_id, row.pool, row.number)] = row.dimensions
    return found
