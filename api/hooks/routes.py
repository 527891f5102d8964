"""/v1/hooks/ingest, and /v1/admin/hooks, whose signed messages it takes."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.admin_keys import InTenant
from api.hooks.hooks import Hook
from api.identity import Acting
from api.ingest_form import SCHEMA
from api.paging import After, Limit, page
from api.state import State

routes = APIRouter()

_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": SCHEMA}}}}


class HookRequest(BaseModel):
    """A hook to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    tenant: str | None = Field(None, description="Id or name of a tenant, for admins. Unset: your own.")
    collections: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(
        None, min_length=1, max_length=100, description="Names of the collections that it may put into. null: all."
    )


@routes.post("/v1/hooks/ingest", status_code=202, tags=["Documents"], openapi_extra=_BODY)
async def ingest_by_hook(
    request: Request, state: State, hook: Annotated[str, Query(description="The hook's id.")] = ""
) -> dict[str, Any]:
    """Take documents in that come with a signature (Standard Webhooks) in place of a key; each message once."""
    body = await request.body()
    found, signed = await state.directory.hooks.checked(hook, request.headers, body)
    return await state.receiving.take(found, signed, body)


@routes.post("/v1/admin/hooks", status_code=201, tags=["Administration"])
async def create_hook(asked: HookRequest, state: State, by: Acting, response: Response) -> dict[str, Any]:
    """Make a hook; its secret is in this answer and nowhere else, ever."""
    hook, secret = await state.directory.hooks.create(by, asked.tenant, asked.name, asked.collections)
    response.headers["cache-control"] = "no-store"  # of any cache, that of `Idempotency-Key` included
    return {**_shown(hook), "secret": secret}


@routes.get("/v1/admin/hooks", tags=["Administration"])
async def list_hooks(
    state: State, by: Acting, tenant: InTenant = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The tenant's hooks, the newest first, without their secrets."""
    return page(await state.directory.hooks.page(by, tenant, after, limit + 1), limit, _shown)


@routes.get("/v1/admin/hooks/{hook_id}", tags=["Administration"])
async def get_hook(hook_id: str, state: State, by: Acting) -> dict[str, Any]:
    """One hook, without its secret."""
    return _shown(await state.directory.hooks.get(by, hook_id))


@routes.delete("/v1/admin/hooks/{hook_id}", tags=["Administration"])
async def revoke_hook(hook_id: str, state: State, by: Acting) -> dict[str, Any]:
    """End a hook: its next message is refused."""
    return _shown(await state.directory.hooks.revoke(by, hook_id))


def _shown(hook: Hook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "object": "hook",
        "name": hook.name,
        "tenant": hook.tenant_id,
        "collections": hook.collections,
        "url": f"/v1/hooks/ingest?hook={hook.id}",
        "created_at": int(hook.created_at),
        "revoked_at": None if hook.revoked_at is None else int(hook.revoked_at),
    }
