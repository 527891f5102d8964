"""/v1/admin/users."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.admin_keys import InTenant
from api.identity import Acting
from api.paging import After, Limit, Named, page
from api.state import State
from api.users import User, UserPlan
from core.principal import Role

routes = APIRouter(prefix="/v1/admin/users", tags=["Administration"])

Groups = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=500)]


class UserRequest(BaseModel):
    """A user to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: Role = Role.MEMBER
    tenant: str | None = Field(None, description="Id or name of a tenant, for admins. Unset: your own.")
    team: str | None = Field(None, description="Id of the user's team.")
    groups: Groups = Field(default_factory=list)
    external_id: str | None = Field(
        None, min_length=3, max_length=500, pattern=r"^[^|]+\|.+$", description="ISSUER|SUBJECT of the user's tokens."
    )


class UserChange(BaseModel):
    """What is to change; what is not named stays. null takes the team away."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", min_length=1, max_length=200)
    role: Role = Role.MEMBER
    team: str | None = None
    groups: Groups = Field(default_factory=list)
    disabled: bool = False

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        sent = self.model_dump(exclude_unset=True)
        if "team" in sent:
            sent["team_id"] = sent.pop("team")
        return sent


@routes.post("", status_code=201)
async def create_user(asked: UserRequest, state: State, by: Acting) -> dict[str, Any]:
    """Make a user before the first token or key."""
    plan = UserPlan(asked.name, asked.role, asked.team, asked.external_id, asked.groups)
    return _shown(await state.directory.users.create(by, asked.tenant, plan))


@routes.get("")
async def list_users(
    state: State, by: Acting, tenant: InTenant = None, name: Named = "", after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The tenant's users, the newest first."""
    return page(await state.directory.users.page(by, tenant, name, after, limit + 1), limit, _shown)


@routes.get("/{user_id}")
async def get_user(user_id: str, state: State, by: Acting) -> dict[str, Any]:
    """One user."""
    return _shown(await state.directory.users.get(by, user_id))


@routes.patch("/{user_id}")
async def change_user(user_id: str, asked: UserChange, state: State, by: Acting) -> dict[str, Any]:
    """Change a user; the next request of each of their keys and tokens is held to it."""
    return _shown(await state.directory.users.change(by, user_id, asked.changes()))


@routes.delete("/{user_id}")
async def disable_user(user_id: str, state: State, by: Acting) -> dict[str, Any]:
    """Disable a user: every key and token of theirs is refused from its next request on. Nothing is deleted."""
    return _shown(await state.directory.users.change(by, user_id, {"disabled": True}))


def _shown(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "object": "user",
        "name": user.name,
        "role": user.role.value,
        "tenant": user.tenant_id,
        "team": user.team_id,
        "groups": list(user.groups),
        "external_id": user.external_id,
        "created_at": int(user.created_at),
        "disabled_at": None if user.disabled_at is None else int(user.disabled_at),
    }
