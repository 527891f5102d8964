"""The sweep: removes what no reader can see any more, once no reader that could is still running.

Only what the catalog has retired is touched, and every step can be repeated: a sweep that dies half-way, or runs
twice at once, does no harm.
"""

from collections import defaultdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from retrieval.index import Place
from retrieval.milvus import VectorIndex
from retrieval.rows import fetch
from storage.objects import ObjectStore
from storage.schema import (
    collection_prompts,
    collections,
    coming_frequencies,
    daily_evaluations,
    document_readers,
    documents,
    errands,
    evaluations,
    generations,
    jobs,
    revision_terms,
    revisions,
    tasks,
    term_frequencies,
)
from storage.sql import Database

SWEPT_AT_ONCE = 200  # revisions, documents, generations or collections in one sweep
_HANGING = (term_frequencies, coming_frequencies, collection_prompts, daily_evaluations, evaluations)
_FORGOTTEN_AT_ONCE = 500  # documents in one transaction, however many a collection has
_GONE = ""  # a deleted document's `source_key` once its file is deleted


class Sweep:
    """Deletes rows of Milvus, files and catalog entries that were retired longer ago than `grace_s`."""

    def __init__(
        self, database: Database, index: VectorIndex, objects: ObjectStore, clock: Clock, grace_s: float
    ) -> None:
        self._database = database
        self._index = index
        self._objects = objects
        self._clock = clock
        self._grace_s = grace_s

    async def run(self) -> int:
        """Sweep once. Returns: how many generations, revisions, documents and collections were removed.

        Raises: DependencyError: a part is away; the next sweep goes on.
        """
        before_s = self._clock.time() - self._grace_s
        return (
            await self._generations(before_s)
            + await self._revisions(before_s)
            + await self._documents(before_s)
            + await self._collections(before_s)
        )

    async def _generations(self, before_s: float) -> int:
        """Whole indexes that were replaced or given up; in a pool their rows go with their revisions."""
        statement = (
            sa.select(generations.c.collection_id, generations.c.number, generations.c.pool)
            .join(collections, collections.c.id == generations.c.collection_id)
            .where(
                generations.c.retired_at < before_s,
                generations.c.swept_at.is_(None),
                collections.c.deleted_at.is_(None),
            )
            .limit(SWEPT_AT_ONCE)
        )
        found = await fetch(self._database, statement)
        for row in found:
            if row.pool is None:
                await self._index.drop(Place(row.collection_id, None, row.number))
            await self._mark_generation(row.collection_id, row.number)
        return len(found)

    async def _mark_generation(self, collection_id: str, number: int) -> None:
        this = sa.and_(generations.c.collection_id == collection_id, generations.c.number == number)

        async def mark(connection: AsyncConnection) -> None:
            await connection.execute(generations.update().where(this).values(swept_at=self._clock.time()))

        await self._database.write(mark)

    async def _revisions(self, before_s: float) -> int:
        """Rows of revisions that were replaced, given up, or whose document was deleted."""
        statement = (
            sa.select(
                revisions.c.id,
                revisions.c.collection_id,
                revisions.c.generation,
                _pool_of_revision().label("pool"),
                revisions.c.text_key,
                revisions.c.visible_from,
                documents.c.deleted_at,
            )
            .join(documents, documents.c.id == revisions.c.document_id)
            .join(collections, collections.c.id == revisions.c.collection_id)
            .outerjoin(
                generations,
                sa.and_(
                    generations.c.collection_id == revisions.c.collection_id,
                    generations.c.number == revisions.c.generation,
                ),
            )
            .where(
                revisions.c.retired_at < before_s, revisions.c.swept_at.is_(None), collections.c.deleted_at.is_(None)
            )
            .limit(SWEPT_AT_ONCE)
        )
        found = await fetch(self._database, statement)
        by_place: defaultdict[Place, list[str]] = defaultdict(list)
        for row in found:
            by_place[Place(row.collection_id, row.pool, row.generation)].append(row.id)
        for place, ids in by_place.items():
            await self._index.delete_revisions(place, ids)
        for row in found:
            if row.visible_from is None:  # text that was visible once stays: citations of it can still be checked
                await self._objects.delete(row.text_key)
        ids = [row.id for row in found]

        async def mark(connection: AsyncConnection) -> None:
            await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id.in_(ids)))
            await connection.execute(
                revisions.update().where(revisions.c.id.in_(ids)).values(swept_at=self._clock.time())
            )

        if ids:
            await self._database.write(mark)
        return len(ids)

    async def _documents(self, before_s: float) -> int:
        """Files of deleted documents; the entry itself stays, since a job lists it."""
        statement = (
            sa.select(documents.c.id, documents.c.source_key)
            .where(documents.c.deleted_at < before_s, documents.c.source_key != _GONE)
            .limit(SWEPT_AT_ONCE)
        )
        found = await fetch(self._database, statement)
        ids = [row.id for row in found]
        texts = await fetch(self._database, sa.select(revisions.c.text_key).where(revisions.c.document_id.in_(ids)))
        for key in [row.source_key for row in found] + [row.text_key for row in texts]:
            await self._objects.delete(key)

        async def mark(connection: AsyncConnection) -> None:
            await connection.execute(documents.update().where(documents.c.id.in_(ids)).values(source_key=_GONE))

        if ids:
            await self._database.write(mark)
        return len(ids)

    async def _collections(self, before_s: float) -> int:
        """Deleted collections, with everything that hangs on them."""
        found = await fetch(
            self._database,
            sa.select(collections.c.id, collections.c.pool, collections.c.generation)
            .where(collections.c.deleted_at < before_s, collections.c.swept_at.is_(None))
            .limit(SWEPT_AT_ONCE),
        )
        for row in found:
            await self._index.drop(Place(row.id, row.pool, row.generation))
            others = sa.select(generations.c.pool, generations.c.number).where(
                generations.c.collection_id == row.id, generations.c.swept_at.is_(None)
            )
            for other in await fetch(self._database, others):
                await self._index.drop(Place(row.id, other.pool, other.number))
                await self._mark_generation(row.id, other.number)
            sources = await fetch(
                self._database, sa.select(documents.c.source_key).where(documents.c.collection_id == row.id)
            )
            texts = await fetch(
                self._database, sa.select(revisions.c.text_key).where(revisions.c.collection_id == row.id)
            )
            for key in [source.source_key for source in sources] + [text.text_key for text in texts]:
                if key != _GONE:
                    await self._objects.delete(key)
            await self._forget(row.id)
        return len(found)

    async def _forget(self, collection_id: str) -> None:
        """In lots: a large collection's rows would take longer than a transaction may, each time anew."""
        while await self._forget_some(collection_id):
            pass
        await self._forget_rest(collection_id)

    async def _forget_some(self, collection_id: str) -> bool:
        """Delete some documents of a collection and all that hangs on them. Returns: whether there may be more."""
        first = sa.select(documents.c.id).where(documents.c.collection_id == collection_id)

        async def delete(connection: AsyncConnection) -> bool:
            ids = (await connection.execute(first.limit(_FORGOTTEN_AT_ONCE))).scalars().all()
            theirs = sa.select(revisions.c.id).where(revisions.c.document_id.in_(ids))
            await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id.in_(theirs)))
            for table in (errands, tasks, document_readers, revisions):
                await connection.execute(table.delete().where(table.c.document_id.in_(ids)))
            await connection.execute(documents.delete().where(documents.c.id.in_(ids)))
            return len(ids) == _FORGOTTEN_AT_ONCE

        return await self._database.write(delete)

    async def _forget_rest(self, collection_id: str) -> None:
        """Delete what hangs on the collection alone, and documents that were still on their way into it."""
        theirs = sa.select(revisions.c.id).where(revisions.c.collection_id == collection_id)
        kept = sa.select(documents.c.id).where(documents.c.collection_id == collection_id)
        owned = sa.select(jobs.c.id).where(jobs.c.collection_id == collection_id)

        async def delete(connection: AsyncConnection) -> None:
            await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id.in_(theirs)))
            await connection.execute(errands.delete().where(errands.c.job_id.in_(owned)))
            await connection.execute(tasks.delete().where(tasks.c.job_id.in_(owned)))
            await connection.execute(document_readers.delete().where(document_readers.c.document_id.in_(kept)))
            for table in (*_HANGING, revisions, jobs, documents):
                await connection.execute(table.delete().where(table.c.collection_id == collection_id))
            await connection.execute(
                collections.update()
                .where(collections.c.id == collection_id)
                .values(description="", metadata={}, answers={}, prompt_version=0, swept_at=self._clock.time())
            )

        await self._database.write(delete)


def _pool_of_revision() -> sa.ColumnElement[str | None]:
    """The pool in which a revision's rows are, out of its collection's row and its generation's."""
    answers = revisions.c.generation == collections.c.generation
    return sa.case((answers, collections.c.pool), else_=generations.c.pool)
