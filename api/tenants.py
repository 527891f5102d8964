"""Tenants: made, changed and disabled by admins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor
from api.announcer import Announcer, Raised, raise_generations
from api.audit import note
from api.errors import NameTaken, RequestInvalid, TenantNotFound
from core.clock import Clock
from core.ids import new_id
from core.limits import EVERYONE
from core.reach import Reach
from storage.schema import api_keys, tenants
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant; `reach`: where text of its requests may go. Times are seconds since the epoch."""

    id: str
    name: str
    reach: Reach
    created_at: float
    disabled_at: float | None


class Tenants:
    """The tenants, in SQL. Managers see their own."""

    def __init__(self, database: Database, clock: Clock, announcer: Announcer) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer

    async def create(self, by: Actor, name: str, far: Reach) -> Tenant:
        """Raises: NameTaken; RequestInvalid: the name stands for all tenants."""
        _check_name(name)
        now = self._clock.time()
        row = {"id": new_id("tenant"), "name": name, "reach": far.row(), "created_at": now, "changed_at": now}

        async def act(connection: AsyncConnection) -> Tenant:
            await connection.execute(insert(tenants).values(**row))
            details = {"name": name, "reach": far.row()}
            await note(connection, by, now, str(row["id"]), "tenant.create", str(row["id"]), details)
            return await _find(connection, by, str(row["id"]))

        try:
            return await self._database.write(act)
        except IntegrityError as error:
            raise NameTaken(f"there is a tenant {name} already", "name") from error

    async def page(self, by: Actor, after: str | None, limit: int) -> Sequence[Tenant]:
        """The newest first."""
        query = select(tenants).where(by.within(tenants.c.id))
        if after is not None:
            query = query.where(tenants.c.id < after)

        async def find(connection: AsyncConnection) -> Sequence[Tenant]:
            rows = await connection.execute(query.order_by(tenants.c.id.desc()).limit(limit))
            return [_tenant(row) for row in rows]

        return await self._database.read(find)

    async def get(self, by: Actor, tenant_id: str) -> Tenant:
        """Raises: TenantNotFound."""
        return await self._database.read(lambda connection: _find(connection, by, tenant_id))

    async def change(self, by: Actor, tenant_id: str, changes: Mapping[str, Any]) -> Tenant:
        """Change `name`, `reach` (of the old one) or `disabled`; a disabled tenant's keys and tokens end at once.

        Raises: TenantNotFound; NameTaken; RequestInvalid: nobody disables the tenant that they act from, and none is
            named like all of them.
        """
        _check_name(changes.get("name", ""))
        now = self._clock.time()
        if changes.get("disabled") and tenant_id == by.principal.tenant_id:
            raise RequestInvalid("this is the tenant of your own key, which would end with it", "disabled")

        async def act(connection: AsyncConnection) -> tuple[Tenant, Sequence[Raised]]:
            before = await _find(connection, by, tenant_id)
            values = {"name": changes["name"]} if "name" in changes else {}
            if "reach" in changes:
                values["reach"] = changes["reach"](before.reach).row()
            if "disabled" in changes:
                values["disabled_at"] = (before.disabled_at or now) if changes["disabled"] else None
            await connection.execute(update(tenants).where(tenants.c.id == tenant_id).values(**values, changed_at=now))
            action = "tenant.disable" if changes.get("disabled") else "tenant.change"
            await note(connection, by, now, tenant_id, action, tenant_id, {**changes, **values})
            raised = await raise_generations(connection, api_keys.c.tenant_id == tenant_id, now)
            return await _find(connection, by, tenant_id), raised

        try:
            tenant, raised = await self._database.write(act)
        except IntegrityError as error:
            raise NameTaken(f"there is a tenant {changes.get('name')} already", "name") from error
        await self._announcer.announce(raised)
        return tenant


def _check_name(name: str) -> None:
    if name == EVERYONE:
        raise RequestInvalid(f"a tenant can't be named {EVERYONE}: that stands for all tenants", "name")


async def _find(connection: AsyncConnection, by: Actor, tenant_id: str) -> Tenant:
    query = select(tenants).where(tenants.c.id == tenant_id, by.within(tenants.c.id))
    row = (await connection.execute(query)).first()
    if row is None:
        raise TenantNotFound(f"there is no tenant {tenant_id}")
    return _tenant(row)


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(row.id, row.name, Reach.read(row.reach), row.created_at, row.disabled_at)
