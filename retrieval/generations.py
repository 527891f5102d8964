"""Generations of a collection's index: the next one is made beside the one that answers, and takes its place at once.

A reindex begins a generation and queues a twin of every visible revision. Whatever happens to documents meanwhile goes
on in the generation that answers, and the twins follow (`retrieval.twins`). When none is lacking, one transaction makes
the twins visible and everything else of the generation with them, so that a reader pins all of the old or all of the
new. Whoever pinned the old one before goes on there until the sweep drops it. What is wanting is asked of the catalog
each time, never remembered: a worker that is killed anywhere costs nothing but time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.ids import new_id
from monitoring.logs import logger
from retrieval import lifecycle, twins
from retrieval.errors import ReindexNotFound, ReindexRunning
from retrieval.rows import fetch
from retrieval.status import STAGES, UNFINISHED, Status
from storage.schema import (
    collections,
    coming_frequencies,
    documents,
    generations,
    jobs,
    revision_terms,
    revisions,
    tasks,
    term_frequencies,
)
from storage.sql import Database

_log = logger(__name__)

_FOR_EACH_S = 0.5  # each twin is due so much later than the one before: what is sent meanwhile gets in between
_FEW = 20  # twins lacking: uploads wait until they are made, or a busy collection would never be through
_HOLD_S = 60.0  # at most, at a time
SWITCH_S = 60.0  # for one transaction over all documents of a collection


@dataclass(frozen=True, slots=True)
class Target:
    """What the next generation is made of."""

    embedding_space: str
    dimensions: int
    chunking: Mapping[str, Any]
    average_terms: float
    pool: str | None


async def begin(database: Database, connection: AsyncConnection, collection: Any, target: Target, now_s: float) -> None:
    """Begin a generation, and queue a twin of all that is visible; an empty collection has it at once.

    Args:
        collection: its row, locked.

    Raises: ReindexRunning.
    """
    if await twins.being_made(connection, collection.id) is not None:
        raise ReindexRunning(collection.name)
    highest = sa.select(sa.func.max(generations.c.number)).where(generations.c.collection_id == collection.id)
    number = max((await connection.execute(highest)).scalar_one() or 0, collection.generation) + 1
    await connection.execute(
        generations.insert().values(
            collection_id=collection.id,
            number=number,
            embedding_space=target.embedding_space,
            dimensions=target.dimensions,
            chunking=dict(target.chunking),
            average_terms=target.average_terms,
            pool=target.pool,
            created_at=now_s,
        )
    )
    await _go_on(database, connection, collection.id, now_s)


async def cancel(connection: AsyncConnection, collection: Any, now_s: float) -> None:
    """Give up the generation that is being made; the sweep deletes its rows.

    Args:
        collection: its row, locked.

    Raises: ReindexNotFound: none is being made.
    """
    made = await twins.being_made(connection, collection.id)
    if made is None:
        raise ReindexNotFound(collection.name)
    await connection.execute(generations.update().where(_is(made)).values(retired_at=now_s))
    await lifecycle.cancel_tasks(connection, _tasks_for(made), now_s, "the reindex was cancelled")
    begun = sa.and_(
        revisions.c.collection_id == collection.id,
        revisions.c.generation == made.number,
        revisions.c.visible_from.is_(None),
        revisions.c.retired_at.is_(None),
    )
    await connection.execute(revisions.update().where(begun).values(retired_at=now_s))
    await _forget_counts(connection, collection.id)


async def retry(connection: AsyncConnection, collection: Any, now_s: float) -> int:
    """Queue anew what failed. Returns: how many. Raises: ReindexNotFound: no generation is being made."""
    made = await twins.being_made(connection, collection.id)
    if made is None:
        raise ReindexNotFound(collection.name)
    result = await connection.execute(
        tasks.update()
        .where(_tasks_for(made), tasks.c.status == Status.FAILED)
        .values(status=Status.QUEUED, progress=0.0, error=None, attempts=0, due=now_s, finished_at=None)
    )
    return result.rowcount


async def advance(database: Database, clock: Clock) -> int:
    """Queue the twins that generations lack, and switch to those that lack none. Returns: how many answer now.

    Raises: DependencyError: SQL is away, or was for one of them; the others have gone on.
    """
    switched = 0
    failed: Exception | None = None
    for made in await fetch(database, sa.select(generations).where(generations.c.retired_at.is_(None))):
        if await fetch(database, _unfinished(made)) or await _is_stuck(database, made):
            continue

        async def go_on(connection: AsyncConnection) -> bool:
            return await _go_on(database, connection, made.collection_id, clock.time())  # noqa: B023

        try:
            if await database.write(go_on, SWITCH_S):
                switched += 1
                _log.info("a new index answers", collection=made.collection_id, generation=made.number)
        except Exception as error:  # the next collection's is tried all the same
            failed = error
            _log.warning("a reindex could not go on", collection=made.collection_id, reason=str(error))
    if failed is not None:
        raise failed
    return switched


async def _go_on(database: Database, connection: AsyncConnection, collection_id: str, now_s: float) -> bool:
    """Queue what the generation lacks. Returns: whether it lacked nothing, and answers now."""
    locked = sa.select(collections).where(collections.c.id == collection_id).with_for_update()
    collection = (await connection.execute(locked)).one()
    made = await twins.being_made(connection, collection_id)
    if made is None or (await connection.execute(_unfinished(made))).first() is not None:
        return False
    lacking = _lacking(made)
    if (await connection.execute(sa.select(documents.c.id).where(lacking).limit(1))).first() is None:
        await _switch(database, connection, collection, made, now_s)
        return True
    queued = await _queue(connection, collection, made, sa.and_(lacking, ~_failed(made)), now_s)
    # Where only failed ones are lacking, it is an upload that they may be waiting for.
    if queued <= _FEW:
        hold_until = now_s + _HOLD_S if queued else None
        await connection.execute(generations.update().where(_is(made)).values(hold_until=hold_until))
    return False


async def _queue(
    connection: AsyncConnection, collection: Any, made: Any, which: sa.ColumnElement[bool], now_s: float
) -> int:
    """Queue a twin of each of these documents, in one job. Returns: how many."""
    if (await connection.execute(sa.select(documents.c.id).where(which).limit(1))).first() is None:
        return 0
    job_id = new_id("job")
    owner = {"tenant_id": collection.tenant_id, "collection_id": collection.id}
    await connection.execute(jobs.insert().values(id=job_id, created_at=now_s, told_at=now_s, **owner))
    place = sa.func.row_number().over(order_by=documents.c.id) - 1
    rows = sa.select(
        sa.literal(job_id),
        documents.c.id,
        sa.literal(Status.QUEUED.value),
        sa.literal(True),
        sa.literal(made.number),
        sa.literal(now_s),
        sa.literal(now_s) + place * _FOR_EACH_S,
    ).where(which)
    names = ["job_id", "document_id", "status", "refresh", "generation", "created_at", "due"]
    return (await connection.execute(tasks.insert().from_select(names, rows))).rowcount


async def _switch(database: Database, connection: AsyncConnection, collection: Any, made: Any, now_s: float) -> None:
    """Let a generation answer in which every visible revision has its twin."""
    version = collection.version + 1
    # Before any document, as workers do; `_begin_anew` changes them.
    await connection.execute(sa.select(tasks.c.job_id).where(_leased(collection)).with_for_update())
    theirs = visible(collection.id)
    old = sa.select(documents.c.revision_id).where(theirs)
    await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id.in_(old)))
    await connection.execute(
        revisions.update().where(revisions.c.id.in_(old)).values(visible_to=version, retired_at=now_s)
    )
    twin, before = revisions.alias("twin"), revisions.alias("before")
    waiting = sa.and_(
        twin.c.twin_of == documents.c.revision_id,
        twin.c.generation == made.number,
        twin.c.ready_at.is_not(None),
        twin.c.retired_at.is_(None),
    )
    # Metadata or readers may have changed since the twin's rows, or the old ones, were written.
    differs = (
        sa.select(twin.c.id)
        .join(before, before.c.id == twin.c.twin_of)
        .where(waiting, sa.func.coalesce(before.c.said, "") != sa.func.coalesce(twin.c.said, ""))
    )
    await connection.execute(
        documents.update()
        .where(theirs)
        .values(
            stale=sa.or_(documents.c.stale, differs.exists()),
            version=documents.c.version + 1,
            revision_id=sa.select(twin.c.id).where(waiting).scalar_subquery(),
        )
    )
    number = sa.select(documents.c.version).where(documents.c.id == revisions.c.document_id).scalar_subquery()
    await connection.execute(
        revisions.update()
        .where(revisions.c.id.in_(old))  # who is visible now
        .values(visible_from=version, number=number, twin_of=None)
    )
    await _exchange_counts(database, connection, collection.id)
    await _begin_anew(connection, collection, now_s)
    await lifecycle.cancel_tasks(connection, _tasks_for(made), now_s, "the collection has been indexed anew")
    await connection.execute(generations.delete().where(_is(made)))
    await connection.execute(
        generations.insert().values(
            collection_id=collection.id,
            number=collection.generation,
            embedding_space=collection.embedding_space,
            dimensions=collection.dimensions,
            chunking=collection.chunking,
            average_terms=collection.average_terms,
            pool=collection.pool,
            created_at=made.created_at,
            retired_at=now_s,
        )
    )
    await connection.execute(
        collections.update()
        .where(collections.c.id == collection.id)
        .values(
            version=version,
            generation=made.number,
            embedding_space=made.embedding_space,
            dimensions=made.dimensions,
            chunking=made.chunking,
            average_terms=made.average_terms,
            pool=made.pool,
            chunks=made.chunks,
            terms=made.terms,
        )
    )


async def _exchange_counts(database: Database, connection: AsyncConnection, collection_id: str) -> None:
    """Let the coming statistics take the place of those in force; where the cutting is the same, so are they."""
    there, coming = term_frequencies.c, coming_frequencies.c
    theirs = sa.and_(coming.collection_id == collection_id, coming.chunks > 0)
    kept = sa.select(coming.term).where(theirs, coming.term == there.term)
    await connection.execute(term_frequencies.delete().where(there.collection_id == collection_id, ~kept.exists()))
    same = sa.select(there.term).where(
        there.collection_id == collection_id, there.term == coming.term, there.chunks == coming.chunks
    )
    new = sa.select(coming.collection_id, coming.term, coming.chunks).where(theirs, ~same.exists())
    insert = database.upsert(term_frequencies).from_select(["collection_id", "term", "chunks"], new)
    await connection.execute(
        insert.on_conflict_do_update(
            index_elements=[there.collection_id, there.term], set_={"chunks": insert.excluded.chunks}
        )
    )
    await _forget_counts(connection, collection_id)


def _leased(collection: Any) -> sa.ColumnElement[bool]:
    """The clause that holds for tasks of documents of the collection that workers are at, in the index that answers."""
    theirs = sa.select(documents.c.id).where(documents.c.collection_id == collection.id)
    return sa.and_(tasks.c.document_id.in_(theirs), tasks.c.generation.is_(None), tasks.c.status.in_(STAGES))


async def _begin_anew(connection: AsyncConnection, collection: Any, now_s: float) -> None:
    """Hand back uploads that workers are at: what they have written is in the old generation."""
    leased = _leased(collection)
    uploads = sa.select(tasks.c.document_id).where(leased, ~tasks.c.refresh)
    await connection.execute(
        documents.update().where(documents.c.id.in_(uploads)).values(status=Status.QUEUED, error=None)
    )
    await connection.execute(
        tasks.update()
        .where(leased)
        .values(
            status=Status.QUEUED,
            progress=0.0,
            attempts=tasks.c.attempts - 1,
            fence=tasks.c.fence + 1,
            worker=None,
            lease_until=None,
        )
    )
    begun = sa.and_(
        revisions.c.collection_id == collection.id,
        revisions.c.generation == collection.generation,
        revisions.c.visible_from.is_(None),
        revisions.c.retired_at.is_(None),
    )
    await connection.execute(revisions.update().where(begun).values(retired_at=now_s))


def visible(collection_id: str) -> sa.ColumnElement[bool]:
    """The clause that holds for a collection's documents that have a visible revision."""
    return sa.and_(
        documents.c.collection_id == collection_id,
        documents.c.revision_id.is_not(None),
        documents.c.deleted_at.is_(None),
    )


