"""/v1/admin/keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.exact import ExactRoute
from api.identity import Acting
from api.key_rows import ApiKey, KeyPlan
from api.keys import NewKey
from api.limits_form import LimitsForm, shown_limits
from api.paging import After, Limit, Named, page
from api.reach_form import FIELDS, ReachForm, shown_reach
from api.state import State
from core.limits import Limits
from core.principal import CacheWish, Role
from core.priority import Priority

routes = APIRouter(prefix="/v1/admin/keys", tags=["Administration"], route_class=ExactRoute)

KeyId = Annotated[str, Path(description="The key's id, as the list shows it.")]
InTenant = Annotated[str | None, Query(description="Id or name of a tenant, for admins. Unset: your own.")]
Scopes = Annotated[
    list[str] | None,
    Field(max_length=50, description="Words such as chat or collections:read. null: whatever the role allows."),
]
_TEN_YEARS_S = 10 * 365 * 86_400
_WEEK_S = 7 * 86_400


class KeyRequest(ReachForm):
    """A key to be made. A limit that is not named is the default of a new key; null means none."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: Role = Role.MEMBER
    tenant: str | None = Field(None, description="Id or name of a tenant, for admins. Unset: your own.")
    user: str | None = Field(None, description="Id of the user that it belongs to.")
    team: str | None = Field(None, description="Id of the team that it belongs to. Unset: the user's.")
    scopes: Scopes = None
    limits: LimitsForm = Field(default_factory=LimitsForm)
    priority: Priority = Field(
        Priority.NORMAL, description="Who waits when a model has more to do than it can: interactive last, batch first."
    )
    rescue: bool = Field(True, description="Where a stream of this key breaks, another deployment may go on with it.")
    cache: CacheWish = Field(
        CacheWish.OFF, description="What of the cache will do for a model request that does not say so itself."
    )
    expires_in_s: int | None = Field(None, ge=1, le=_TEN_YEARS_S)


class KeyChange(ReachForm):
    """What is to change; what is not named stays. null takes scopes, expiry or a limit away."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", min_length=1, max_length=200)
    role: Role = Role.MEMBER
    scopes: Scopes = None
    limits: LimitsForm = Field(default_factory=LimitsForm)
    priority: Priority = Priority.NORMAL
    rescue: bool = True
    cache: CacheWish = CacheWish.OFF
    expires_in_s: int | None = Field(None, ge=1, le=_TEN_YEARS_S, description="Counted from now.")

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        sent = {name: getattr(self, name) for name in self.model_fields_set}
        if "limits" in sent:
            sent["limits"] = self.limits.on
        if not FIELDS.isdisjoint(sent):
            sent["reach"] = self.reach
        return sent


class RotateRequest(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: int = Field(0, ge=0, le=_WEEK_S, description="Seconds for which the old key works beside the new one.")


@routes.post("", status_code=201)
async def create_key(asked: KeyRequest, state: State, by: Acting, response: Response) -> dict[str, Any]:
    """Make a key; its text is in this answer and nowhere else, ever."""
    plan = KeyPlan(
        name=asked.name,
        role=asked.role,
        user_id=asked.user,
        team_id=asked.team,
        scopes=asked.scopes,
        reach=asked.reach(),
        priority=asked.priority,
        rescue=asked.rescue,
        cache=asked.cache,
        limits=asked.limits.on(state.settings.key_limits()),
    )
    return _shown_once(await state.directory.keys.create(by, asked.tenant, plan, asked.expires_in_s), response)


@routes.get("")
async def list_keys(
    state: State, by: Acting, tenant: InTenant = None, name: Named = "", after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The tenant's keys, the newest first, without their texts."""
    return page(await state.directory.keys.page(by, tenant, name, after, limit + 1), limit, _shown)


@routes.get("/{key_id}")
async def get_key(key_id: KeyId, state: State, by: Acting) -> dict[str, Any]:
    """One key, without its text."""
    return _shown(await state.directory.keys.get(by, key_id))


@routes.patch("/{key_id}")
async def change_key(key_id: KeyId, asked: KeyChange, state: State, by: Acting) -> dict[str, Any]:
    """Change a key; its next request is held to it."""
    return _shown(await state.directory.keys.change(by, key_id, asked.changes()))


@routes.delete("/{key_id}")
async def revoke_key(key_id: KeyId, state: State, by: Acting) -> dict[str, Any]:
    """End a key: its next request is refused."""
    return _shown(await state.directory.keys.revoke(by, key_id))


@routes.post("/{key_id}/rotate", status_code=201)
async def rotate_key(
    key_id: KeyId, state: State, by: Acting, response: Response, asked: RotateRequest | None = None
) -> dict[str, Any]:
    """Replace a key by one that differs in its text alone; the old one ends at once, or after the overlap."""
    return _shown_once(await state.directory.keys.rotate(by, key_id, asked.overlap_s if asked else 0), response)


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "object": "api_key",
        "name": key.name,
        "prefix": key.prefix,
        "role": key.role.value,
        "tenant": key.tenant_id,
        "user": key.user_id,
        "team": key.team_id,
        "scopes": key.scopes,
        "limits": None if key.limits == Limits() else shown_limits(key.limits),
        **shown_reach(key.reach),
        "priority": key.priority.value,
        "rescue": key.rescue,
        "cache": key.cache.value,
        "created_at": int(key.created_at),
        "expires_at": None if key.expires_at is None else int(key.expires_at),
        "revoked_at": None if key.revoked_at is None else int(key.revoked_at),
    }


def _shown_once(new: NewKey, response: Response) -> dict[str, Any]:
    response.headers["cache-control"] = "no-store"  # of any cache, that of `Idempotency-Key` included
    return {**_shown(new.key), "key": new.text}
