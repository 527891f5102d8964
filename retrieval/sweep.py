"""The sweep: removes what no reader can see any more, once no reader that could is still running.

Only what the catalog has retired is touched, and every step can be repeated: a sweep that dies half-way, or runs
twice at once, does no harm.
"""

from collections import defaultdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from retrieval.milvus import Place, VectorIndex
from retrieval.rows import fetch
from storage.objects import ObjectStore
from storage.schema import (
    collections,
    document_readers,
    documents,
    jobs,
    revision_terms,
    revisions,
    tasks,
    term_frequencies,
)
from storage.sql import Database

_AT_ONCE = 200
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
        """Sweep once. Returns: how many revisions, documents and collections were removed.

        Raises: DependencyError: a part is away; the next sweep goes on.
        """
        before_s = self._clock.time() - self._grace_s
        return await self._revisions(before_s) + await self._documents(before_s) + await self._collections(before_s)

    async def _revisions(self, before_s: float) -> int:
        """Rows of revisions that were replaced, given up, or whose document was deleted."""
        statement = (
            sa.select(
                revisions.c.id,
                revisions.c.collection_id,
                collections.c.pool,
                revisions.c.text_key,
                revisions.c.visible_from,
                documents.c.deleted_at,
            )
            .join(documents, documents.c.id == revisions.c.document_id)
            .join(collections, collections.c.id == revisions.c.collection_id)
            .where(
                revisions.c.retired_at < before_s, revisions.c.swept_at.is_(None), collections.c.deleted_at.is_(None)
            )
            .limit(_AT_ONCE)
        )
        found = await fetch(self._database, statement)
        by_place: defaultdict[Place, list[str]] = defaultdict(list)
        for row in found:
            by_place[Place(row.collection_id, row.pool)].append(row.id)
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
            .limit(_AT_ONCE)
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
            sa.select(collections.c.id, collections.c.pool)
            .where(collections.c.deleted_at < before_s, collections.c.swept_at.is_(None))
            .limit(_AT_ONCE),
        )
        for row in found:
            await self._index.drop(Place(row.id, row.pool))
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
        theirs = sa.select(revisions.c.id).where(revisions.c.collection_id == collection_id)
        kept = sa.select(documents.c.id).where(documents.c.collection_id == collection_id)
        owned = sa.select(jobs.c.id).where(jobs.c.collection_id == collection_id)

        async def delete(connection: AsyncConnection) -> None:
            await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id.in_(theirs)))
            await connection.execute(tasks.delete().where(tasks.c.job_id.in_(owned)))
            await connection.execute(document_readers.delete().where(document_readers.c.document_id.in_(kept)))
            for table in (term_frequencies, revisions, jobs, documents):
                await connection.execute(table.delete().where(table.c.collection_id == collection_id))
            await connection.execute(
                collections.update()
                .where(collections.c.id == collection_id)
                .values(description="", metadata={}, swept_at=self._clock.time())
            )

        await self._database.write(delete)
