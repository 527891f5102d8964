"""Users: people of one tenant, made by an administrator or by their first token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.announcer import Announcer, Raised, raise_generations
from api.audit import note
from api.errors import NameTaken, UserNotFound
from api.teams import check_team
from core.clock import Clock
from core.ids import new_id
from core.principal import Role
from storage.schema import api_keys, users
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class User:
    """A user; `external_id` is `ISSUER|SUBJECT` of an identity provider. Times are seconds since the epoch."""

    id: str
    tenant_id: str
    team_id: str | None
    name: str
    external_id: str | None
    role: Role
    groups: Sequence[str]
    created_at: float
    disabled_at: float | None


@dataclass(frozen=True, slots=True)
class UserPlan:
    """A user to be made."""

    name: str
    role: Role
    team_id: str | None
    external_id: str | None
    groups: Sequence[str]


class Users:
    """The users, in SQL."""

    def __init__(self, database: Database, clock: Clock, announcer: Announcer) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer

    async def create(self, by: Actor, tenant: str | None, plan: UserPlan) -> User:
        """Raises: NotAllowed: the role is above the actor's; NameTaken; TenantNotFound; TeamNotFound."""
        by.check_role(plan.role)
        now = self._clock.time()
        user_id = new_id("user")

        async def act(connection: AsyncConnection) -> User:
            tenant_id = await reach(connection, by, tenant)
            await check_team(connection, by, plan.team_id, tenant_id)
            values = {
                "name": plan.name,
                "role": plan.role.value,
                "team_id": plan.team_id,
                "external_id": plan.external_id,
                "groups": sorted(set(plan.groups)),
            }
            row = {"id": user_id, "tenant_id": tenant_id, "created_at": now, "changed_at": now, **values}
            await connection.execute(insert(users).values(**row))
            await note(connection, by, now, tenant_id, "user.create", user_id, values)
            return await find_user(connection, by, user_id)

        try:
            return await self._database.write(act)
        except IntegrityError as error:
            raise NameTaken("another user of the tenant has this external_id", "external_id") from error

    async def page(self, by: Actor, tenant: str | None, name: str, after: str | None, limit: int) -> Sequence[User]:
        """A tenant's users in whose name `name` stands, the newest first. Raises: NotAllowed; TenantNotFound."""

        async def find(connection: AsyncConnection) -> Sequence[User]:
            query = select(users).where(users.c.tenant_id == await reach(connection, by, tenant))
            if name:
                query = query.where(users.c.name.icontains(name, autoescape=True))
            if after is not None:
                query = query.where(users.c.id < after)
            rows = await connection.execute(query.order_by(users.c.id.desc()).limit(limit))
            return [_user(row) for row in rows]

        return await self._database.read(find)

    async def get(self, by: Actor, user_id: str) -> User:
        """Raises: UserNotFound."""
        return await self._database.read(lambda connection: find_user(connection, by, user_id))

    async def change(self, by: Actor, user_id: str, changes: Mapping[str, Any]) -> User:
        """Change `name`, `role`, `team_id`, `groups` or `disabled`; a disabled user's keys and tokens end at once.

        Raises: UserNotFound; TeamNotFound; NotAllowed: the user's role, or the new one, is above the actor's.
        """
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> tuple[User, Sequence[Raised]]:
            before = await find_user(connection, by, user_id)
            by.check_role(before.role)
            by.check_role(changes.get("role", before.role))
            await check_team(connection, by, changes.get("team_id"), before.tenant_id)
            values = {name: changes[name] for name in ("name", "role", "team_id", "groups") if name in changes}
            if "groups" in values:
                values["groups"] = sorted(set(values["groups"]))
            if "disabled" in changes:
                values["disabled_at"] = (before.disabled_at or now) if changes["disabled"] else None
            await connection.execute(update(users).where(users.c.id == user_id).values(**values, changed_at=now))
            action = "user.disable" if changes.get("disabled") else "user.change"
            await note(connection, by, now, before.tenant_id, action, user_id, changes)
            raised = await raise_generations(connection, api_keys.c.user_id == user_id, now)
            return await find_user(connection, by, user_id), raised

        user, raised = await self._database.write(act)
        await self._announcer.announce(raised)
        return user


async def find_user(connection: AsyncConnection, by: Actor, user_id: str) -> User:
    """A user within reach. Raises: UserNotFound."""
    query = select(users).where(users.c.id == user_id, by.within(users.c.tenant_id))
    row = (await connection.execute(query)).first()
    if row is None:
        raise UserNotFound(f"there is no user {user_id}")
    return _user(row)


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        tenant_id=row.tenant_id,
        team_id=row.team_id,
        name=row.name,
        external_id=row.external_id,
        role=Role(row.role),
        groups=row.groups,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )
