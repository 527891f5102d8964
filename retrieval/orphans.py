"""What belongs to nothing: found by comparing the three stores with each other, and removed.

The sweep deletes what the catalog has retired. Some things reach a store although the catalog never heard of them, or
only after it had them swept: a worker that slept through its lease writes rows and a text too late, a gateway dies
between keeping a file and noting it. Here each store is listed and the catalog asked about what it does not expect.

Nothing younger than `grace_s` is touched, since whoever writes may be about to note it: ids tell when they were made.
What is another's on the same servers stays: of collections in Milvus, only those go that the catalog knows as deleted,
or as a generation of an index that was replaced.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.ids import made_at
from retrieval.index import Place
from retrieval.milvus import VectorIndex, owner_of
from retrieval.rows import fetch
from retrieval.status import UNFINISHED, Fault, Status
from storage.objects import ObjectStore
from storage.schema import collections, documents, generations, revisions, tasks
from storage.sql import Database

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Found:
    """How many orphans there were of each kind.

    Attributes:
        sources: files that no document names.
        texts: normalised texts of no revision that anybody could still read or cite.
        revisions: with rows in Milvus, but unknown to the catalog or swept.
        collections: in Milvus, though deleted and swept; or a generation of one that was replaced and swept.
        attempts: revisions in the catalog that no worker is at any more, and that were never given up.
        documents: on their way in, but with no task that would take them there; they are failed.
    """

    sources: int = 0
    texts: int = 0
    revisions: int = 0
    collections: int = 0
    attempts: int = 0
    documents: int = 0


class Orphans:
    """Looks through everything; may run twice at once, and end half-way."""

    def __init__(
        self, database: Database, index: VectorIndex, objects: ObjectStore, clock: Clock, grace_s: float
    ) -> None:
        self._database = database
        self._index = index
        self._objects = objects
        self._clock = clock
        self._grace_s = grace_s

    async def run(self) -> Found:
        """Remove all orphans. Raises: DependencyError: a part is away; the next run goes on."""
        before_s = self._clock.time() - self._grace_s
        attempts, lost = await self._catalog(before_s)  # first: what is given up here is the sweep's to delete
        return Found(
            sources=await self._files("sources/", before_s, self._sources),
            texts=await self._files("texts/", before_s, self._texts),
            revisions=await self._rows(before_s),
            collections=await self._collections(),
            attempts=attempts,
            documents=lost,
        )

    async def _files(self, prefix: str, before_s: float, wanted: Callable[[Sequence[str]], Awaitable[set[str]]]) -> int:
        old = [key for key in await self._objects.list_keys(prefix) if _older(key, before_s)]
        count = 0
        for keys in _parts(old):
            kept = await wanted(keys)
            for key in keys:
                if key not in kept:
                    await self._objects.delete(key)
                    count += 1
        return count

    async def _sources(self, keys: Sequence[str]) -> set[str]:
        named = sa.select(documents.c.source_key).where(documents.c.source_key.in_(keys))
        return {row.source_key for row in await fetch(self._database, named)}

    async def _texts(self, keys: Sequence[str]) -> set[str]:
        """Those of documents that are there: visible now or once, or on their way."""
        readable = sa.or_(revisions.c.visible_from.is_not(None), revisions.c.swept_at.is_(None))
        named = (
            sa.select(revisions.c.text_key)
            .join(documents, documents.c.id == revisions.c.document_id)
            .where(revisions.c.text_key.in_(keys), readable, documents.c.source_key != "")
        )
        return {row.text_key for row in await fetch(self._database, named)}

    async def _rows(self, before_s: float) -> int:
        count = 0
        for place in await self._places():
            known = await self._unswept(revisions.c.collection_id == place.collection_id)
            found = await self._index.strangers(place, sorted(known))
            # Asked again: some may have been begun since.
            old = [each for each in found if _older(each, before_s)]
            strangers = set(old) - await self._unswept(revisions.c.id.in_(old))
            await self._index.delete_revisions(place, sorted(strangers))
            count += len(strangers)
        return count

    async def _places(self) -> list[Place]:
        """Where rows of living collections may be; of what was swept, only pools, in which others live on."""
        living = sa.select(collections.c.id, collections.c.pool, collections.c.generation).where(
            collections.c.deleted_at.is_(None)
        )
        others = (
            sa.select(generations.c.collection_id, generations.c.pool, generations.c.number)
            .join(collections, collections.c.id == generations.c.collection_id)
            .where(
                collections.c.deleted_at.is_(None),
                sa.or_(generations.c.swept_at.is_(None), generations.c.pool.is_not(None)),
            )
        )
        places = [Place(row.id, row.pool, row.generation) for row in await fetch(self._database, living)]
        places += [Place(row.collection_id, row.pool, row.number) for row in await fetch(self._database, others)]
        return list({(place.collection_id, place.name): place for place in places}.values())

    async def _unswept(self, which: sa.ColumnElement[bool]) -> set[str]:
        statement = sa.select(revisions.c.id).where(which, revisions.c.swept_at.is_(None))
        return {row.id for row in await fetch(self._database, statement)}

    async def _collections(self) -> int:
        there = await self._index.names()
        swept = sa.select(collections.c.id).where(collections.c.swept_at.is_not(None))
        owners = sorted({owner_of(name) for name in there})
        gone = {row.id for row in await fetch(self._database, swept.where(collections.c.id.in_(owners)))}
        replaced = sa.select(generations.c.collection_id, generations.c.number).where(
            generations.c.collection_id.in_(owners), generations.c.swept_at.is_not(None), generations.c.pool.is_(None)
        )
        left = {Place(row.collection_id, None, row.number).name for row in await fetch(self._database, replaced)}
        # A whole Milvus collection is dropped by its name, as a place of generation 0 has it.
        found = {Place(name) for name in there if owner_of(name) in gone or name in left}
        for pool in there:
            pooled = {row.id for row in await fetch(self._database, swept.where(collections.c.pool == pool))}
            once = (
                sa.select(generations.c.collection_id)
                .join(collections, collections.c.id == generations.c.collection_id)
                .where(generations.c.pool == pool, collections.c.swept_at.is_not(None))
            )
            pooled |= {row.collection_id for row in await fetch(self._database, once)}
            for ids in _parts(sorted(pooled)):
                found |= {Place(each, pool) for each in await self._index.rest_of(pool, ids)}
        for place in found:
            await self._index.drop(place)
        return len(found)

    async def _catalog(self, before_s: float) -> tuple[int, int]:
        """Give up what nobody works at. Returns: attempts, documents."""
        theirs = sa.select(tasks.c.job_id).where(tasks.c.status.in_(UNFINISHED))
        attempts = sa.and_(
            revisions.c.visible_from.is_(None),
            revisions.c.retired_at.is_(None),
            revisions.c.ready_at.is_(None),
            revisions.c.created_at < before_s,
            ~theirs.where(tasks.c.document_id == revisions.c.document_id).exists(),
        )
        lost = sa.and_(
            documents.c.status.in_(UNFINISHED),
            documents.c.deleted_at.is_(None),
            documents.c.updated_at < before_s,
            ~theirs.where(tasks.c.document_id == documents.c.id, tasks.c.generation.is_(None)).exists(),
        )
        any_attempt = sa.select(revisions.c.id).where(attempts).limit(1)
        any_lost = sa.select(documents.c.id).where(lost).limit(1)
        if not await fetch(self._database, any_attempt) and not await fetch(self._database, any_lost):
            return 0, 0  # the usual case takes no write lock
        now_s = self._clock.time()

        async def mend(connection: AsyncConnection) -> tuple[int, int]:
            given_up = await connection.execute(revisions.update().where(attempts).values(retired_at=now_s))
            about = {"status": Status.FAILED, "error": "The work on it was lost: send it again.", "updated_at": now_s}
            about["fault"] = Fault.SERVER
            failed = await connection.execute(documents.update().where(lost).values(about))
            return given_up.rowcount, failed.rowcount

        return await self._database.write(mend)


def _older(name: str, before_s: float) -> bool:
    """Whether the id at the end of a name was made before; what has no id of ours is nobody's to delete."""
    try:
        return made_at(name) < before_s
    except ValueError:
        return False


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[first : first + _AT_ONCE] for first in range(0, len(keys), _AT_ONCE))
