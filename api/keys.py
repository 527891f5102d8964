"""API keys: made once, shown once, kept as a hash; changed, rotated and revoked."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.announcer import Announcer, Raised, raise_generations
from api.audit import note
from api.errors import KeyNotFound, RequestInvalid, UserNotFound
from api.key_rows import ApiKey, KeyPlan, find_keys, insert_key
from api.keytext import new_text
from api.limits import write_limits
from api.limits_form import shown_limits
from api.roles import SCOPES
from api.teams import check_team
from api.users import find_user
from core.clock import Clock
from core.limits import Subject, SubjectKind
from storage.schema import api_keys
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with the only copy of its text."""

    key: ApiKey
    text: str


class Keys:
    """The tenants' API keys, in SQL."""

    def __init__(self, database: Database, clock: Clock, announcer: Announcer) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer

    async def create(self, by: Actor, tenant: str | None, plan: KeyPlan, expires_in_s: int | None = None) -> NewKey:
        """Make a key of 160 random bits.

        Raises:
            NotAllowed: a role above the actor's, or another tenant.
            RequestInvalid: a scope that there is not.
            TenantNotFound, UserNotFound, TeamNotFound: none of that tenant.
        """
        by.check_role(plan.role)
        _check_scopes(plan.scopes)
        text = new_text()
        now = self._clock.time()
        dated = replace(plan, expires_at=_end(expires_in_s, now))

        async def act(connection: AsyncConnection) -> ApiKey:
            tenant_id = await reach(connection, by, tenant)
            await check_team(connection, by, plan.team_id, tenant_id)
            if plan.user_id is not None and (await find_user(connection, by, plan.user_id)).tenant_id != tenant_id:
                raise UserNotFound(f"there is no user {plan.user_id} in this tenant", "user")
            key, told = await insert_key(connection, self._database, tenant_id, text, dated, now)
            await note(connection, by, now, tenant_id, "key.create", key.id, told)
            return key

        return NewKey(await self._database.write(act), text)

    async def page(self, by: Actor, tenant: str | None, name: str, after: str | None, limit: int) -> Sequence[ApiKey]:
        """A tenant's keys in whose name `name` stands, the newest first, the revoked ones too.

        Raises: NotAllowed; TenantNotFound.
        """

        async def find(connection: AsyncConnection) -> Sequence[ApiKey]:
            query = select(api_keys).where(api_keys.c.tenant_id == await reach(connection, by, tenant))
            if name:
                query = query.where(api_keys.c.name.icontains(name, autoescape=True))
            if after is not None:
                query = query.where(api_keys.c.id < after)
            return await find_keys(connection, query.order_by(api_keys.c.id.desc()).limit(limit))

        return await self._database.read(find)

    async def get(self, by: Actor, key_id: str) -> ApiKey:
        """Raises: KeyNotFound."""
        return await self._database.read(lambda connection: _find(connection, by, key_id))

    async def change(self, by: Actor, key_id: str, changes: Mapping[str, Any]) -> ApiKey:
        """Change `name`, `role`, `scopes`, `priority`, `rescue`, `cache`, `expires_in_s` (from now), `limits` and
        `reach` (both of old ones).

        Raises: KeyNotFound; NotAllowed: the key's role, or the new one, is above the actor's; RequestInvalid.
        """
        now = self._clock.time()
        _check_scopes(changes.get("scopes"))

        async def act(connection: AsyncConnection) -> tuple[ApiKey, Sequence[Raised]]:
            before = await _lock(connection, by, key_id)
            by.check_role(changes.get("role", before.role))
            values = {
                name: changes[name]
                for name in ("name", "role", "scopes", "priority", "rescue", "cache")
                if name in changes
            }
            if "reach" in changes:
                values["reach"] = changes["reach"](before.reach).row()
            if "expires_in_s" in changes:
                values["expires_at"] = _end(changes["expires_in_s"], now)
            told = dict(values)
            if values:
                await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(**values))
            if "limits" in changes:
                bounds = changes["limits"](before.limits)
                subject = Subject(SubjectKind.KEY, key_id, bounds)
                await self._announcer.recount(before.tenant_id, subject)
                await write_limits(connection, self._database, before.tenant_id, subject, now)
                told["limits"] = shown_limits(bounds)
            raised = await raise_generations(connection, api_keys.c.id == key_id, now)
            await note(connection, by, now, before.tenant_id, "key.change", key_id, told)
            return await _find(connection, by, key_id), raised

        return await self._write(act)

    async def revoke(self, by: Actor, key_id: str) -> ApiKey:
        """End a key at once; revoking it again changes nothing.

        Raises: KeyNotFound; NotAllowed: the key's role is above the actor's.
        """
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> tuple[ApiKey, Sequence[Raised]]:
            before = await _lock(connection, by, key_id)
            raised = await _revoke(connection, key_id, now) if before.revoked_at is None else ()
            await note(connection, by, now, before.tenant_id, "key.revoke", key_id, {"prefix": before.prefix})
            return await _find(connection, by, key_id), raised

        return await self._write(act)

    async def rotate(self, by: Actor, key_id: str, overlap_s: int) -> NewKey:
        """Make a successor that differs in its text alone; the old key ends after `overlap_s` seconds, at once for 0.

        Raises: KeyNotFound: also of a key that has ended; NotAllowed: the key's role is above the actor's.
        """
        text = new_text()
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> tuple[ApiKey, Sequence[Raised]]:
            old = await _lock(connection, by, key_id)
            if old.is_over(now):
                raise KeyNotFound(f"key {key_id} has ended already; create a new one")
            plan = KeyPlan(
                name=old.name,
                role=old.role,
                user_id=old.user_id,
                team_id=old.team_id,
                scopes=old.scopes,
                reach=old.reach,
                priority=old.priority,
                rescue=old.rescue,
                cache=old.cache,
                limits=old.limits,
                expires_at=old.expires_at,
            )
            new, told = await insert_key(connection, self._database, old.tenant_id, text, plan, now)
            told = {**told, "successor": new.id, "overlap_s": overlap_s}
            await note(connection, by, now, old.tenant_id, "key.rotate", key_id, told)
            if overlap_s == 0:
                return new, await _revoke(connection, key_id, now)
            until = now + overlap_s if old.expires_at is None else min(old.expires_at, now + overlap_s)
            await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(expires_at=until))
            return new, await raise_generations(connection, api_keys.c.id == key_id, now)

        return NewKey(await self._write(act), text)

    async def _write(self, act: Callable[[AsyncConnection], Awaitable[tuple[ApiKey, Sequence[Raised]]]]) -> ApiKey:
        key, raised = await self._database.write(act)
        await self._announcer.announce(raised)
        return key


