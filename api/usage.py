"""/v1/usage and /v1/admin/usage: what was used, as JSON or CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response

from api.errors import NotAllowed, RequestInvalid
from api.identity import Caller
from api.ledger.reports import Filter, Group, UsageRow, dollars, usage
from api.state import AppState, State
from core.principal import Principal, Role

routes = APIRouter(tags=["Usage"])

_LONGEST_DAYS = 366
_SEES_THE_TENANT = (Role.MANAGER, Role.ADMIN)
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # what a spreadsheet takes for the start of one

From = Annotated[date | None, Query(alias="from", description="First day, UTC. Unset: 29 days before the last.")]
To = Annotated[date | None, Query(description="Last day, UTC, included. Unset: today.")]
GroupBy = Annotated[
    str, Query(description=f"One line for each of these, separated by commas: {', '.join(get_args(Group))}.")
]
Form = Annotated[Literal["json", "csv"], Query(alias="format")]


@routes.get("/v1/usage")
async def get_usage(
    state: State, principal: Caller, first: From = None, to: To = None, group_by: GroupBy = "day", form: Form = "json"
) -> Response:
    """Requests, tokens and money of your key; of your tenant, where your role is manager or admin."""
    return await _report(state, first, to, group_by, form, own_lines(principal))


@routes.get("/v1/admin/usage")
async def get_all_usage(
    state: State,
    _: Caller,
    first: From = None,
    to: To = None,
    group_by: GroupBy = "day",
    form: Form = "json",
    tenant: Annotated[str | None, Query(description="Id of one tenant. Unset: all.")] = None,
) -> Response:
    """Requests, tokens and money of all tenants, or of one."""
    return await _report(state, first, to, group_by, form, {} if tenant is None else {"tenant": tenant})


def own_lines(principal: Principal) -> Mapping[Filter, str]:
    """Which lines of the ledger a caller may see. Raises: NotAllowed: there are none."""
    if principal.role in _SEES_THE_TENANT:
        return {"tenant": principal.tenant_id}
    if principal.key_id is not None:
        return {"tenant": principal.tenant_id, "key": principal.key_id}
    if principal.user_id is not None:
        return {"tenant": principal.tenant_id, "user": principal.user_id}
    raise NotAllowed("this shows the usage of a key or a user, and you came with neither")


async def _report(
    state: AppState, first: date | None, to: date | None, group_by: str, form: str, only: Mapping[Filter, str]
) -> Response:
    today = datetime.fromtimestamp(state.clock.time(), UTC).date()
    last = min(to or today, today)
    first = first or date.fromordinal(max(1, last.toordinal() - 29))
    if not 0 <= (last - first).days < _LONGEST_DAYS:
        raise RequestInvalid(f"from must be at most today and to, and at most {_LONGEST_DAYS - 1} days before", "from")
    groups = _groups(group_by)
    rows = await usage(state.database, first, last, groups, only)
    return _as_csv(groups, rows) if form == "csv" else JSONResponse({"object": "list", "data": [*map(_shown, rows)]})


def _groups(group_by: str) -> list[Group]:
    asked = [part.strip() for part in group_by.split(",") if part.strip()]
    groups = [group for part in asked for group in get_args(Group) if group == part]
    if len(set(groups)) != len(asked):
        raise RequestInvalid(f"group_by takes each of {', '.join(get_args(Group))} at most once", "group_by")
    return groups


def _shown(row: UsageRow) -> dict[str, Any]:
    return {
        **row.group,
        "requests": row.requests,
        "tokens_in": row.tokens_in,
        "tokens_cached": row.tokens_cached,
        "tokens_out": row.tokens_out,
        "nano_usd": row.nano_usd,
        "usd": dollars(row.nano_usd),
        "usd_saved": dollars(row.nano_usd_saved),
    }


def _as_csv(groups: Sequence[Group], rows: Sequence[UsageRow]) -> Response:
    text = io.StringIO()
    names = [*groups, "requests", "tokens_in", "tokens_cached", "tokens_out", "nano_usd", "usd", "usd_saved"]
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in _shown(row).items()} for row in rows)
    headers = {"content-disposition": 'attachment; filename="usage.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
