"""Jobs: what became of the files of one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import lifecycle
from retrieval.access import live, may_read, reads_as
from retrieval.errors import JobNotFound
from retrieval.rows import fetch
from retrieval.sources.errands import ErrandStatus
from retrieval.status import UNFINISHED, JobStatus, Status, of_job
from storage.redis import RedisClient
from storage.schema import documents, errands, jobs, tasks
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class JobDocument:
    """One document of a job.

    Attributes:
        progress: 0 to 1.
        error: why it failed, was cancelled, or is tried again.
    """

    id: str
    filename: str
    status: Status
    progress: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A sitemap or a prefix of a bucket, whose documents come into the job.

    Attributes:
        status: open, done, failed or cancelled.
        found: documents that it names.
        left_out: what it names besides, that is not taken in.
        error: why it failed, or is tried again.
    """

    kind: str
    address: str
    status: str
    found: int
    left_out: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """One call's documents and what they add up to."""

    id: str
    collection_id: str
    status: JobStatus
    created_at: float
    documents: list[JobDocument]
    listing: Listing | None = None


class Jobs:
    """Finds, cancels and retries a tenant's jobs."""

    def __init__(self, database: Database, redis: RedisClient, clock: Clock) -> None:
        self._database = database
        self._redis = redis
        self._clock = clock

    async def get(self, principal: Principal, job_id: str) -> Job:
        """Raises: JobNotFound."""
        statement = (
            sa.select(
                jobs.c.created_at,
                jobs.c.collection_id,
                documents.c.id,
                documents.c.filename,
                tasks.c.status,
                tasks.c.progress,
                tasks.c.error,
            )
            .select_from(jobs)
            .join(tasks, tasks.c.job_id == jobs.c.id)
            .join(documents, documents.c.id == tasks.c.document_id)
            .where(jobs.c.id == job_id, jobs.c.tenant_id == principal.tenant_id, _may_follow(principal))
            .order_by(documents.c.id)
        )

        rows = await fetch(self._database, statement)
        found = [JobDocument(row.id, row.filename, Status(row.status), row.progress, row.error) for row in rows]
        listed = await self._listing(principal, job_id)
        if not rows and listed is None:
            raise JobNotFound(job_id)
        first = rows[0] if rows else listed
        listing = None if listed is None else Listing(*listed[:6])
        status = of_job([one.status for one in found], None if listing is None else listing.status)
        return Job(job_id, first.collection_id, status, first.created_at, found, listing)

    async def _listing(self, principal: Principal, job_id: str) -> Any:
        statement = (
            sa.select(
                errands.c.kind,
                errands.c.address,
                errands.c.status,
                errands.c.found,
                errands.c.left_out,
                errands.c.error,
                jobs.c.collection_id,
                jobs.c.created_at,
            )
            .join(jobs, jobs.c.id == errands.c.job_id)
            .where(_list_of(principal, job_id))
        )
        rows = await fetch(self._database, statement)
        return rows[0] if rows else None

    async def cancel(self, principal: Principal, job_id: str) -> Job:
        """End what is unfinished; documents that are ready stay. Returns: the job as it is then.

        Raises: JobNotFound.
        """

        async def end(connection: AsyncConnection) -> None:
            now_s = self._clock.time()
            await _hold(connection, principal, job_id)
            unfinished = (
                sa.select(tasks.c.document_id)
                .join(jobs, jobs.c.id == tasks.c.job_id)
                .join(documents, documents.c.id == tasks.c.document_id)
                .where(tasks.c.job_id == job_id, tasks.c.status.in_(UNFINISHED), _may_follow(principal))
                .with_for_update(of=tasks)  # or one that just ends would be called cancelled
            )
            ids = (await connection.execute(unfinished)).scalars().all()
            theirs = sa.and_(tasks.c.job_id == job_id, tasks.c.document_id.in_(ids))
            await lifecycle.cancel_tasks(connection, theirs, now_s, None)
            for document_id in ids:
                await lifecycle.give_up(connection, document_id, now_s)
                await connection.execute(
                    documents.update()
                    .where(documents.c.id == document_id)
                    .values(status=Status.CANCELLED, updated_at=now_s)
                )
            await connection.execute(
                errands.update()
                .where(_list_of(principal, job_id), errands.c.status == ErrandStatus.OPEN)
                .values(status=ErrandStatus.CANCELLED, fence=errands.c.fence + 1, worker=None, lease_until=None)
            )
            await connection.execute(
                jobs.update().where(jobs.c.id == job_id, jobs.c.cancelled_at.is_(None)).values(cancelled_at=now_s)
            )

        await self._database.write(end)
        return await self.get(principal, job_id)

    async def retry(self, principal: Principal, job_id: str) -> Job:
        """Queue anew what failed or was cancelled, unless the document was deleted or has a newer upload.

        Returns: the job as it is then.

        Raises: JobNotFound.
        """

        async def queue(connection: AsyncConnection) -> None:
            now_s = self._clock.time()
            await _hold(connection, principal, job_id)
            newer = tasks.alias()
            later = sa.exists().where(
                newer.c.document_id == tasks.c.document_id, newer.c.created_at > tasks.c.created_at, ~newer.c.refresh
            )
            ended = (
                sa.select(tasks.c.document_id)
                .join(jobs, jobs.c.id == tasks.c.job_id)
                .join(documents, documents.c.id == tasks.c.document_id)
                .where(
                    tasks.c.job_id == job_id,
                    jobs.c.tenant_id == principal.tenant_id,
                    tasks.c.status.in_((Status.FAILED, Status.CANCELLED)),
                    live(now_s),
                    _may_follow(principal),
                    ~later,
                )
            )
            ids = (await connection.execute(ended)).scalars().all()
            await connection.execute(
                tasks.update()
                .where(tasks.c.job_id == job_id, tasks.c.document_id.in_(ids))
                .values(
                    status=Status.QUEUED, progress=0.0, error=None, attempts=0, fence=tasks.c.fence + 1, due=now_s,
                    finished_at=None,
                )
            )  # fmt: skip
            about = {"status": Status.QUEUED, "error": None, "updated_at": now_s}
            await connection.execute(documents.update().where(documents.c.id.in_(ids)).values(about))
            await _fetch_again(connection, principal, job_id, ids)
            await connection.execute(jobs.update().where(jobs.c.id == job_id).values(told_at=None))

        await self.get(principal, job_id)
        await self._database.write(queue)
        await self._redis.nudge_ingestion()
        return await self.get(principal, job_id)


