"""The end of collections that nobody has used for as long as they last: uses are noted, and the sweep empties them."""

import contextlib
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.dependency import DependencyError
from monitoring.logs import logger
from retrieval import generations, lifecycle, twins
from retrieval.life import DAY_S, Life
from retrieval.rows import fetch
from storage.schema import collections, documents, revision_terms, revisions, tasks, term_frequencies
from storage.sql import Database

_log = logger(__name__)

_AT_ONCE = 20


async def note_use(database: Database, collection_id: str, life: Life, now_s: float) -> None:
    """Note that a collection is being used, if that has not just been noted.

    A search does not fail because this can't be written: with SQL away it would not have come so far, and with SQL
    busy the next use is noted.
    """
    if not life.is_to_be_noted(now_s):
        return
    still = sa.and_(collections.c.id == collection_id, collections.c.expired_at.is_(None))

    async def write(connection: AsyncConnection) -> None:
        await connection.execute(collections.update().where(still).values(used_at=now_s))

    with contextlib.suppress(DependencyError):
        await database.write(write)


async def end_unused(database: Database, clock: Clock) -> int:
    """Empty the collections whose time is up; nobody finds anything in them as it is. Returns: how many.

    Raises: DependencyError: SQL is away.
    """
    over = sa.select(collections.c.id).where(
        collections.c.expires_after_days.is_not(None),
        collections.c.expired_at.is_(None),
        collections.c.deleted_at.is_(None),
        collections.c.used_at + collections.c.expires_after_days * DAY_S <= clock.time(),
    )
    ended = 0
    for row in await fetch(database, over.limit(_AT_ONCE)):

        async def end(connection: AsyncConnection) -> bool:
            locked = over.with_only_columns(*collections.c).where(collections.c.id == row.id)  # noqa: B023
            collection = (await connection.execute(locked.with_for_update())).one_or_none()
            if collection is None:  # somebody has used it, or was faster
                return False
            await _empty(connection, collection, clock.time())
            return True

        if await database.write(end, generations.SWITCH_S):
            ended += 1
            _log.info("a collection has expired", collection=row.id)
    return ended


async def _empty(connection: AsyncConnection, collection: Any, now_s: float) -> None:
    """Delete all documents of a collection for every reader that begins from now on, and end the work on them."""
    if await twins.being_made(connection, collection.id) is not None:
        await generations.cancel(connection, collection, now_s)
    version = collection.version + 1
    living = sa.and_(documents.c.collection_id == collection.id, documents.c.deleted_at.is_(None))
    ids = sa.select(documents.c.id).where(living)
    await lifecycle.cancel_tasks(connection, tasks.c.document_id.in_(ids), now_s, "the vector store has expired")
    theirs = sa.and_(revisions.c.collection_id == collection.id, revisions.c.retired_at.is_(None))
    seen = sa.case((revisions.c.visible_from.is_not(None), version), else_=revisions.c.visible_to)
    open_ids = sa.select(revisions.c.id).where(theirs)
    await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id.in_(open_ids)))
    await connection.execute(revisions.update().where(theirs).values(visible_to=seen, retired_at=now_s))
    await connection.execute(term_frequencies.delete().where(term_frequencies.c.collection_id == collection.id))
    await connection.execute(documents.update().where(living).values(deleted_at=now_s))
    ended = {"version": version, "chunks": 0, "terms": 0, "expired_at": now_s}
    await connection.execute(collections.update().where(collections.c.id == collection.id).values(ended))
