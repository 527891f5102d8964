"""/v1/admin/teams."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.admin_keys import InTenant
from api.identity import Acting
from api.paging import After, Limit, Named, page
from api.state import State
from api.teams import Team

routes = APIRouter(prefix="/v1/admin/teams", tags=["Administration"])


class TeamRequest(BaseModel):
    """A team to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    tenant: str | None = Field(None, description="Id or name of a tenant, for admins. Unset: your own.")


class TeamChange(BaseModel):
    """What is to change."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)


@routes.post("", status_code=201)
async def create_team(asked: TeamRequest, state: State, by: Acting) -> dict[str, Any]:
    """Make a team; its name is unique within the tenant."""
    return _shown(await state.directory.teams.create(by, asked.tenant, asked.name))


@routes.get("")
async def list_teams(
    state: State, by: Acting, tenant: InTenant = None, name: Named = "", after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The tenant's teams, the newest first."""
    return page(await state.directory.teams.page(by, tenant, name, after, limit + 1), limit, _shown)


@routes.get("/{team_id}")
async def get_team(team_id: str, state: State, by: Acting) -> dict[str, Any]:
    """One team."""
    return _shown(await state.directory.teams.get(by, team_id))


@routes.patch("/{team_id}")
async def change_team(team_id: str, asked: TeamChange, state: State, by: Acting) -> dict[str, Any]:
    """Rename a team."""
    return _shown(await state.directory.teams.rename(by, team_id, asked.name))


def _shown(team: Team) -> dict[str, Any]:
    return {
        "id": team.id,
        "object": "team",
        "name": team.name,
        "tenant": team.tenant_id,
        "created_at": int(team.created_at),
    }
