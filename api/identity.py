"""Who is asking, and whether they may."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from api.errors import NotAllowed, NotAuthenticated
from api.record import record_of
from api.state import AppState, state_of
from core.principal import Principal, Role

_RANK = {Role.MEMBER: 0, Role.ADMIN: 1}


def _shown_key(request: Request) -> str:
    """The key in `Authorization: Bearer KEY` or `X-API-Key: KEY`. Raises: NotAuthenticated."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    key = value.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
    if not key:
        raise NotAuthenticated("no API key was sent: add the header `Authorization: Bearer KEY`")
    return key


def _require(role: Role) -> Callable[[Request, AppState], Awaitable[Principal]]:
    async def identify(request: Request, state: Annotated[AppState, Depends(state_of)]) -> Principal:
        principal = await state.keys.identify(_shown_key(request))
        if principal is None:
            raise NotAuthenticated(
                "this API key is not known, or has expired or been revoked; make one with `./stoker keys create NAME`"
            )
        record = record_of(request)
        record.tenant_id, record.key_id = principal.tenant_id, principal.key_id
        if _RANK[principal.role] < _RANK[role]:
            raise NotAllowed(f"this needs a key of the role {role}; yours has the role {principal.role}")
        return principal

    return identify


Member = Annotated[Principal, Depends(_require(Role.MEMBER))]
Admin = Annotated[Principal, Depends(_require(Role.ADMIN))]