async def _find(connection: AsyncConnection, by: Actor, key_id: str) -> ApiKey:
    query = select(api_keys).where(api_keys.c.id == key_id, by.within(api_keys.c.tenant_id))
    found = await find_keys(connection, query)
    if not found:
        raise KeyNotFound(f"there is no key {key_id}")
    return found[0]


async def _lock(connection: AsyncConnection, by: Actor, key_id: str) -> ApiKey:
    """The key, which nobody else changes before the transaction ends. Raises: KeyNotFound; NotAllowed."""
    await connection.execute(select(api_keys.c.id).where(api_keys.c.id == key_id).with_for_update())
    key = await _find(connection, by, key_id)
    by.check_role(key.role)
    return key


async def _revoke(connection: AsyncConnection, key_id: str, now: float) -> Sequence[Raised]:
    await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now))
    return await raise_generations(connection, api_keys.c.id == key_id, now)


def _check_scopes(scopes: Sequence[str] | None) -> None:
    wrong = [scope for scope in scopes or () if scope not in SCOPES]
    if wrong:
        raise RequestInvalid(f"there is no scope {wrong[0]}; there are {', '.join(sorted(SCOPES))}", "scopes")


def _end(expires_in_s: int | None, now: float) -> float | None:
    return None if expires_in_s is None else now + expires_in_s
