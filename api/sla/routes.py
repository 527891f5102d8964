"""/v1/admin/sla."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.errors import RequestInvalid
from api.identity import Caller
from api.roles import ROUTES
from api.sla.counting import KEPT_DAYS, class_of
from api.sla.report import Level, report
from api.state import State
from monitoring.rules.gateway import OBJECTIVE

routes = APIRouter(tags=["Administration"])

_CLASSES = sorted({found for _, template in ROUTES if (found := class_of(template)) is not None})


@routes.get("/v1/admin/sla")
async def get_sla(
    state: State,
    _: Caller,
    days: Annotated[int, Query(ge=1, le=KEPT_DAYS, description="Days in UTC, today included.")] = 30,
    route: Annotated[
        str | None, Query(description="The first word of routes after /v1, such as chat or query. Unset: all.")
    ] = None,
) -> dict[str, Any]:
    """Requests, errors, percentiles and uptime of all hosts, in all and by day, and the error budget that is left."""
    if route is not None and route not in _CLASSES:
        raise RequestInvalid(f"route is one of {', '.join(_CLASSES)}", "route")
    found = await report(state.database, state.clock, days, route)
    return {
        "object": "sla",
        "from": found.first.isoformat(),
        "to": found.last.isoformat(),
        "route": route,
        "objective": OBJECTIVE,
        "error_budget_left": found.total.budget_left,
        "total": _shown(found.total),
        "data": [{"day": day.isoformat(), **_shown(level)} for day, level in found.days.items()],
    }


def _shown(level: Level) -> dict[str, Any]:
    return {
        "requests": level.requests,
        "errors": level.errors,
        "error_rate": level.error_rate,
        "p50_s": level.quantile(0.5),
        "p95_s": level.quantile(0.95),
        "p99_s": level.quantile(0.99),
        "checks": level.checks,
        "good_checks": level.good,
        "uptime": level.uptime,
    }
