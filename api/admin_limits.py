"""/v1/admin/limits/{kind}/{subject_id}."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from api.admin_keys import InTenant
from api.exact import ExactRoute
from api.identity import Acting
from api.limits_form import LimitsForm, shown_limits
from api.state import State
from core.limits import Limits, Subject, SubjectKind

routes = APIRouter(prefix="/v1/admin/limits", tags=["Administration"], route_class=ExactRoute)

SubjectId = Annotated[str, Path(max_length=200, description="An id; of a model its group, of a route its template.")]


@routes.put("/{kind}/{subject_id:path}")
async def set_limits(
    kind: SubjectKind, subject_id: SubjectId, asked: LimitsForm, state: State, by: Acting, tenant: InTenant = None
) -> dict[str, Any]:
    """Give a subject these limits and no others.

    A model's and a route's are those of one tenant, or, with `tenant=*`, of all tenants together; the tenant
    `*` stands for all of them, too.
    """
    return _shown(*await state.directory.limits.put(by, kind, subject_id, tenant, asked.on(Limits())))


@routes.get("/{kind}/{subject_id:path}")
async def get_limits(
    kind: SubjectKind, subject_id: SubjectId, state: State, by: Acting, tenant: InTenant = None
) -> dict[str, Any]:
    """A subject's limits."""
    return _shown(*await state.directory.limits.get(by, kind, subject_id, tenant))


@routes.delete("/{kind}/{subject_id:path}")
async def remove_limits(
    kind: SubjectKind, subject_id: SubjectId, state: State, by: Acting, tenant: InTenant = None
) -> dict[str, Any]:
    """Take a subject's limits away."""
    await state.directory.limits.delete(by, kind, subject_id, tenant)
    return {"id": subject_id, "object": "limits.deleted", "kind": kind.value, "deleted": True}


def _shown(tenant_id: str, subject: Subject) -> dict[str, Any]:
    return {
        "id": subject.id,
        "object": "limits",
        "kind": subject.kind.value,
        "tenant": tenant_id,
        **shown_limits(subject.limits),
    }
