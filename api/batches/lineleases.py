"""Who sends which line: leases with a fence, kept in SQL.

A lease is a line's fence number. What a worker writes about a line names it, and is refused once the fence has moved
on, or the line was taken back from a worker that went silent: so each line has one answer, whoever else was sending it.

Locks are taken in one order, the batch before its line. Whoever takes a line holds the batch's row against being
cancelled at that moment, so once a batch is no longer in progress none of its lines is taken any more.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.batches.errors import LeaseLost
from api.batches.forms import LineUsage
from api.batches.states import LineStatus, Status, reached
from core.clock import Clock
from storage.schema import batch_lines, batches
from storage.silence import Silence
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class LineLease:
    """One line, held by one worker until the fence moves on.

    Attributes:
        attempt: counted from 1.
        key_id, user_id: in whose name it is sent: the key, or where there is none the user.
    """

    batch_id: str
    number: int
    fence: int
    attempt: int
    tenant_id: str
    key_id: str | None
    user_id: str | None
    endpoint: str
    custom_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What a line came to.

    Attributes:
        text: its line of the output or error file.
        ok: it goes to the output.
    """

    text: str
    ok: bool
    usage: LineUsage


class LineLeases:
    """Takes, renews and ends leases for one worker."""

    def __init__(self, database: Database, clock: Clock, worker: str, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._worker = worker
        self._lease_s = lease_s
        held = batch_lines.c.status == LineStatus.RUNNING
        self._silence = Silence(database, clock, batch_lines, lease_s, held=held, free=_wait_again)

    async def acquire(self, batch_ids: Sequence[str]) -> LineLease | None:
        """Take the first waiting line of the first of these batches that has one. Raises: DependencyError."""

        async def take(connection: AsyncConnection) -> LineLease | None:
            for batch_id in batch_ids:
                lease = await self._acquire(connection, batch_id)
                if lease is not None:
                    return lease
            return None

        return await self._database.write(take)

    async def _acquire(self, connection: AsyncConnection, batch_id: str) -> LineLease | None:
        now_s = self._clock.time()
        going_on = (
            sa.select(batches)
            .where(
                batches.c.id == batch_id,
                batches.c.status == Status.IN_PROGRESS,
                batches.c.not_before <= now_s,
                batches.c.expires_at > now_s,
            )
            .with_for_update(read=True)
        )
        batch = (await connection.execute(going_on)).one_or_none()
        if batch is None:
            return None
        waiting = (
            sa.select(batch_lines)
            .where(
                batch_lines.c.batch_id == batch_id,
                batch_lines.c.status == LineStatus.QUEUED,
                batch_lines.c.not_before <= now_s,
            )
            .order_by(batch_lines.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        line = (await connection.execute(waiting)).one_or_none()
        if line is None:
            return None
        await connection.execute(
            batch_lines.update()
            .where(batch_lines.c.batch_id == batch_id, batch_lines.c.number == line.number)
            .values(
                status=LineStatus.RUNNING,
                attempts=line.attempts + 1,
                fence=line.fence + 1,
                worker=self._worker,
                lease_until=now_s + self._lease_s,
            )
        )
        return LineLease(
            batch_id,
            line.number,
            line.fence + 1,
            line.attempts + 1,
            batch.tenant_id,
            batch.key_id,
            batch.user_id,
            batch.endpoint,
            line.custom_id,
            line.body,
        )

    async def renew(self, leases: Collection[LineLease]) -> set[LineLease]:
        """Hold these on. Returns: those that are still held, of batches whose lines are still wanted.

        Raises: DependencyError: SQL is away.
        """
        if not leases:
            return set()
        now_s = self._clock.time()
        wanted = sa.select(batches.c.id).where(
            batches.c.id.in_({lease.batch_id for lease in leases}),
            batches.c.status == Status.IN_PROGRESS,
            batches.c.expires_at > now_s,
        )

        async def hold(connection: AsyncConnection) -> set[LineLease]:
            going_on = set((await connection.execute(wanted)).scalars())
            held = set()
            for lease in leases:
                if lease.batch_id in going_on:
                    until = batch_lines.update().where(_held(lease)).values(lease_until=now_s + self._lease_s)
                    if (await connection.execute(until)).rowcount == 1:
                        held.add(lease)
            return held

        return await self._database.write(hold)

    async def finish(self, lease: LineLease, answered: Answered) -> None:
        """Keep the answer, and count it, in one transaction; with the last one the batch is ready to be ended.

        Raises: LeaseLost: nothing was written; DependencyError: SQL is away.
        """
        status = LineStatus.COMPLETED if answered.ok else LineStatus.FAILED
        values = {"status": status, "answer": answered.text, "worker": None, "lease_until": None}

        async def write(connection: AsyncConnection) -> None:
            batch = await _locked(connection, lease.batch_id)
            await _change(connection, lease, values)
            counted: dict[str, Any] = {
                "completed": batch.completed + answered.ok,
                "failed": batch.failed + (not answered.ok),
                "usage": answered.usage.added_to(batch.usage),
            }
            if batch.status == Status.IN_PROGRESS and counted["completed"] + counted["failed"] == batch.total:
                counted |= reached(Status.FINALIZING, self._clock.time()) | {"ending": Status.COMPLETED}
            await connection.execute(batches.update().where(batches.c.id == lease.batch_id).values(counted))

        await self._database.write(write)

    async def rest(self, lease: LineLease, seconds: float) -> None:
        """Hand a line back that a limit refused; the whole batch waits, and the attempt does not count.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        until_s = self._clock.time() + seconds

        async def write(connection: AsyncConnection) -> None:
            batch = await _locked(connection, lease.batch_id)
            await _change(connection, lease, _WAITING | {"attempts": batch_lines.c.attempts - 1})
            later = max(batch.not_before, until_s)
            await connection.execute(batches.update().where(batches.c.id == lease.batch_id).values(not_before=later))

        await self._database.write(write)

    async def retry(self, lease: LineLease, seconds: float) -> None:
        """Hand a line back after a failed attempt, to be tried again when so many seconds have passed.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        values = _WAITING | {"not_before": self._clock.time() + seconds}
        await self._database.write(lambda connection: _change(connection, lease, values))

    async def release(self, lease: LineLease) -> None:
        """Hand a line back with which nothing is wrong: the worker is ending, or it is wanted no more.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        values = _WAITING | {"attempts": batch_lines.c.attempts - 1}
        await self._database.write(lambda connection: _change(connection, lease, values))

    async def release_all(self) -> None:
        """Hand back whatever this worker still holds: it is ending. Raises: DependencyError: SQL is away."""
        own = sa.and_(batch_lines.c.status == LineStatus.RUNNING, batch_lines.c.worker == self._worker)
        values = _WAITING | {"attempts": batch_lines.c.attempts - 1}

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(batch_lines.update().where(own).values(values))

        await self._database.write(write)

    async def take_back(self) -> int:
        """Take lines back from workers that went silent. Returns: how many. Raises: DependencyError: SQL is away."""
        return await self._silence.take_back()


_WAITING: dict[str, Any] = {"status": LineStatus.QUEUED, "worker": None, "lease_until": None}


async def _wait_again(connection: AsyncConnection, line: sa.Row[Any]) -> None:
    same = sa.and_(batch_lines.c.batch_id == line.batch_id, batch_lines.c.number == line.number)
    await connection.execute(batch_lines.update().where(same).values(_WAITING))


def _held(lease: LineLease) -> sa.ColumnElement[bool]:
    return sa.and_(
        batch_lines.c.batch_id == lease.batch_id,
        batch_lines.c.number == lease.number,
        batch_lines.c.fence == lease.fence,
        batch_lines.c.status == LineStatus.RUNNING,
    )


async def _locked(connection: AsyncConnection, batch_id: str) -> Any:
    found = sa.select(batches).where(batches.c.id == batch_id).with_for_update()
    return (await connection.execute(found)).one()


async def _change(connection: AsyncConnection, lease: LineLease, values: dict[str, Any]) -> None:
    """Change the line only while its fence is the lease's."""
    if (await connection.execute(batch_lines.update().where(_held(lease)).values(values))).rowcount != 1:
        raise LeaseLost(f"the lease on line {lease.number} of {lease.batch_id} was taken back")
