"""Hooks: whose signed messages are taken, and for which collections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.audit import note
from api.errors import HookNotFound, RequestInvalid, SignatureRefused
from api.hooks.secrets import HouseKey
from api.hooks.signing import Signed, check, read_headers
from core.clock import Clock
from core.ids import is_id, new_id
from storage.schema import hooks, tenants
from storage.sql import Database

_MOST = 100  # of a tenant


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook; `collections` None: all of its tenant. `mark` tells whether its secret is still the same."""

    id: str
    tenant_id: str
    name: str
    collections: list[str] | None
    mark: str
    created_at: float
    revoked_at: float | None


class Hooks:
    """The hooks, in SQL."""

    def __init__(self, database: Database, clock: Clock, key: HouseKey) -> None:
        self._database = database
        self._clock = clock
        self._key = key

    async def create(self, by: Actor, tenant: str | None, name: str, collections: list[str] | None) -> tuple[Hook, str]:
        """Returns: the hook, and its secret, which can't be asked for again.

        Raises: RequestInvalid: there are too many; NotAllowed; TenantNotFound.
        """
        now, hook_id = self._clock.time(), new_id("hook")
        secret, mark = self._key.secret_of(hook_id), self._key.mark_of(hook_id)

        async def act(connection: AsyncConnection) -> Hook:
            tenant_id = await reach(connection, by, tenant)
            live = sa.select(sa.func.count()).where(hooks.c.tenant_id == tenant_id, hooks.c.revoked_at.is_(None))
            if (await connection.execute(live)).scalar_one() >= _MOST:
                raise RequestInvalid(f"a tenant has at most {_MOST} hooks: revoke one first")
            row = {"id": hook_id, "tenant_id": tenant_id, "name": name, "collections": collections, "mark": mark}
            await connection.execute(hooks.insert().values(created_at=now, **row))
            await note(connection, by, now, tenant_id, "hook.create", hook_id, {"name": name})
            return await _find(connection, by, hook_id)

        return await self._database.write(act), secret

    async def page(self, by: Actor, tenant: str | None, after: str | None, limit: int) -> Sequence[Hook]:
        """A tenant's hooks, the newest first. Raises: NotAllowed; TenantNotFound."""

        async def find(connection: AsyncConnection) -> Sequence[Hook]:
            query = sa.select(hooks).where(hooks.c.tenant_id == await reach(connection, by, tenant))
            if after is not None:
                query = query.where(hooks.c.id < after)
            rows = await connection.execute(query.order_by(hooks.c.id.desc()).limit(limit))
            return [_hook(row) for row in rows]

        return await self._database.read(find)

    async def get(self, by: Actor, hook_id: str) -> Hook:
        """Raises: HookNotFound."""
        return await self._database.read(lambda connection: _find(connection, by, hook_id))

    async def revoke(self, by: Actor, hook_id: str) -> Hook:
        """End a hook: its next message is refused. Raises: HookNotFound."""
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> Hook:
            hook = await _find(connection, by, hook_id)
            live = sa.and_(hooks.c.id == hook_id, hooks.c.revoked_at.is_(None))
            if (await connection.execute(hooks.update().where(live).values(revoked_at=now))).rowcount:
                await note(connection, by, now, hook.tenant_id, "hook.revoke", hook_id, {"name": hook.name})
            return await _find(connection, by, hook_id)

        return await self._database.write(act)

    async def checked(self, hook_id: str, headers: Mapping[str, str], body: bytes) -> tuple[Hook, Signed]:
        """The hook whose message this is.

        Raises: SignatureRefused: nobody we know signed it, or not now; DependencyError: SQL is away.
        """
        signed = read_headers(headers, self._clock.time())
        check(signed, self._key.secret_of(hook_id[:64]), body)  # asks no table, so a forged one costs next to nothing
        hook = await self._live(hook_id)
        if hook is None:
            raise SignatureRefused("the hook was revoked, or its tenant was")
        return hook, signed

    async def _live(self, hook_id: str) -> Hook | None:
        if not is_id(hook_id, "hook"):
            return None
        alive = sa.and_(hooks.c.id == hook_id, hooks.c.revoked_at.is_(None), tenants.c.disabled_at.is_(None))
        query = sa.select(hooks).join(tenants, tenants.c.id == hooks.c.tenant_id).where(alive)

        async def find(connection: AsyncConnection) -> Hook | None:
            row = (await connection.execute(query)).first()
            return None if row is None else _hook(row)

        return await self._database.read(find)


async def _find(connection: AsyncConnection, by: Actor, hook_id: str) -> Hook:
    query = sa.select(hooks).where(hooks.c.id == hook_id, by.within(hooks.c.tenant_id))
    row = (await connection.execute(query)).first()
    if row is None:
        raise HookNotFound(f"there is no hook {hook_id[:100]}")
    return _hook(row)


def _hook(row: sa.Row[Any]) -> Hook:
    return Hook(row.id, row.tenant_id, row.name, row.collections, row.mark, row.created_at, row.revoked_at)
