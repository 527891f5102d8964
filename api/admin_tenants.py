"""/v1/admin/tenants."""

from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.identity import Acting
from api.paging import After, Limit, page
from api.reach_form import FIELDS, ReachForm, shown_reach
from api.state import State
from api.tenants import Tenant

routes = APIRouter(prefix="/v1/admin/tenants", tags=["Administration"])


class TenantRequest(ReachForm):
    """A tenant to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)


class TenantChange(ReachForm):
    """What is to change; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", min_length=1, max_length=200)
    disabled: bool = False

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        sent = self.model_dump(exclude_unset=True, exclude=set(FIELDS))
        return sent if FIELDS.isdisjoint(self.model_fields_set) else {**sent, "reach": self.reach}


@routes.post("", status_code=201)
async def create_tenant(asked: TenantRequest, state: State, by: Acting) -> dict[str, Any]:
    """Make a tenant; its name is unique."""
    return _shown(await state.directory.tenants.create(by, asked.name, asked.reach()))


@routes.get("")
async def list_tenants(state: State, by: Acting, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """All tenants, the newest first; a manager sees the own one."""
    return page(await state.directory.tenants.page(by, after, limit + 1), limit, _shown)


@routes.get("/{tenant_id}")
async def get_tenant(tenant_id: str, state: State, by: Acting) -> dict[str, Any]:
    """One tenant."""
    return _shown(await state.directory.tenants.get(by, tenant_id))


@routes.patch("/{tenant_id}")
async def change_tenant(tenant_id: str, asked: TenantChange, state: State, by: Acting) -> dict[str, Any]:
    """Change a tenant; its next request is held to it."""
    return _shown(await state.directory.tenants.change(by, tenant_id, asked.changes()))


@routes.delete("/{tenant_id}")
async def disable_tenant(tenant_id: str, state: State, by: Acting) -> dict[str, Any]:
    """Disable a tenant: every key and token of it is refused from its next request on. Nothing is deleted."""
    return _shown(await state.directory.tenants.change(by, tenant_id, {"disabled": True}))


def _shown(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "object": "tenant",
        "name": tenant.name,
        **shown_reach(tenant.reach),
        "created_at": int(tenant.created_at),
        "disabled_at": None if tenant.disabled_at is None else int(tenant.disabled_at),
    }
