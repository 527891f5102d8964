"""/v1/usage/limits and /v1/usage/requests/{request_id}: what bounds a caller, and what one request of theirs cost."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path

from api.errors import RequestNotFound
from api.identity import Caller, Identified
from api.ledger.reports import dollars, month_of, spent
from api.ledger.requests import Segment, segments_of
from api.limits_form import shown_limits
from api.state import AppState, State
from api.usage import own_lines
from core.limits import Subject, SubjectKind
from core.principal import Principal, Role

routes = APIRouter(prefix="/v1/usage", tags=["Usage"])

_OWN = (SubjectKind.KEY, SubjectKind.USER)
_SEES_OTHERS = (Role.MANAGER, Role.ADMIN)

RequestId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="The answer's `x-request-id`.", max_length=128)
]


@routes.get("/limits")
async def get_limits(state: State, identity: Identified) -> dict[str, Any]:
    """The limits that hold for you: those of your key, user, team and tenant, and what is left of their budgets.

    What a team or tenant has spent is told to managers and admins alone.
    """
    bound = [subject for subject in identity.subjects if not subject.common]
    return {"object": "list", "data": [await _shown(state, identity.principal, subject) for subject in bound]}


@routes.get("/requests/{request_id}")
async def get_request(request_id: RequestId, state: State, principal: Caller) -> dict[str, Any]:
    """What a request of yours cost, by its `x-request-id`; of any of your tenant, if you are manager or admin."""
    found = await segments_of(state.database, request_id, own_lines(principal))
    if not found:
        raise RequestNotFound(
            f"no request {request_id!r} of yours stands in the ledger: send the x-request-id of a model's answer, and "
            "where that is younger than a few seconds, ask again in a moment",
            "request_id",
        )
    return {
        "id": request_id,
        "object": "usage.request",
        "tokens_in": sum(one.tokens_in for one in found),
        "tokens_cached": sum(one.tokens_cached for one in found),
        "tokens_out": sum(one.tokens_out for one in found),
        "usd": dollars(sum(one.nano_usd for one in found)),
        "usd_saved": dollars(sum(one.nano_usd_saved for one in found)),
        "segments": [_segment(one) for one in found],
        "created_at": int(found[0].at),
    }


async def _shown(state: AppState, principal: Principal, subject: Subject) -> dict[str, Any]:
    shown = {"id": subject.id, "object": "limits", "kind": subject.kind.value, **shown_limits(subject.limits)}
    if subject.kind in _OWN or principal.role in _SEES_OTHERS:
        day = datetime.fromtimestamp(state.clock.time(), UTC).date().isoformat()
        for name, bound, period in (
            ("usd_today", subject.limits.nano_usd_per_day, day),
            ("usd_this_month", subject.limits.nano_usd_per_month, month_of(day)),
        ):
            if bound is not None:
                shown[name] = dollars(await spent(state.database, principal.tenant_id, subject, period))
    return shown


def _segment(one: Segment) -> dict[str, Any]:
    return {
        "endpoint": one.route,
        "model": one.model_group,
        "deployment": one.deployment,
        "tokens_in": one.tokens_in,
        "tokens_cached": one.tokens_cached,
        "tokens_out": one.tokens_out,
        "usd": dollars(one.nano_usd),
        "cache": one.cache,
        "outcome": one.outcome,
        "latency_ms": round(one.latency_ms, 1),
        "ttft_ms": None if one.ttft_ms is None else round(one.ttft_ms, 1),
    }
