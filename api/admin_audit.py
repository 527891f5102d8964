"""/v1/admin/audit."""

from typing import Any

from fastapi import APIRouter

from api.admin_keys import InTenant
from api.audit import AuditEntry
from api.identity import Acting
from api.paging import After, Limit, page
from api.state import State

routes = APIRouter(prefix="/v1/admin/audit", tags=["Administration"])


@routes.get("")
async def list_acts(
    state: State, by: Acting, tenant: InTenant = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """What administrators did to a tenant, or, with `tenant=*`, to all together, the newest first."""
    return page(await state.directory.audit.page(by, tenant, after, limit + 1), limit, _shown)


def _shown(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "object": "audit_entry",
        "at": int(entry.at),
        "tenant": entry.tenant_id,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "request_id": entry.request_id,
        "details": dict(entry.details),
    }
