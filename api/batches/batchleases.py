"""Who reads a batch's file or writes down what came out: one worker at a time, by lease and fence.

Every transaction names the fence, holds the lease on, and is refused once somebody else has taken it. A worker that
died in the middle is followed by one that goes on where the last transaction ended.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.batches.errors import LeaseLost
from api.batches.lines import Line, Problem, one_model
from api.batches.states import ON_PAPER, LineStatus, Status, before, reached
from core.clock import Clock
from storage.schema import batch_lines, batches
from storage.silence import Silence
from storage.sql import Database

LINES_AT_ONCE = 1000
_BYTES_AT_ONCE = 4 * 2**20  # of bodies, or a transaction of long lines would pass its deadline
_ANSWERS_AT_ONCE = 10  # read before their sizes are looked at: one of embeddings may have megabytes
_OPEN_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has not ended, as workers look at it.

    Attributes:
        free: nobody reads its file, or writes down what came out.
        resting: a limit said that none of its lines is to be sent now.
        over: its window has ended.
    """

    id: str
    status: Status
    free: bool
    resting: bool
    over: bool


@dataclass(frozen=True, slots=True)
class BatchLease:
    """One batch, held by one worker until the fence moves on.

    Attributes:
        ending: the state in which it will end; None: its file is to be read.
        begun: its file has been read, so that every line is there.
        output_expires_after_s: of the files that come out.
    """

    batch_id: str
    fence: int
    status: Status
    ending: Status | None
    begun: bool
    tenant_id: str
    owner: str
    key_id: str | None
    user_id: str | None
    endpoint: str
    input_file_id: str
    output_expires_after_s: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A line as it came out; `answer` is None where nobody answered it."""

    number: int
    custom_id: str
    ok: bool
    answer: str | None


class BatchLeases:
    """Takes and ends leases on whole batches, for one worker."""

    def __init__(self, database: Database, clock: Clock, worker: str, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._worker = worker
        self._lease_s = lease_s
        self._silence = Silence(database, clock, batches, lease_s, held=batches.c.ended_at.is_(None))

    async def open_ones(self) -> list[OpenBatch]:
        """The batches that have not ended, the oldest first. Raises: DependencyError: SQL is away."""
        await self._silence.take_back()
        now_s = self._clock.time()
        columns = (batches.c.status, batches.c.lease_until, batches.c.not_before, batches.c.expires_at)
        open_ones = sa.select(batches.c.id, *columns).where(batches.c.ended_at.is_(None))
        return [
            OpenBatch(
                row.id,
                Status(row.status),
                row.lease_until is None,
                row.not_before > now_s,
                row.expires_at <= now_s,
            )
            for row in await self._rows(open_ones.order_by(batches.c.id).limit(_OPEN_AT_ONCE))
        ]

    async def take(self, batch_id: str) -> BatchLease | None:
        """Take a batch on which there is work of this kind; None: somebody else has. Raises: DependencyError."""
        now_s = self._clock.time()
        free = sa.select(batches).where(
            batches.c.id == batch_id,
            batches.c.status.in_(ON_PAPER),
            batches.c.lease_until.is_(None),
        )

        async def lease(connection: AsyncConnection) -> BatchLease | None:
            row = (await connection.execute(free.with_for_update(skip_locked=True))).one_or_none()
            if row is None:
                return None
            values = {"fence": row.fence + 1, "worker": self._worker, "lease_until": now_s + self._lease_s}
            await connection.execute(batches.update().where(batches.c.id == batch_id).values(values))
            return BatchLease(
                row.id,
                row.fence + 1,
                Status(row.status),
                None if row.ending is None else Status(row.ending),
                row.in_progress_at is not None,
                row.tenant_id,
                row.owner,
                row.key_id,
                row.user_id,
                row.endpoint,
                row.input_file_id,
                row.output_expires_after_s,
            )

        return await self._database.write(lease)

    async def release(self, lease: BatchLease) -> None:
        """Hand a batch back. Raises: LeaseLost; DependencyError: SQL is away."""
        await self._fenced(lease, {"worker": None, "lease_until": None})

    async def release_all(self) -> None:
        """Hand back whatever this worker still holds: it is ending. Raises: DependencyError: SQL is away."""
        own = sa.and_(batches.c.ended_at.is_(None), batches.c.worker == self._worker)

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(batches.update().where(own).values(_FREE))

        await self._database.write(write)

    async def add_lines(self, lease: BatchLease, lines: Sequence[Line]) -> None:
        """Take a file apart, up to a thousand lines in one transaction, from where an earlier worker got to.

        Raises: LeaseLost: the batch was cancelled, or somebody else goes on; DependencyError: SQL is away.
        """
        last = sa.select(sa.func.max(batch_lines.c.number)).where(batch_lines.c.batch_id == lease.batch_id)
        [(there,)] = await self._rows(last)
        missing = [line for line in lines if line.number > (there or 0)]
        for part in _parts(missing):
            rows = [_row(lease.batch_id, line) for line in part]

            async def insert(connection: AsyncConnection, rows: list[dict[str, Any]] = rows) -> None:
                await connection.execute(batch_lines.insert(), rows)

            await self._fenced(lease, {"lease_until": self._clock.time() + self._lease_s}, insert)

    async def begin(self, lease: BatchLease, lines: Sequence[Line]) -> None:
        """All lines are there: they may be sent. Raises: LeaseLost; DependencyError: SQL is away."""
        values = reached(Status.IN_PROGRESS, self._clock.time())
        known = {"total": len(lines), "model": (one_model(list(lines)) or "")[:200] or None}
        await self._fenced(lease, values | known | _FREE)

    async def refuse(self, lease: BatchLease, problems: Sequence[Problem]) -> None:
        """End a batch whose file is none; nothing of it was sent. Raises: LeaseLost; DependencyError: SQL is away."""
        values = reached(Status.FAILED, self._clock.time()) | {"ending": Status.FAILED}
        await self._fenced(lease, values | {"errors": [one.as_json() for one in problems]} | _FREE)

    async def stop(self, batch_id: str, ending: Status, problem: Problem | None = None) -> bool:
        """Have no more lines of a batch sent, whose window has ended or whose key is no more.

        Returns: whether it was in progress until now. Raises: DependencyError: SQL is away.
        """
        values = reached(Status.FINALIZING, self._clock.time()) | {"ending": ending}
        if problem is not None:
            values["errors"] = [problem.as_json()]
        going_on = sa.and_(batches.c.id == batch_id, batches.c.status.in_(before(Status.FINALIZING)))

        async def write(connection: AsyncConnection) -> bool:
            return (await connection.execute(batches.update().where(going_on).values(values))).rowcount == 1

        return await self._database.write(write)

    async def running(self, lease: BatchLease) -> int:
        """How many of its lines are still being sent; holds the lease on. Raises: LeaseLost; DependencyError."""
        count = sa.select(sa.func.count()).where(
            batch_lines.c.batch_id == lease.batch_id, batch_lines.c.status == LineStatus.RUNNING
        )
        found: list[int] = []

        async def look(connection: AsyncConnection) -> None:
            found.append((await connection.execute(count)).scalar_one())

        await self._fenced(lease, {"lease_until": self._clock.time() + self._lease_s}, look)
        return found[-1]

    async def outcomes(self, lease: BatchLease, after: int) -> list[Outcome]:
        """The next lines as they came out, behind the number `after`; none: that was all. Holds the lease on.

        Raises: LeaseLost; DependencyError: SQL is away.
        """
        statement = (
            sa.select(batch_lines.c.number, batch_lines.c.custom_id, batch_lines.c.status, batch_lines.c.answer)
            .where(batch_lines.c.batch_id == lease.batch_id)
            .order_by(batch_lines.c.number)
            .limit(_ANSWERS_AT_ONCE)
        )

        async def find(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            found: list[Any] = []
            last, size = after, 0
            while len(found) < LINES_AT_ONCE and size < _BYTES_AT_ONCE:
                some = (await connection.execute(statement.where(batch_lines.c.number > last))).all()
                if not some:
                    break
                found += some
                last, size = some[-1].number, size + sum(len(row.answer or "") for row in some)
            return found

        await self._fenced(lease, {"lease_until": self._clock.time() + self._lease_s})
        return [
            Outcome(row.number, row.custom_id, row.status == LineStatus.COMPLETED, row.answer)
            for row in await self._database.read(find)
        ]

    async def end(
        self,
        lease: BatchLease,
        ending: Status,
        values: dict[str, Any],
        also: Callable[[AsyncConnection], Awaitable[None]],
    ) -> None:
        """End a batch, and do `also`, in one transaction.

        Raises: LeaseLost: nothing was done; DependencyError: SQL is away.
        """
        await self._fenced(lease, reached(ending, self._clock.time()) | values | _FREE, also)

    async def sweep(self) -> int:
        """Delete the lines of batches that have ended: what came of them stands in files. Returns: how many batches.

        Raises: DependencyError: SQL is away.
        """
        ended = sa.select(batches.c.id).where(batches.c.ended_at.is_not(None), batches.c.swept_at.is_(None)).limit(100)
        found = [row.id for row in await self._rows(ended)]
        for batch_id in found:
            while await self._database.write(partial(_delete_lines, batch_id)):
                pass
            await self._database.write(partial(_mark_swept, batch_id, self._clock.time()))
        return len(found)

    async def _fenced(
        self,
        lease: BatchLease,
        values: dict[str, Any],
        also: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        """Change the batch only while its fence is the lease's and it has not moved on, and do what `also` does."""
        held = sa.and_(batches.c.id == lease.batch_id, batches.c.fence == lease.fence, batches.c.status == lease.status)

        async def change(connection: AsyncConnection) -> None:
            if (await connection.execute(batches.update().where(held).values(values))).rowcount != 1:
                raise LeaseLost(f"the lease on {lease.batch_id} was taken back")
            if also is not None:
                await also(connection)

        await self._database.write(change)

    async def _rows(self, statement: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.Row[Any]]:
        async def find(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(statement)).all()

        return await self._database.read(find)


_FREE: dict[str, Any] = {"worker": None, "lease_until": None}


def _row(batch_id: str, line: Line) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "number": line.number,
        "custom_id": line.custom_id,
        "body": line.body,
        "status": LineStatus.QUEUED,
    }


def _parts(lines: Sequence[Line]) -> Iterator[list[Line]]:
    part: list[Line] = []
    size = 0
    for line in lines:
        if part and (len(part) == LINES_AT_ONCE or size + len(line.body) > _BYTES_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line.body)
    if part:
        yield part


async def _mark_swept(batch_id: str, now_s: float, connection: AsyncConnection) -> None:
    await connection.execute(batches.update().where(batches.c.id == batch_id).values(swept_at=now_s))


async def _delete_lines(batch_id: str, connection: AsyncConnection) -> int:
    some = sa.select(batch_lines.c.number).where(batch_lines.c.batch_id == batch_id).limit(LINES_AT_ONCE)
    gone = batch_lines.delete().where(batch_lines.c.batch_id == batch_id, batch_lines.c.number.in_(some))
    return (await connection.execute(gone)).rowcount
