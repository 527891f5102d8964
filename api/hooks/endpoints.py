"""Webhooks of a tenant, to which the ends of its jobs are told, and what became of each delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.audit import note
from api.errors import DeliveryNotFound, RequestInvalid, WebhookNotFound
from api.hooks.secrets import HouseKey
from core.clock import Clock
from core.ids import new_id
from retrieval.sources.guard import Guard
from storage.schema import deliveries, endpoints
from storage.sql import Database

_MOST = 20  # of a tenant


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook; `events` None: all of them."""

    id: str
    tenant_id: str
    url: str
    description: str
    events: list[str] | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery; `id` is the message's, the same at each attempt. `answer` is the last status, if there was any."""

    id: str
    event: str
    status: str
    attempts: int
    answer: int | None
    error: str | None
    next_at: float
    created_at: float
    ended_at: float | None


class Endpoints:
    """The webhooks, in SQL; each address passes the guard here, and again at each delivery."""

    def __init__(self, database: Database, clock: Clock, key: HouseKey, guard: Guard, give_up_s: float) -> None:
        self._database = database
        self._clock = clock
        self._key = key
        self._guard = guard
        self._give_up_s = give_up_s

    async def create(
        self, by: Actor, tenant: str | None, url: str, description: str, events: Sequence[str] | None
    ) -> tuple[Endpoint, str]:
        """Returns: the webhook, and its secret, which can't be asked for again.

        Raises: AddressRefused; FetchPostponed: its host can't be looked up; RequestInvalid: there are too many;
            NotAllowed; TenantNotFound.
        """
        address = self._guard.read(url)
        await self._guard.resolved(address)
        now, endpoint_id = self._clock.time(), new_id("wh")
        secret, mark = self._key.secret_of(endpoint_id), self._key.mark_of(endpoint_id)

        async def act(connection: AsyncConnection) -> Endpoint:
            tenant_id = await reach(connection, by, tenant)
            live = sa.and_(endpoints.c.tenant_id == tenant_id, endpoints.c.deleted_at.is_(None))
            if (await connection.execute(sa.select(sa.func.count()).where(live))).scalar_one() >= _MOST:
                raise RequestInvalid(f"a tenant has at most {_MOST} webhooks: delete one first")
            row: dict[str, Any] = {
                "url": str(address),
                "description": description,
                "events": events and list(events),
                "mark": mark,
            }
            row |= {"id": endpoint_id, "tenant_id": tenant_id, "created_at": now}
            await connection.execute(endpoints.insert().values(**row))
            await note(connection, by, now, tenant_id, "webhook.create", endpoint_id, {"host": address.host})
            return await _find(connection, by, endpoint_id)

        return await self._database.write(act), secret

    async def page(self, by: Actor, tenant: str | None, after: str | None, limit: int) -> Sequence[Endpoint]:
        """A tenant's webhooks, the newest first. Raises: NotAllowed; TenantNotFound."""

        async def find(connection: AsyncConnection) -> Sequence[Endpoint]:
            tenant_id = await reach(connection, by, tenant)
            query = sa.select(endpoints).where(endpoints.c.tenant_id == tenant_id, endpoints.c.deleted_at.is_(None))
            if after is not None:
                query = query.where(endpoints.c.id < after)
            rows = await connection.execute(query.order_by(endpoints.c.id.desc()).limit(limit))
            return [_endpoint(row) for row in rows]

        return await self._database.read(find)

    async def get(self, by: Actor, endpoint_id: str) -> Endpoint:
        """Raises: WebhookNotFound."""
        return await self._database.read(lambda connection: _find(connection, by, endpoint_id))

    async def delete(self, by: Actor, endpoint_id: str) -> None:
        """Tell it nothing more, also of what waits. Raises: WebhookNotFound."""
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> None:
            endpoint = await _find(connection, by, endpoint_id)
            gone = endpoints.update().where(endpoints.c.id == endpoint_id).values(deleted_at=now)
            await connection.execute(gone)
            waiting = sa.and_(deliveries.c.endpoint_id == endpoint_id, deliveries.c.status == "waiting")
            ended = {"status": "given_up", "error": "the webhook was deleted", "ended_at": now}
            await connection.execute(deliveries.update().where(waiting).values(fence=deliveries.c.fence + 1, **ended))
            await note(connection, by, now, endpoint.tenant_id, "webhook.delete", endpoint_id)

        await self._database.write(act)

    async def told(self, by: Actor, endpoint_id: str, after: str | None, limit: int) -> Sequence[Delivery]:
        """What was told it, and is to be, the newest first. Raises: WebhookNotFound."""

        async def find(connection: AsyncConnection) -> Sequence[Delivery]:
            await _find(connection, by, endpoint_id)
            query = sa.select(deliveries).where(deliveries.c.endpoint_id == endpoint_id)
            if after is not None:
                query = query.where(deliveries.c.id < after)
            rows = await connection.execute(query.order_by(deliveries.c.id.desc()).limit(limit))
            return [_delivery(row) for row in rows]

        return await self._database.read(find)

    async def redeliver(self, by: Actor, endpoint_id: str, delivery_id: str) -> Delivery:
        """Tell it again, under the same id. Raises: WebhookNotFound, DeliveryNotFound."""
        now = self._clock.time()
        wanted = sa.and_(deliveries.c.id == delivery_id, deliveries.c.endpoint_id == endpoint_id)

        async def act(connection: AsyncConnection) -> Delivery:
            endpoint = await _find(connection, by, endpoint_id)
            again = {"status": "waiting", "attempts": 0, "next_at": now, "until": now + self._give_up_s}
            again |= {"ended_at": None, "lease_until": None}
            update = deliveries.update().where(wanted).values(fence=deliveries.c.fence + 1, **again)
            if (await connection.execute(update)).rowcount != 1:
                raise DeliveryNotFound(f"there is no delivery {delivery_id[:100]} to this webhook")
            await note(connection, by, now, endpoint.tenant_id, "webhook.redeliver", delivery_id)
            return _delivery((await connection.execute(sa.select(deliveries).where(wanted))).one())

        return await self._database.write(act)


async def _find(connection: AsyncConnection, by: Actor, endpoint_id: str) -> Endpoint:
    live = sa.and_(endpoints.c.id == endpoint_id, endpoints.c.deleted_at.is_(None))
    row = (await connection.execute(sa.select(endpoints).where(live, by.within(endpoints.c.tenant_id)))).first()
    if row is None:
        raise WebhookNotFound(f"there is no webhook {endpoint_id[:100]}")
    return _endpoint(row)


def _endpoint(row: sa.Row[Any]) -> Endpoint:
    return Endpoint(row.id, row.tenant_id, row.url, row.description, row.events, row.created_at)


def _delivery(row: sa.Row[Any]) -> Delivery:
    names = ("id", "event", "status", "attempts", "answer", "error", "next_at", "created_at", "ended_at")
    return Delivery(*(getattr(row, name) for name in names))
