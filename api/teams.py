"""Teams: users and keys of one tenant that share limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.audit import note
from api.errors import NameTaken, TeamNotFound
from core.clock import Clock
from core.ids import new_id
from storage.schema import teams
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Team:
    """A team; `created_at` in seconds since the epoch."""

    id: str
    tenant_id: str
    name: str
    created_at: float


class Teams:
    """The teams, in SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, by: Actor, tenant: str | None, name: str) -> Team:
        """Raises: NameTaken; NotAllowed; TenantNotFound."""
        now = self._clock.time()
        team_id = new_id("team")

        async def act(connection: AsyncConnection) -> Team:
            tenant_id = await reach(connection, by, tenant)
            row = {"id": team_id, "tenant_id": tenant_id, "name": name, "created_at": now}
            await connection.execute(insert(teams).values(**row))
            await note(connection, by, now, tenant_id, "team.create", team_id, {"name": name})
            return await find_team(connection, by, team_id)

        try:
            return await self._database.write(act)
        except IntegrityError as error:
            raise NameTaken(f"there is a team {name} already", "name") from error

    async def page(self, by: Actor, tenant: str | None, name: str, after: str | None, limit: int) -> Sequence[Team]:
        """A tenant's teams in whose name `name` stands, the newest first. Raises: NotAllowed; TenantNotFound."""

        async def find(connection: AsyncConnection) -> Sequence[Team]:
            query = select(teams).where(teams.c.tenant_id == await reach(connection, by, tenant))
            if name:
                query = query.where(teams.c.name.icontains(name, autoescape=True))
            if after is not None:
                query = query.where(teams.c.id < after)
            rows = await connection.execute(query.order_by(teams.c.id.desc()).limit(limit))
            return [_team(row) for row in rows]

        return await self._database.read(find)

    async def get(self, by: Actor, team_id: str) -> Team:
        """Raises: TeamNotFound."""
        return await self._database.read(lambda connection: find_team(connection, by, team_id))

    async def rename(self, by: Actor, team_id: str, name: str) -> Team:
        """Raises: TeamNotFound; NameTaken."""
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> Team:
            before = await find_team(connection, by, team_id)
            await connection.execute(update(teams).where(teams.c.id == team_id).values(name=name))
            await note(connection, by, now, before.tenant_id, "team.change", team_id, {"name": name})
            return await find_team(connection, by, team_id)

        try:
            return await self._database.write(act)
        except IntegrityError as error:
            raise NameTaken(f"there is a team {name} already", "name") from error


async def find_team(connection: AsyncConnection, by: Actor, team_id: str) -> Team:
    """A team within reach. Raises: TeamNotFound."""
    query = select(teams).where(teams.c.id == team_id, by.within(teams.c.tenant_id))
    row = (await connection.execute(query)).first()
    if row is None:
        raise TeamNotFound(f"there is no team {team_id}")
    return _team(row)


async def check_team(connection: AsyncConnection, by: Actor, team_id: str | None, tenant_id: str) -> None:
    """Let through no team, or one of this tenant. Raises: TeamNotFound."""
    if team_id is not None and (await find_team(connection, by, team_id)).tenant_id != tenant_id:
        raise TeamNotFound(f"there is no team {team_id} in this tenant", "team")


def _team(row: Row[Any]) -> Team:
    return Team(row.id, row.tenant_id, row.name, row.created_at)
