"""Twins: revisions that take the place of the visible ones when the generation of the index being made answers.

A twin has the text of a visible revision, cut and embedded as its generation says. It is ready when all of its rows are
there, and nobody sees it before `retrieval.generations` switches. Here they follow what happens to the documents in the
meantime. Every function runs inside the caller's transaction, which holds the collection's row.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval.errors import LeaseLost
from retrieval.status import UNFINISHED, Status
from storage.schema import coming_frequencies, documents, generations, revision_terms, revisions, tasks
from storage.sql import Database


async def being_made(connection: AsyncConnection, collection_id: str) -> Any | None:
    """The generation of a collection's index that is being made; None: no reindex is under way."""
    found = sa.select(generations).where(
        generations.c.collection_id == collection_id, generations.c.retired_at.is_(None)
    )
    return (await connection.execute(found)).one_or_none()


def ready(of: sa.ColumnElement[str], generation: int) -> sa.ColumnElement[bool]:
    """The clause that holds for the twin, ready to be shown, of a revision in a generation."""
    return sa.and_(
        revisions.c.twin_of == of,
        revisions.c.generation == generation,
        revisions.c.ready_at.is_not(None),
        revisions.c.retired_at.is_(None),
    )


async def finish(database: Database, connection: AsyncConnection, revision_id: str, now_s: float) -> None:
    """All rows of a twin are there: it waits for the switch, and the coming statistics hold its share.

    Raises: LeaseLost: it was given up, or what it is a twin of is no longer visible.
    """
    found = (
        sa.select(revisions, revision_terms.c.terms.label("frequencies"))
        .join(revision_terms, revision_terms.c.revision_id == revisions.c.id)
        .join(documents, documents.c.revision_id == revisions.c.twin_of)
        .where(
            revisions.c.id == revision_id,
            revisions.c.visible_from.is_(None),
            revisions.c.retired_at.is_(None),
            documents.c.deleted_at.is_(None),
        )
    )
    twin = (await connection.execute(found)).one_or_none()
    made = None if twin is None else await being_made(connection, twin.collection_id)
    if twin is None or made is None or made.number != twin.generation:
        raise LeaseLost("the twin was given up")
    await connection.execute(revisions.update().where(revisions.c.id == revision_id).values(ready_at=now_s))
    await _count(database, connection, twin, 1)


async def follow(
    database: Database, connection: AsyncConnection, document: Any, revision_id: str, *, same: bool, now_s: float
) -> None:
    """A document's visible revision gives way to another one, and so do its twins.

    Args:
        document: its row as it was.
        same: the new one has the same text, so a twin of the old one is a twin of the new one.
    """
    made = await being_made(connection, document.collection_id)
    if made is None:
        return
    if same:
        await connection.execute(
            revisions.update().where(ready(sa.literal(document.revision_id), made.number)).values(twin_of=revision_id)
        )
    await discard(database, connection, document, now_s)
    theirs = sa.and_(tasks.c.document_id == document.id, tasks.c.generation == made.number)
    # Whoever works at a twin works at one of the old revision: it is begun anew. A failure was that one's, too.
    await connection.execute(
        tasks.update()
        .where(theirs, tasks.c.status.in_(UNFINISHED))
        .values(status=Status.QUEUED, progress=0.0, attempts=0, fence=tasks.c.fence + 1, worker=None, lease_until=None)
    )
    await connection.execute(
        tasks.update().where(theirs, tasks.c.status == Status.FAILED).values(status=Status.CANCELLED)
    )


async def discard(database: Database, connection: AsyncConnection, document: Any, now_s: float) -> None:
    """Give up a document's twins of its visible revision, and every attempt at one.

    Args:
        document: its row.
    """
    if document.revision_id is None:
        return
    twins = sa.and_(
        revisions.c.document_id == document.id,
        revisions.c.twin_of == document.revision_id,
        revisions.c.visible_from.is_(None),
        revisions.c.retired_at.is_(None),
    )
    found = (
        sa.select(revisions, revision_terms.c.terms.label("frequencies"))
        .join(revision_terms, revision_terms.c.revision_id == revisions.c.id)
        .where(twins, revisions.c.ready_at.is_not(None))
    )
    for twin in (await connection.execute(found)).all():
        await _count(database, connection, twin, -1)
    await connection.execute(revisions.update().where(twins).values(retired_at=now_s))


async def _count(database: Database, connection: AsyncConnection, twin: Any, sign: int) -> None:
    """Add a twin's share to the coming statistics, or take it out."""
    await connection.execute(
        generations.update()
        .where(generations.c.collection_id == twin.collection_id, generations.c.number == twin.generation)
        .values(chunks=generations.c.chunks + sign * twin.chunks, terms=generations.c.terms + sign * twin.terms)
    )
    rows = [
        {"collection_id": twin.collection_id, "term": term, "chunks": sign * count}
        for term, count in twin.frequencies.items()
    ]
    if rows:
        insert = database.upsert(coming_frequencies)
        added = insert.on_conflict_do_update(
            index_elements=[coming_frequencies.c.collection_id, coming_frequencies.c.term],
            set_={"chunks": coming_frequencies.c.chunks + insert.excluded.chunks},
        )
        await connection.execute(added, rows)
