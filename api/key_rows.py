"""Rows of API keys, each with its limits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.keytext import PREFIX_LENGTH, digest_of
from api.limits import bounds_of, write_limits
from api.limits_form import shown_limits
from core.ids import new_id
from core.limits import Limits, Subject, SubjectKind
from core.principal import CacheWish, Role
from core.priority import Priority
from core.reach import ANYWHERE, Reach
from storage.schema import api_keys, limits
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be known of a key later: everything but the key. Times are seconds since the epoch.

    Attributes:
        scopes: words of `api/roles.py`; None: whatever the role allows.
        generation: rises by one with each change.
    """

    id: str
    tenant_id: str
    name: str
    prefix: str
    role: Role
    user_id: str | None
    team_id: str | None
    scopes: Sequence[str] | None
    reach: Reach
    priority: Priority
    rescue: bool
    cache: CacheWish
    limits: Limits
    generation: int
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def is_over(self, now: float) -> bool:
        """Whether it was revoked or has expired."""
        return self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now)


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """A key to be made; its fields mean what those of `ApiKey` do."""

    name: str
    role: Role = Role.MEMBER
    user_id: str | None = None
    team_id: str | None = None
    scopes: Sequence[str] | None = None
    reach: Reach = ANYWHERE
    priority: Priority = Priority.NORMAL
    rescue: bool = True
    cache: CacheWish = CacheWish.OFF
    limits: Limits = field(default_factory=Limits)
    expires_at: float | None = None


async def insert_key(
    connection: AsyncConnection, database: Database, tenant_id: str, text: str, plan: KeyPlan, now: float
) -> tuple[ApiKey, dict[str, Any]]:
    """Write a key and its limits. Returns: the key, and what the audit log may say of it."""
    key_id = new_id("key")
    told = {
        "name": plan.name,
        "prefix": text[:PREFIX_LENGTH],
        "role": plan.role.value,
        "user_id": plan.user_id,
        "team_id": plan.team_id,
        "scopes": None if plan.scopes is None else sorted(set(plan.scopes)),
        "reach": plan.reach.row(),
        "priority": plan.priority.value,
        "rescue": plan.rescue,
        "cache": plan.cache.value,
        "expires_at": plan.expires_at,
    }
    row = {"id": key_id, "tenant_id": tenant_id, "sha256": digest_of(text), "created_at": now, "changed_at": now}
    await connection.execute(insert(api_keys).values(**row, **told))
    if plan.limits != Limits():
        await write_limits(connection, database, tenant_id, Subject(SubjectKind.KEY, key_id, plan.limits), now)
    [key] = await find_keys(connection, select(api_keys).where(api_keys.c.id == key_id))
    return key, {**told, "limits": shown_limits(plan.limits)}


async def find_keys(connection: AsyncConnection, query: Select[Any]) -> Sequence[ApiKey]:
    """The keys that a query of their table finds, in its order."""
    rows = (await connection.execute(query)).all()
    of_keys = select(limits).where(limits.c.kind == SubjectKind.KEY, limits.c.subject_id.in_([row.id for row in rows]))
    bounds = {row.subject_id: bounds_of(row) for row in await connection.execute(of_keys)}
    return [_key(row, bounds.get(row.id, Limits())) for row in rows]


def _key(row: Row[Any], bounds: Limits) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        prefix=row.prefix,
        role=Role(row.role),
        user_id=row.user_id,
        team_id=row.team_id,
        scopes=row.scopes,
        reach=Reach.read(row.reach),
        priority=Priority(row.priority),
        rescue=row.rescue,
        cache=CacheWish(row.cache),
        limits=bounds,
        generation=row.generation,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
