"""Batches as their owners make, see and cancel them. What is not there and what is somebody else's is the same."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.batches.forms import Batch
from api.batches.states import Status, before, reached
from api.errors import BatchNotFound, BatchOver, TooManyBatches
from api.owner import owner_of
from core.clock import Clock
from core.ids import is_id, new_id
from core.principal import Principal
from storage.schema import batches
from storage.sql import Database

WINDOW = "24h"
_WINDOW_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be made.

    Attributes:
        output_expires_after_s: nobody sees the files that come out when so many seconds have passed; None: they stay.
    """

    endpoint: str
    input_file_id: str
    metadata: dict[str, str] | None = None
    output_expires_after_s: int | None = None


class Batches:
    """Makes, finds and cancels.

    Args:
        most_open: batches of one tenant that have not ended.
    """

    def __init__(self, database: Database, clock: Clock, most_open: int) -> None:
        self._database = database
        self._clock = clock
        self._most_open = most_open

    async def create(self, principal: Principal, new: NewBatch) -> Batch:
        """Make a batch; its file is read later. Raises: TooManyBatches; DependencyError: SQL is away."""
        now_s = self._clock.time()
        row: dict[str, Any] = {
            "id": new_id("batch"),
            "tenant_id": principal.tenant_id,
            "owner": owner_of(principal),
            "key_id": principal.key_id,
            "user_id": principal.user_id,
            "endpoint": new.endpoint,
            "input_file_id": new.input_file_id,
            "completion_window": WINDOW,
            "output_expires_after_s": new.output_expires_after_s,
            "metadata": new.metadata,
            "status": Status.VALIDATING,
            "created_at": now_s,
            "expires_at": now_s + _WINDOW_S,
        }
        open_ones = sa.select(sa.func.count()).where(
            batches.c.tenant_id == principal.tenant_id, batches.c.ended_at.is_(None)
        )

        async def insert(connection: AsyncConnection) -> Batch:
            if (await connection.execute(open_ones)).scalar_one() >= self._most_open:
                raise TooManyBatches(f"{self._most_open} batches are under way; wait until one ends, or cancel one")
            await connection.execute(batches.insert().values(row))
            return await self._one(connection, principal, row["id"])

        return await self._database.write(insert)

    async def get(self, principal: Principal, batch_id: str) -> Batch:
        """Raises: BatchNotFound; DependencyError: SQL is away."""
        return await self._database.read(lambda connection: self._one(connection, principal, batch_id))

    async def list(self, principal: Principal, after: str | None, limit: int) -> list[Batch]:
        """The owner's batches, the newest first, those behind the id `after`; at most `limit`."""
        statement = _select(principal).order_by(batches.c.id.desc()).limit(limit)
        if after is not None:
            statement = statement.where(batches.c.id < after)

        async def find(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(statement)).all()

        return [as_batch(row) for row in await self._database.read(find)]

    async def cancel(self, principal: Principal, batch_id: str) -> Batch:
        """Have no more of its lines sent; once more changes nothing.

        Raises: BatchNotFound; BatchOver: there is nothing left to cancel; DependencyError: SQL is away.
        """
        values = reached(Status.CANCELLING, self._clock.time()) | {"ending": Status.CANCELLED}

        async def stop(connection: AsyncConnection) -> Batch:
            found = await self._one(connection, principal, batch_id, lock=True)
            if found.status in (Status.CANCELLING, Status.CANCELLED):
                return found
            if found.status not in before(Status.CANCELLING):
                raise BatchOver(f"the batch {batch_id} is {found.status}, so nothing is left to be cancelled")
            # Whoever reads its file at this moment loses the lease on it.
            fenced = {"fence": batches.c.fence + 1, "worker": None, "lease_until": None}
            await connection.execute(batches.update().where(batches.c.id == batch_id).values(**values, **fenced))
            return await self._one(connection, principal, batch_id)

        return await self._database.write(stop)

    async def _one(
        self, connection: AsyncConnection, principal: Principal, batch_id: str, *, lock: bool = False
    ) -> Batch:
        statement = _select(principal).where(batches.c.id == batch_id)
        row = None
        if is_id(batch_id, "batch"):  # what is none may be no text that a database takes
            row = (await connection.execute(statement.with_for_update() if lock else statement)).one_or_none()
        if row is None:
            raise BatchNotFound(f"there is no batch {batch_id[:100]!r}", "batch_id")
        return as_batch(row)


def as_batch(row: Any) -> Batch:
    """A row as its owner sees it."""
    known = {field.name: getattr(row, field.name) for field in fields(Batch)}
    return Batch(**known | {"status": Status(row.status), "metadata": row._mapping["metadata"]})


def _select(principal: Principal) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(batches).where(batches.c.tenant_id == principal.tenant_id, batches.c.owner == owner_of(principal))
