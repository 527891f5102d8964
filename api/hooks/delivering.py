"""Tells webhooks what waits for them: once at least, under the same id each time, by lease."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.hooks.secrets import HouseKey
from api.hooks.signing import headers_of
from core.clock import Clock
from monitoring import metrics
from monitoring.logs import logger
from retrieval.errors import AddressRefused, FetchPostponed
from retrieval.rows import fetch
from retrieval.sources.fetcher import Fetcher
from retrieval.sources.guard import Guard
from storage.schema import deliveries, endpoints, tenants
from storage.silence import Silence
from storage.sql import Database

_PARALLEL = 8
_LONGEST_PAUSE_S = 7200.0
_KEPT_S = 30 * 86_400.0
_WAITING = deliveries.c.status == "waiting"
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: of one lease, until a first failure is tried again, and what the pause grows by each time."""

    lease_s: float
    retry_s: float
    factor: float = 3.0

    def pause_s(self, attempts: int) -> float:
        """Until the next attempt, spread so that what failed together does not come back together."""
        pause_s = min(_LONGEST_PAUSE_S, self.retry_s * self.factor ** min(attempts - 1, 30))
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311  # it hides nothing


class Deliverer:
    """Delivers for one keeper; several may run at once."""

    def __init__(
        self, database: Database, clock: Clock, key: HouseKey, guard: Guard, fetcher: Fetcher, patience: Patience
    ) -> None:
        self._database = database
        self._clock = clock
        self._key = key
        self._guard = guard
        self._fetcher = fetcher
        self._patience = patience
        self._silence = Silence(database, clock, deliveries, patience.lease_s, held=_WAITING)

    async def deliver(self) -> int:
        """Tell what is due, several webhooks at once, each one thing at a time. Returns: how much was tried.

        Raises: DependencyError: SQL is away; what was under way is told again.
        """
        await self._silence.take_back()
        return sum(await asyncio.gather(*(self._lane() for _ in range(_PARALLEL))))

    async def forget(self) -> int:
        """Delete what ended long ago. Returns: how much. Raises: DependencyError."""
        old = deliveries.delete().where(deliveries.c.ended_at < self._clock.time() - _KEPT_S)

        async def delete(connection: AsyncConnection) -> int:
            return (await connection.execute(old)).rowcount

        return await self._database.write(delete)

    async def _lane(self) -> int:
        tried = 0
        while await fetch(self._database, self._due().limit(1)):
            row = await self._database.write(self._acquire)
            if row is None:
                break
            await self._tell(row)
            tried += 1
        return tried

    def _due(self) -> sa.Select[Any]:
        """What may be told now: of each webhook one thing, and first for the tenant that is told least just then."""
        now_s = self._clock.time()
        running = sa.and_(_WAITING, deliveries.c.lease_until.is_not(None))
        busy = sa.select(deliveries.c.endpoint_id).where(running)
        shares = sa.select(deliveries.c.tenant_id, sa.func.count().label("count")).where(running)
        shared = shares.group_by(deliveries.c.tenant_id).subquery()
        return (
            sa.select(deliveries, endpoints.c.url, endpoints.c.mark)
            .join(endpoints, endpoints.c.id == deliveries.c.endpoint_id)
            .join(tenants, tenants.c.id == endpoints.c.tenant_id)
            .outerjoin(shared, shared.c.tenant_id == deliveries.c.tenant_id)
            .where(
                _WAITING,
                deliveries.c.next_at <= now_s,
                deliveries.c.lease_until.is_(None),
                deliveries.c.endpoint_id.not_in(busy),
                tenants.c.disabled_at.is_(None),
            )
            .order_by(sa.func.coalesce(shared.c.count, 0), deliveries.c.next_at, deliveries.c.id)
        )

    async def _acquire(self, connection: AsyncConnection) -> Any | None:
        row = (
            await connection.execute(self._due().limit(1).with_for_update(of=deliveries, skip_locked=True))
        ).one_or_none()
        if row is None:
            return None
        lease = {"fence": row.fence + 1, "attempts": row.attempts + 1}
        lease["lease_until"] = self._clock.time() + self._patience.lease_s
        same = sa.and_(deliveries.c.id == row.id, deliveries.c.fence == row.fence)  # PostgreSQL may show it as it was
        return row if (await connection.execute(deliveries.update().where(same).values(**lease))).rowcount else None

    async def _tell(self, row: Any) -> None:
        answer, error = None, None
        try:
            answer = await self._post(row)
        except (AddressRefused, FetchPostponed) as refused:
            error = str(refused)[:500]
        except Exception:  # one webhook's fault, or a key that is gone, ends none of the keeper's other duties
            _log.exception("a delivery could not be tried", id=row.id)
            error = "it could not be tried; the keeper's log has the details"
        if answer is not None and not 200 <= answer < 300:
            error = f"it answered {answer}"
        await self._database.write(lambda connection: self._note(connection, row, answer, error))
        metrics.WEBHOOKS.labels("delivered" if error is None else "refused").inc()
        if error is not None:
            _log.info("a webhook did not take a delivery", id=row.id, attempt=row.attempts + 1, reason=error)

    async def _post(self, row: Any) -> int:
        """Raises: AddressRefused; FetchPostponed."""
        if self._key.mark_of(row.endpoint_id) != row.mark:
            raise FetchPostponed("its secret was made with another STOKER_HOOKS_KEY: delete it and make it anew")
        headers = headers_of(self._key.secret_of(row.endpoint_id), row.id, int(self._clock.time()), row.body)
        headers["content-type"] = "application/json"
        return await self._fetcher.post(self._guard.read(row.url), row.body.encode(), headers)

    async def _note(self, connection: AsyncConnection, row: Any, answer: int | None, error: str | None) -> None:
        now_s = self._clock.time()
        pause_s = self._patience.pause_s(row.attempts + 1)
        values: dict[str, Any] = {"answer": answer, "error": error, "lease_until": None}
        if error is None:
            values |= {"status": "delivered", "ended_at": now_s}
        elif now_s + pause_s > row.until:
            values |= {"status": "given_up", "ended_at": now_s}
        else:
            values["next_at"] = now_s + pause_s
        mine = sa.and_(deliveries.c.id == row.id, deliveries.c.fence == row.fence + 1, _WAITING)
        await connection.execute(deliveries.update().where(mine).values(**values))
