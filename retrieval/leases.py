"""Who works at which document: leases with a fence, kept in SQL.

A lease is a task's fence number. Everything a worker writes about its task names it, and is refused once the fence
has moved on: because the lease ran out, the job was cancelled, or the document was deleted. A worker that slept
through all of it (a zombie) is therefore harmless.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.reach import Reach
from monitoring import metrics
from monitoring.logs import logger
from retrieval import bm25, lifecycle
from retrieval.access import readers_of
from retrieval.errors import LeaseLost
from retrieval.index import Place
from retrieval.rows import fetch
from retrieval.status import STAGES, Fault, Status
from storage.schema import collections, documents, generations, revision_terms, revisions, tasks, tenants
from storage.silence import Silence
from storage.sql import Database

_log = logger(__name__)

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Made:
    """What a document's visible revision is made with."""

    embedding_space: str
    chunking: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """One document, held by one worker until the fence moves on.

    Attributes:
        attempt: counted from 1.
        reach: where text of the collection, and of its tenant, may go.
        metadata, readers: what the rows will say of the document.
        revision_id: the visible one, whose vectors may be used again; None: there is none.
        refresh: the document itself has not changed, and shows nothing of this work.
        generation: of the index that the rows are for; space and all that follow are its own.
        chunking: the document's own, else that of the generation.
        twin_from: a twin of the visible revision is to be made for a generation that does not answer yet, and this is
            what the visible one is made with; None: it is for the one that answers.
    """

    job_id: str
    document_id: str
    fence: int
    attempt: int
    tenant_id: str
    reach: Reach
    filename: str
    media_type: str
    source_key: str
    sha256: str
    revision_id: str | None
    refresh: bool
    metadata: dict[str, Any]
    readers: list[str]
    collection_id: str
    generation: int
    pool: str | None
    embedding_space: str
    dimensions: int
    average_terms: float
    language: str
    chunking: dict[str, Any]
    twin_from: Made | None = None

    @property
    def place(self) -> Place:
        return Place(self.collection_id, self.pool, self.generation)