async def _is_stuck(database: Database, made: Any) -> bool:
    """Whether only twins are lacking that have failed; then no write lock is taken in vain."""
    if made.hold_until is not None:
        return False
    lacking = sa.select(documents.c.id).where(_lacking(made)).limit(1)
    return bool(await fetch(database, lacking)) and not await fetch(database, lacking.where(~_failed(made)))


def _lacking(made: Any) -> sa.ColumnElement[bool]:
    """The clause that holds for visible documents that have no twin in a generation."""
    twin = sa.select(revisions.c.id).where(twins.ready(documents.c.revision_id, made.number))
    return sa.and_(visible(made.collection_id), ~twin.exists())


def _failed(made: Any) -> sa.ColumnElement[bool]:
    """The clause that holds for documents whose twin could not be made."""
    tried = sa.select(tasks.c.job_id).where(
        tasks.c.document_id == documents.c.id, tasks.c.generation == made.number, tasks.c.status == Status.FAILED
    )
    return tried.exists()


def _is(made: Any) -> sa.ColumnElement[bool]:
    return sa.and_(generations.c.collection_id == made.collection_id, generations.c.number == made.number)


def _tasks_for(made: Any) -> sa.ColumnElement[bool]:
    """The clause that holds for tasks that make twins for a generation."""
    theirs = sa.select(jobs.c.id).where(jobs.c.collection_id == made.collection_id)
    return sa.and_(tasks.c.generation == made.number, tasks.c.job_id.in_(theirs))


def _unfinished(made: Any) -> sa.Select[Any]:
    """Whether anybody waits for a twin, or is at one."""
    return sa.select(tasks.c.job_id).where(_tasks_for(made), tasks.c.status.in_(UNFINISHED)).limit(1)


async def _forget_counts(connection: AsyncConnection, collection_id: str) -> None:
    await connection.execute(coming_frequencies.delete().where(coming_frequencies.c.collection_id == collection_id))
