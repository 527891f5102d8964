"""Finds jobs that have ended, and writes down whom that is to be told: with the job's mark, in one transaction."""

from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.hooks.events import OF_STATUS, body_of
from core.clock import Clock
from core.ids import new_id
from retrieval.rows import fetch
from retrieval.sources.errands import ErrandStatus
from retrieval.status import UNFINISHED, Status, of_job
from storage.schema import deliveries, documents, endpoints, errands, jobs, tasks
from storage.sql import Database

_AT_ONCE = 50


class Ends:
    """Looks at jobs of which nothing was told yet.

    Args:
        give_up_s: after which a delivery that nobody took is given up.
    """

    def __init__(self, database: Database, clock: Clock, give_up_s: float) -> None:
        self._database = database
        self._clock = clock
        self._give_up_s = give_up_s

    async def check(self) -> int:
        """Returns: deliveries that were written down. Raises: DependencyError: SQL is away."""
        ended = [row.id for row in await fetch(self._database, _ended().limit(_AT_ONCE))]
        return sum([await self._database.write(partial(self._tell, job_id)) for job_id in ended])

    async def _tell(self, job_id: str, connection: AsyncConnection) -> int:
        row = (await connection.execute(_ended().where(jobs.c.id == job_id).with_for_update(of=jobs))).one_or_none()
        if row is None:  # another keeper was first, or it goes on
            return 0
        now_s = self._clock.time()
        await connection.execute(jobs.update().where(jobs.c.id == job_id).values(told_at=now_s))
        live = sa.select(endpoints).where(
            endpoints.c.tenant_id == row.tenant_id,
            endpoints.c.deleted_at.is_(None),
            endpoints.c.created_at <= now_s,
        )
        told = (await connection.execute(live)).all()
        if not told:
            return 0
        found = (await connection.execute(_documents(job_id))).all()
        status = of_job([Status(one.status) for one in found], await _listing(connection, job_id))
        event = OF_STATUS[status]
        body = body_of(event, job_id, status, [_shown(one) for one in found], self._clock)
        rows = [
            {
                "id": new_id("msg"),
                "endpoint_id": endpoint.id,
                "tenant_id": row.tenant_id,
                "event": event,
                "body": body,
                "status": "waiting",
                "next_at": now_s,
                "until": now_s + self._give_up_s,
                "created_at": now_s,
            }
            for endpoint in told
            if endpoint.events is None or event in endpoint.events
        ]
        if rows:
            await connection.execute(deliveries.insert(), rows)
        return len(rows)


def _ended() -> sa.Select[Any]:
    """Jobs that have something to do and have done it, and were not told of."""
    theirs = sa.select(tasks.c.job_id).where(tasks.c.job_id == jobs.c.id)
    lists = sa.select(errands.c.id).where(errands.c.job_id == jobs.c.id, errands.c.document_id.is_(None))
    return sa.select(jobs.c.id, jobs.c.tenant_id).where(
        jobs.c.told_at.is_(None),
        ~theirs.where(tasks.c.status.in_(UNFINISHED)).exists(),
        ~lists.where(errands.c.status == ErrandStatus.OPEN).exists(),
        sa.or_(theirs.exists(), lists.exists()),
    )


def _documents(job_id: str) -> sa.Select[Any]:
    columns = (documents.c.id, documents.c.filename, tasks.c.status, tasks.c.error)
    joined = sa.select(*columns).join(tasks, tasks.c.document_id == documents.c.id)
    return joined.where(tasks.c.job_id == job_id).order_by(documents.c.id)


async def _listing(connection: AsyncConnection, job_id: str) -> str | None:
    lists = sa.select(errands.c.status).where(errands.c.job_id == job_id, errands.c.document_id.is_(None))
    return (await connection.execute(lists)).scalar_one_or_none()


def _shown(row: Any) -> dict[str, Any]:
    return {"id": row.id, "filename": row.filename, "status": row.status, "error": row.error}