class Leases:
    """Takes, renews and ends leases for one worker."""

    def __init__(self, database: Database, clock: Clock, worker: str, lease_s: float, max_attempts: int) -> None:
        self._database = database
        self._clock = clock
        self._worker = worker
        self._lease_s = lease_s
        self._max_attempts = max_attempts

    async def acquire(self) -> Lease | None:
        """Take the oldest waiting document; None when none waits. Raises: DependencyError: SQL is away."""
        return await self._database.write(self._acquire)

    async def renew(self, lease: Lease) -> None:
        """Raises: LeaseLost; DependencyError: SQL is away."""
        await self._fenced(lease, {"lease_until": self._clock.time() + self._lease_s})

    async def progress(self, lease: Lease, stage: Status, share: float) -> None:
        """Say how far it is, and renew.

        Args:
            share: of the whole way, 0 to 1.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        until = self._clock.time() + self._lease_s
        await self._fenced(lease, {"status": stage, "progress": share, "lease_until": until}, document=stage)

    async def start(self, lease: Lease, revision: lifecycle.NewRevision) -> None:
        """Write the attempt's revision down, invisible. Raises: LeaseLost; DependencyError: SQL is away."""

        async def add(connection: AsyncConnection) -> None:
            await lifecycle.start(connection, revision, self._clock.time())

        await self._fenced(lease, {"lease_until": self._clock.time() + self._lease_s}, also=add, whole=True)

    async def visible(self, lease: Lease) -> lifecycle.NewRevision:
        """The document's visible revision. Raises: LeaseLost: it has none any more; DependencyError: SQL is away."""
        statement = (
            sa.select(revisions, revision_terms.c.terms.label("frequencies"))
            .join(documents, documents.c.revision_id == revisions.c.id)
            .join(revision_terms, revision_terms.c.revision_id == revisions.c.id)
            .where(documents.c.id == lease.document_id, documents.c.deleted_at.is_(None))
        )
        rows = await fetch(self._database, statement)
        if not rows:
            raise LeaseLost("the document was deleted")
        (row,) = rows
        return lifecycle.NewRevision(
            id=row.id,
            document_id=row.document_id,
            collection_id=row.collection_id,
            text_key=row.text_key,
            pages=tuple((page, start, end) for page, start, end in row.pages),
            characters=row.characters,
            chunks=row.chunks,
            terms=row.terms,
            frequencies=row.frequencies,
            fingerprint=row.fingerprint or "",
            said=row.said or "",
            form=row.form,
            generation=row.generation,
        )

    async def publish(self, lease: Lease, revision_id: str) -> None:
        """Finish: make the revision visible, or a twin ready, in one transaction with the task's end.

        Raises: LeaseLost: nothing became visible; DependencyError: SQL is away.
        """

        async def show(connection: AsyncConnection) -> None:
            if lease.twin_from is not None:
                await lifecycle.finish_twin(
                    self._database, connection, lease.collection_id, revision_id, self._clock.time()
                )
                return
            await lifecycle.publish(self._database, connection, lease.job_id, revision_id, self._clock.time())

        await self._fenced(lease, self._ended(Status.READY) | {"progress": 1.0, "error": None}, also=show, whole=True)

    async def fail(self, lease: Lease, reason: str, fault: Fault = Fault.SERVER) -> None:
        """Finish without success; an earlier version of the document stays visible.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        await self._fenced(
            lease, self._ended(Status.FAILED) | {"error": reason}, Status.FAILED, reason, self._drop(lease), fault
        )

    async def retry(self, lease: Lease, reason: str) -> Status:
        """Hand a document back after a failed attempt; the last attempt's failure is final.

        Returns: `QUEUED` or `FAILED`.
        """
        if lease.attempt >= self._max_attempts:
            await self.fail(lease, f"{reason} (after {lease.attempt} attempts)")
            return Status.FAILED
        await self._fenced(lease, self._waiting() | {"error": reason}, Status.QUEUED, reason, self._drop(lease))
        return Status.QUEUED

    async def release(self, lease: Lease) -> None:
        """Hand a document back that nothing is wrong with: the worker is ending. The attempt doesn't count.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        values = self._waiting() | {"attempts": tasks.c.attempts - 1}
        await self._fenced(lease, values, Status.QUEUED, None, self._drop(lease))

    async def _acquire(self, connection: AsyncConnection) -> Lease | None:
        held = (
            sa.select(generations.c.number)
            .join(documents, documents.c.collection_id == generations.c.collection_id)
            .where(
                documents.c.id == tasks.c.document_id,
                generations.c.retired_at.is_(None),
                generations.c.hold_until > self._clock.time(),
            )
        )
        waiting = (
            sa.select(
                tasks.c.job_id,
                tasks.c.document_id,
                tasks.c.fence,
                tasks.c.attempts,
                tasks.c.metadata,
                tasks.c.refresh,
                tasks.c.generation,
            )
            .where(tasks.c.status == Status.QUEUED, sa.or_(tasks.c.generation.is_not(None), ~held.exists()))
            .order_by(tasks.c.due, tasks.c.job_id, tasks.c.document_id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        task = (await connection.execute(waiting)).one_or_none()
        if task is None:
            return None
        await connection.execute(
            tasks.update()
            .where(tasks.c.job_id == task.job_id, tasks.c.document_id == task.document_id)
            .values(
                status=Status.PARSING,
                progress=0.0,
                attempts=task.attempts + 1,
                fence=task.fence + 1,
                worker=self._worker,
                lease_until=self._clock.time() + self._lease_s,
            )
        )
        if not task.refresh:
            await connection.execute(
                documents.update().where(documents.c.id == task.document_id).values(status=Status.PARSING, error=None)
            )
        about = (
            sa.select(
                documents.c.tenant_id,
                tenants.c.reach.label("tenant_reach"),
                collections.c.reach,
                documents.c.filename,
                documents.c.media_type,
                documents.c.source_key,
                documents.c.sha256,
                documents.c.revision_id,
                documents.c.metadata,
                documents.c.acl,
                documents.c.collection_id,
                collections.c.generation,
                collections.c.pool,
                collections.c.embedding_space,
                collections.c.dimensions,
                collections.c.average_terms,
                collections.c.chunks,
                collections.c.terms,
                collections.c.language,
                collections.c.chunking,
                documents.c.chunking.label("own_chunking"),
            )
            .join(collections, collections.c.id == documents.c.collection_id)
            .join(tenants, tenants.c.id == documents.c.tenant_id)
            .where(documents.c.id == task.document_id)
        )
        row = (await connection.execute(about)).one()
        known = dict(row._mapping)
        known["average_terms"] = bm25.average_terms(row.average_terms, known.pop("chunks"), known.pop("terms"))
        known["reach"] = Reach.read(row.reach).narrowed(Reach.read(known.pop("tenant_reach")))
        known["readers"] = readers_of(known.pop("acl"))
        if task.metadata is not None:
            known["metadata"] = task.metadata
        if task.generation is not None:
            known |= await _target(connection, row, task.generation)
        own = known.pop("own_chunking")
        if own is not None:  # it holds in every generation
            known["chunking"] = own
        return Lease(task.job_id, task.document_id, task.fence + 1, task.attempts + 1, refresh=task.refresh, **known)

    async def _fenced(
        self,
        lease: Lease,
        values: dict[str, Any],
        document: Status | None = None,
        error: str | None = None,
        also: Callable[[AsyncConnection], Awaitable[None]] | None = None,
        fault: Fault | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Change the task only while its fence is the lease's, and with it the document and what `also` does.

        Args:
            whole: `also` needs the collection's row. It is locked first, as whoever deletes has it before any task.
        """

        async def change(connection: AsyncConnection) -> None:
            if whole:
                await lifecycle.lock_collection_by_id(connection, lease.collection_id)
            held = sa.and_(
                tasks.c.job_id == lease.job_id,
                tasks.c.document_id == lease.document_id,
                tasks.c.fence == lease.fence,
                tasks.c.status.in_(STAGES),
            )
            if (await connection.execute(tasks.update().where(held).values(values))).rowcount != 1:
                raise LeaseLost(f"the lease on {lease.document_id} was taken back")
            if document is not None and not lease.refresh:
                about = {"status": document, "error": error, "fault": fault, "updated_at": self._clock.time()}
                await connection.execute(documents.update().where(documents.c.id == lease.document_id).values(about))
            if also is not None:
                await also(connection)

        await self._database.write(change)

    def _ended(self, status: Status) -> dict[str, Any]:
        return {"status": status, "worker": None, "lease_until": None, "finished_at": self._clock.time()}

    def _waiting(self) -> dict[str, Any]:
        return {
            "status": Status.QUEUED,
            "progress": 0.0,
            "worker": None,
            "lease_until": None,
            "fence": tasks.c.fence + 1,
        }

    def _drop(self, lease: Lease) -> Callable[[AsyncConnection], Awaitable[None]]:
        async def drop(connection: AsyncConnection) -> None:
            await lifecycle.give_up(
                connection, lease.document_id, self._clock.time(), of_twins=lease.twin_from is not None
            )

        return drop


def _made_with(row: Any) -> Made:
    """What the visible revision was made with, where nothing newer was sent.

    Args:
        row: with a collection's space and chunking, and the document's own.
    """
    return Made(row.embedding_space, row.chunking if row.own_chunking is None else row.own_chunking)


async def _target(connection: AsyncConnection, row: Any, number: int) -> dict[str, Any]:
    """What a lease says that makes a twin for a generation, where it differs from the one that answers."""
    found = sa.select(
        generations.c.pool,
        generations.c.embedding_space,
        generations.c.dimensions,
        generations.c.average_terms,
        generations.c.chunking,
    ).where(generations.c.collection_id == row.collection_id, generations.c.number == number)
    made = (await connection.execute(found)).one()
    return {**made._mapping, "generation": number, "twin_from": _made_with(row)}


async def waiting(database: Database) -> tuple[int, float | None]:
    """Tasks that wait for a worker, and when the oldest was made, in seconds since the epoch; None: none waits.

    Raises: DependencyError: SQL is away.
    """
    query = sa.select(sa.func.count(), sa.func.min(tasks.c.created_at)).where(tasks.c.status == Status.QUEUED)

    async def look(connection: AsyncConnection) -> tuple[int, float | None]:
        count, oldest = (await connection.execute(query)).one()
        return count, oldest

    return await database.read(look)


class LostTasks:
    """Takes documents back from workers that went silent.

    Args:
        lease_s: as the workers have it.
        max_attempts: a document that silenced so many workers is failed.
    """

    def __init__(self, database: Database, clock: Clock, lease_s: float, max_attempts: int) -> None:
        held = tasks.c.status.in_(STAGES)
        self._silence = Silence(database, clock, tasks, lease_s, held=held, free=self._free)
        self._clock = clock
        self._max_attempts = max_attempts

    async def take_back(self) -> int:
        """As `Silence.take_back`. Returns: how many leases were lost. Raises: DependencyError: SQL is away."""
        taken = await self._silence.take_back()
        metrics.LEASES_EXPIRED.inc(taken)
        if taken:
            _log.warning("took documents back from silent workers", leases=taken)
        return taken

    async def _free(self, connection: AsyncConnection, task: sa.Row[Any]) -> None:
        now_s = self._clock.time()
        hopeless = task.attempts >= self._max_attempts
        status = Status.FAILED if hopeless else Status.QUEUED
        error = f"The worker stopped {task.attempts} times at this document." if hopeless else None
        await connection.execute(
            tasks.update()
            .where(tasks.c.job_id == task.job_id, tasks.c.document_id == task.document_id)
            .values(
                status=status,
                error=error,
                progress=0.0,
                worker=None,
                lease_until=None,
                fence=task.fence + 1,
                finished_at=now_s if hopeless else None,
            )
        )
        if not task.refresh:
            await connection.execute(
                documents.update()
                .where(documents.c.id == task.document_id)
                .values(status=status, error=error, fault=Fault.SERVER if hopeless else None)
            )
        await lifecycle.give_up(connection, task.document_id, now_s, of_twins=task.generation is not None)


async def end_expired(database: Database, clock: Clock) -> int:
    """Hide documents whose time is up; nobody sees them any more as it is. Returns: how many.

    Raises: DependencyError: SQL is away.
    """
    now_s = clock.time()
    over = sa.select(documents.c.id, documents.c.collection_id).where(
        documents.c.expires_at <= now_s, documents.c.deleted_at.is_(None)
    )
    found = await fetch(database, over.limit(_AT_ONCE))

    for document_id, collection_id in found:

        async def hide(connection: AsyncConnection) -> None:
            # The collection first, as whoever publishes or takes a newer version in.
            await lifecycle.lock_collection_by_id(connection, collection_id)  # noqa: B023
            still = over.where(documents.c.id == document_id)  # noqa: B023
            if (await connection.execute(still)).one_or_none() is not None:
                await lifecycle.hide_document(database, connection, document_id, now_s)  # noqa: B023

        await database.write(hide)
    return len(found)


async def refresh_stale(database: Database, clock: Clock) -> int:
    """Queue new rows for documents whose metadata or readers have changed. Returns: how many.

    Raises: DependencyError: SQL is away.
    """
    if not await fetch(database, sa.select(documents.c.id).where(documents.c.stale).limit(1)):
        return 0  # the usual case takes no write lock
    return await database.write(lambda connection: lifecycle.queue_refreshes(connection, clock.time(), _AT_ONCE))
