"""Whose turn a daily evaluation is: leases with a fence, kept in SQL, as those of documents are.

However many workers look, one evaluates a set, and what one writes whose lease has run out is refused.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal, Role
from core.reach import Reach
from retrieval.called import CollectionId
from retrieval.errors import LeaseLost
from retrieval.evaluation.daily import Result
from retrieval.evaluation.evaluator import Judged
from retrieval.life import DAY_S
from storage.schema import collections, daily_evaluations, evaluations, tenants
from storage.silence import Silence
from storage.sql import Database

LEASE_S = 120.0
"""More than one search takes by all of its deadlines: who evaluates renews between two."""
SOON_S = 3600.0
"""When an evaluation is tried again for which a part was away."""
_KEPT_S = 400 * DAY_S


@dataclass(frozen=True, slots=True)
class Turn:
    """One evaluation, held by one worker until the fence moves on.

    Attributes:
        principal: in whose name it searches: a manager's, with the reach of whoever named the set and of the tenant.
        begun_at: when the set was named, in seconds since the epoch: it is due at this time of each day.
    """

    collection: CollectionId
    fence: int
    principal: Principal
    questions: tuple[Judged, ...]
    judged_by: str
    begun_at: float


class Turns:
    """Takes, renews and ends turns for one worker. Raises everywhere: DependencyError: SQL is away."""

    def __init__(self, database: Database, clock: Clock, worker: str) -> None:
        self._database = database
        self._clock = clock
        self._worker = worker
        self._silence = Silence(database, clock, daily_evaluations, LEASE_S)

    async def take(self) -> Turn | None:
        """Take the set that has been due for longest; None where none is due."""
        await self._silence.take_back()
        now = self._clock.time()
        table = daily_evaluations.c
        statement = (
            sa.select(daily_evaluations, tenants.c.reach.label("tenant_reach"))
            .join(collections, collections.c.id == table.collection_id)
            .join(tenants, tenants.c.id == table.tenant_id)
            .where(
                table.due_at <= now,
                table.lease_until.is_(None),
                collections.c.deleted_at.is_(None),
                collections.c.expired_at.is_(None),
                tenants.c.disabled_at.is_(None),
            )
            .order_by(table.due_at)
            .limit(1)
            .with_for_update(of=daily_evaluations, skip_locked=True)
        )

        async def act(connection: AsyncConnection) -> Turn | None:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                return None
            held = {"fence": row.fence + 1, "worker": self._worker, "lease_until": now + LEASE_S}
            await connection.execute(
                daily_evaluations.update().where(table.collection_id == row.collection_id).values(held)
            )
            return _turn(row)

        return await self._database.write(act)

    async def renew(self, turn: Turn) -> None:
        """Raises: LeaseLost."""
        await self._fenced(turn, {"lease_until": self._clock.time() + LEASE_S})

    async def release(self, turn: Turn) -> None:
        """Give it back undone. Raises: LeaseLost."""
        await self._fenced(turn, {"worker": None, "lease_until": None})

    async def end(self, turn: Turn, result: Result, *, soon: bool) -> None:
        """Write down what came of it; the next one is due at the same time of another day.

        Args:
            soon: try again in an hour, too.

        Raises: LeaseLost: nothing was written.
        """
        now = self._clock.time()
        days = max(0.0, (now - turn.begun_at) // DAY_S)
        daily = turn.begun_at + (days + 1) * DAY_S
        values: dict[str, Any] = {
            "due_at": min(now + SOON_S, daily) if soon else daily,
            "worker": None,
            "lease_until": None,
        }
        if result.outcome == "whole":
            values["last_id"] = result.id
        row = {
            "id": result.id,
            "collection_id": turn.collection,
            "outcome": result.outcome,
            "reason": result.reason,
            "result": result.figures,
            "at": result.at,
        }
        old = sa.and_(evaluations.c.collection_id == turn.collection, evaluations.c.at < now - _KEPT_S)

        async def also(connection: AsyncConnection) -> None:
            await connection.execute(evaluations.insert().values(row))
            await connection.execute(evaluations.delete().where(old))

        await self._fenced(turn, values, also)

    async def _fenced(self, turn: Turn, values: dict[str, Any], also: Any = None) -> None:
        table = daily_evaluations.c
        # A set that was taken away and named again begins with the first fence again.
        this = sa.and_(table.collection_id == turn.collection, table.fence == turn.fence, table.worker == self._worker)

        async def act(connection: AsyncConnection) -> None:
            done = await connection.execute(daily_evaluations.update().where(this).values(values))
            if not done.rowcount:
                raise LeaseLost(f"the evaluation of {turn.collection} is another's by now")
            if also is not None:
                await also(connection)

        await self._database.write(act)


def _turn(row: Any) -> Turn:
    far = Reach.read(row.reach).narrowed(Reach.read(row.tenant_reach))
    return Turn(
        collection=CollectionId(row.collection_id),
        fence=row.fence + 1,
        principal=Principal(row.tenant_id, None, Role.MANAGER, reach=far),
        questions=tuple(Judged(one["id"], one["text"], one["grades"]) for one in row.questions),
        judged_by=row.judged_by,
        begun_at=row.created_at,
    )
