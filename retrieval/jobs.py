"""Jobs: what became of the files of one call."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import lifecycle
from retrieval.errors import JobNotFound
from retrieval.rows import fetch
from retrieval.status import UNFINISHED, JobStatus, Status, of_job
from storage.schema import documents, jobs, tasks
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
class Job:
    """One call's documents and what they add up to."""

    id: str
    status: JobStatus
    created_at: float
    documents: list[JobDocument]


class Jobs:
    """Finds and cancels a tenant's jobs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, principal: Principal, job_id: str) -> Job:
        """Raises: JobNotFound."""
        statement = (
            sa.select(
                jobs.c.created_at, documents.c.id, documents.c.filename, tasks.c.status, tasks.c.progress, tasks.c.error
            )
            .select_from(jobs)
            .join(tasks, tasks.c.job_id == jobs.c.id)
            .join(documents, documents.c.id == tasks.c.document_id)
            .where(jobs.c.id == job_id, jobs.c.tenant_id == principal.tenant_id)
            .order_by(documents.c.id)
        )

        rows = await fetch(self._database, statement)
        if not rows:
            raise JobNotFound(job_id)
        found = [JobDocument(row.id, row.filename, Status(row.status), row.progress, row.error) for row in rows]
        return Job(job_id, of_job([document.status for document in found]), rows[0].created_at, found)

    async def cancel(self, principal: Principal, job_id: str) -> Job:
        """End what is unfinished; documents that are ready stay. Returns: the job as it is then.

        Raises: JobNotFound.
        """

        async def end(connection: AsyncConnection) -> None:
            now_s = self._clock.time()
            owned = sa.select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.tenant_id == principal.tenant_id)
            if (await connection.execute(owned)).one_or_none() is None:
                raise JobNotFound(job_id)
            unfinished = sa.select(tasks.c.document_id).where(tasks.c.job_id == job_id, tasks.c.status.in_(UNFINISHED))
            ids = (await connection.execute(unfinished)).scalars().all()
            await lifecycle.cancel_tasks(connection, tasks.c.job_id == job_id, now_s, None)
            for document_id in ids:
                await lifecycle.give_up(connection, document_id, now_s)
                await connection.execute(
                    documents.update()
                    .where(documents.c.id == document_id)
                    .values(status=Status.CANCELLED, updated_at=now_s)
                )
            await connection.execute(
                jobs.update().where(jobs.c.id == job_id, jobs.c.cancelled_at.is_(None)).values(cancelled_at=now_s)
            )

        await self._database.write(end)
        return await self.get(principal, job_id)
