"""Leases in SQL that nobody renews any more, told without a wall clock.

A holder renews its lease by writing another `lease_until`. Whoever looks for lost ones compares no times: a lease is
lost whose fence and `lease_until` have stayed the same for a lease's length of the looker's own monotonic clock. A wall
clock that is set, or that differs between two machines, takes nothing from a holder that works, and keeps nothing for
one that died.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from storage.sql import Database

Key = tuple[Any, ...]
Mark = tuple[int, float]  # fence and `lease_until`
Free = Callable[[AsyncConnection, sa.Row[Any]], Awaitable[None]]


class Silence:
    """Looks at the leases of one table, and takes those back whose holders went silent.

    Args:
        table: with the columns `fence` and `lease_until`, which is NULL where nobody holds the row.
        lease_s: seconds after which a lease that does not change is lost; holders renew more often.
        held: which rows can be held; None: all.
        free: gives a row back that is locked meanwhile; None: `lease_until`, and `worker` where there is one, go.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        table: sa.Table,
        lease_s: float,
        *,
        held: sa.ColumnElement[bool] | None = None,
        free: Free | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._table = table
        self._lease_s = lease_s
        self._held = sa.and_(table.c.lease_until.is_not(None), sa.true() if held is None else held)
        self._free = free or self._let_go
        self._seen: dict[Key, tuple[Mark, float]] = {}

    async def take_back(self) -> int:
        """Look, and take back what has not changed for a lease's length. A first look takes nothing.

        Returns: how many leases were lost. Raises: DependencyError: SQL is away.
        """
        asked_s = self._clock.monotonic()
        marks = await self._database.read(self._look)
        looked_s = self._clock.monotonic()
        before, self._seen = self._seen, {}
        for key, mark in marks.items():
            known = before.get(key)
            self._seen[key] = known if known is not None and known[0] == mark else (mark, looked_s)
        lost = {key: mark for key, (mark, since_s) in self._seen.items() if asked_s - since_s >= self._lease_s}
        taken = 0
        for key, mark in lost.items():  # nearly always none; each by itself, since several rows may be locked for one
            taken += await self._database.write(partial(self._take, key, mark))
        return taken

    async def _look(self, connection: AsyncConnection) -> dict[Key, Mark]:
        names = sa.select(*self._table.primary_key, self._table.c.fence, self._table.c.lease_until).where(self._held)
        return {tuple(row[:-2]): (row.fence, row.lease_until) for row in await connection.execute(names)}

    async def _take(self, key: Key, mark: Mark, connection: AsyncConnection) -> bool:
        fence, until = mark
        same = sa.and_(self._is(key), self._table.c.fence == fence, self._table.c.lease_until == until, self._held)
        found = await connection.execute(sa.select(self._table).where(same).with_for_update(skip_locked=True))
        if (row := found.one_or_none()) is None:
            return False
        await self._free(connection, row)
        return True

    async def _let_go(self, connection: AsyncConnection, row: sa.Row[Any]) -> None:
        key = [row._mapping[column.name] for column in self._table.primary_key]
        nobody = {name: None for name in ("worker", "lease_until") if name in self._table.c}
        await connection.execute(self._table.update().where(self._is(key)).values(nobody))

    def _is(self, key: Key | list[Any]) -> sa.ColumnElement[bool]:
        return sa.and_(*(column == value for column, value in zip(self._table.primary_key, key, strict=True)))