async def _hold(connection: AsyncConnection, principal: Principal, job_id: str) -> None:
    """Lock a job's collection and its errands, which come before tasks and documents. Raises: JobNotFound."""
    owned = sa.select(jobs.c.collection_id).where(jobs.c.id == job_id, jobs.c.tenant_id == principal.tenant_id)
    collection_id = (await connection.execute(owned)).scalar_one_or_none()
    if collection_id is None:
        raise JobNotFound(job_id)
    await lifecycle.lock_collection_by_id(connection, collection_id)
    theirs = sa.select(errands.c.id).where(errands.c.job_id == job_id)
    await connection.execute(theirs.with_for_update())


async def _fetch_again(
    connection: AsyncConnection, principal: Principal, job_id: str, document_ids: Sequence[str]
) -> None:
    """Send errands out again that did not end well, those of lists too; their documents wait for them."""
    undone = errands.c.status != ErrandStatus.DONE
    pages = sa.and_(errands.c.job_id == job_id, errands.c.document_id.in_(document_ids), undone)
    waiting = (await connection.execute(sa.select(errands.c.document_id).where(pages))).scalars().all()
    again = {"status": ErrandStatus.OPEN, "error": None, "attempts": 0, "not_before": 0.0, "fence": errands.c.fence + 1}
    lists = sa.and_(_list_of(principal, job_id), undone)
    await connection.execute(errands.update().where(sa.or_(pages, lists)).values(**again))
    theirs = sa.and_(tasks.c.job_id == job_id, tasks.c.document_id.in_(waiting))
    await connection.execute(tasks.update().where(theirs).values(status=Status.FETCHING))
    await connection.execute(documents.update().where(documents.c.id.in_(waiting)).values(status=Status.FETCHING))


def _list_of(principal: Principal, job_id: str) -> sa.ColumnElement[bool]:
    """The job's list, if it is the caller's own job, or the caller may read everything."""
    whose = sa.select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.tenant_id == principal.tenant_id)
    if reads_as(principal) is not None:
        whose = whose.where(jobs.c.creator == (principal.user_id or principal.key_id or ""))
    return sa.and_(errands.c.job_id == whose.scalar_subquery(), errands.c.document_id.is_(None))


def _may_follow(principal: Principal) -> sa.ColumnElement[bool]:
    """Of a job's documents, those that the caller may read, or all if it is the caller's own job."""
    return sa.or_(may_read(reads_as(principal)), jobs.c.creator == (principal.user_id or principal.key_id or ""))
