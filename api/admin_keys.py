"""/v1/admin/keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from api.errors import NotSupportedYet
from api.identity import Admin
from api.keys import ApiKey, NewKey
from api.state import State
from core.principal import Role

routes = APIRouter(prefix="/v1/admin/keys", tags=["Administration"])
KeyId = Annotated[str, Path(description="The key's id, as the list shows it.")]


class KeyRequest(BaseModel):
    """A key to be made. What this version cannot enforce it refuses, so that nobody counts on it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: Role = Role.MEMBER
    expires_in_s: int | None = Field(None, ge=1, le=10 * 365 * 86_400)
    tenant: str | None = None
    scopes: list[str] | None = None
    limits: dict[str, Any] | None = None
    local_only: bool | None = None

    def refuse_what_is_not_enforced(self) -> None:
        """Raises: NotSupportedYet."""
        for field in ("tenant", "scopes", "limits", "local_only"):
            if getattr(self, field) not in (None, {}, [], False) and not (
                field == "tenant" and self.tenant == "default"
            ):
                raise NotSupportedYet(f"{field} of a key is not enforced yet, so it is refused; leave it out", field)


@routes.post("", status_code=201)
async def create_key(asked: KeyRequest, state: State, principal: Admin) -> dict[str, Any]:
    """Make a key; its text is in this answer and nowhere else, ever."""
    asked.refuse_what_is_not_enforced()
    return _shown_once(await state.keys.create(principal.tenant_id, asked.name, asked.role, asked.expires_in_s))


@routes.get("")
async def list_keys(state: State, principal: Admin) -> dict[str, Any]:
    """The tenant's keys, without their texts."""
    return {"object": "list", "data": [_shown(key) for key in await state.keys.list(principal.tenant_id)]}


@routes.delete("/{key_id}")
async def revoke_key(key_id: KeyId, state: State, principal: Admin) -> dict[str, Any]:
    """End a key: its next request is refused."""
    return _shown(await state.keys.revoke(principal.tenant_id, key_id))


@routes.post("/{key_id}/rotate", status_code=201)
async def rotate_key(key_id: KeyId, state: State, principal: Admin) -> dict[str, Any]:
    """Replace a key by one with the same name, role and expiry; the old one ends at once."""
    return _shown_once(await state.keys.rotate(principal.tenant_id, key_id))


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "object": "api_key",
        "name": key.name,
        "prefix": key.prefix,
        "role": key.role.value,
        "tenant": key.tenant_id,
        "created_at": int(key.created_at),
        "expires_at": None if key.expires_at is None else int(key.expires_at),
        "revoked_at": None if key.revoked_at is None else int(key.revoked_at),
    }


def _shown_once(new: NewKey) -> dict[str, Any]:
    return {**_shown(new.key), "key": new.text}
