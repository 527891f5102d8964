"""Sums over the ledger: exact, on every database. Days and months are those of UTC."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.errors import TooManyRows
from core.limits import EVERYONE, Subject, SubjectKind
from core.money import Money
from storage.schema import ledger
from storage.sql import Database

Group = Literal["day", "model", "endpoint", "key", "user", "team", "tenant"]
Filter = Literal["key", "user", "tenant"]

_DAY_S = 86_400
# The column of the ledger that names a subject of each kind.
COLUMNS = {
    SubjectKind.KEY: ledger.c.key_id,
    SubjectKind.USER: ledger.c.user_id,
    SubjectKind.TEAM: ledger.c.team_id,
    SubjectKind.TENANT: ledger.c.tenant_id,
    SubjectKind.MODEL: ledger.c.model_group,
    SubjectKind.ROUTE: ledger.c.route,
}
GROUPS = {
    "model": ledger.c.model_group,
    "endpoint": ledger.c.route,
    "key": ledger.c.key_id,
    "user": ledger.c.user_id,
    "team": ledger.c.team_id,
    "tenant": ledger.c.tenant_id,
}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one group used.

    Attributes:
        group: the value of each group asked for; None where lines name none.
        requests: requests with a line in this group.
    """

    group: Mapping[str, str | None]
    requests: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    nano_usd: int
    nano_usd_saved: int


async def spent(database: Database, tenant_id: str, subject: Subject, period: str) -> int:
    """Money that a subject of a tenant has spent, in nano-USD.

    Args:
        tenant_id: `EVERYONE` for what all tenants spent by a model group or route, or, as subject too, at all.
        period: a day as `2026-11-21` or a month as `2026-11`.

    Raises: ValueError: the period is neither; DependencyError: SQL is away.
    """
    start, end = bounds(period)
    total = sa.func.coalesce(sa.func.sum(ledger.c.nano_usd), 0)
    query = sa.select(total).where(ledger.c.at >= start, ledger.c.at < end)
    if (subject.kind, subject.id) != (SubjectKind.TENANT, EVERYONE):
        query = query.where(COLUMNS[subject.kind] == subject.id)
    # A key is of one tenant; to name that leads SQLite to the longer index.
    if tenant_id != EVERYONE and subject.kind is not SubjectKind.KEY:
        query = query.where(ledger.c.tenant_id == tenant_id)
    return int(await database.read(lambda connection: connection.scalar(query)) or 0)


async def usage(
    database: Database,
    first: date,
    last: date,
    group_by: Sequence[Group],
    only: Mapping[Filter, str],
    most_rows: int = 10_000,
) -> list[UsageRow]:
    """Sums from `first` to `last`, both included, ordered by their groups; without lines there are no rows.

    Args:
        only: count lines of this tenant, key or user; empty: all lines.

    Raises: TooManyRows: there are more than `most_rows`; DependencyError: SQL is away.
    """
    groups = [days_since_epoch(database, ledger.c.at) if group == "day" else GROUPS[group] for group in group_by]
    counts = (
        ledger.c.tokens_in,
        ledger.c.tokens_cached,
        ledger.c.tokens_out,
        ledger.c.nano_usd,
        ledger.c.nano_usd_saved,
    )
    query = (
        sa.select(*groups, sa.func.count(sa.distinct(ledger.c.request_id)), *(sa.func.sum(column) for column in counts))
        .where(ledger.c.at >= _start(first), ledger.c.at < _start(last + timedelta(days=1)))
        .where(*(GROUPS[name] == value for name, value in only.items()))
        .group_by(*groups)
        .limit(most_rows + 1)
    )

    async def find(connection: AsyncConnection) -> Sequence[Sequence[Any]]:
        return (await connection.execute(query)).all()

    rows = [_row(group_by, values) for values in await database.read(find) if values[len(groups)]]
    if len(rows) > most_rows:
        raise TooManyRows(f"the report has more than {most_rows:,} rows; ask for fewer days or groups")
    return sorted(rows, key=lambda row: [(value is not None, value or "") for value in row.group.values()])


def dollars(nano_usd: int) -> str:
    """An amount as a decimal number of US dollars, with all nine places."""
    return f"{Money(nano_usd).usd:.9f}"


def day_of(at_s: float) -> str:
    """The day of a moment, as `2026-11-21`."""
    return datetime.fromtimestamp(math.floor(at_s), UTC).date().isoformat()


def day_named(number: int) -> str:
    """The day that is so many days after the epoch, as `2026-11-21`."""
    return (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def days_since_epoch(database: Database, at_s: sa.Column[float]) -> sa.ColumnElement[int]:
    """The day of a moment. Whole seconds first, by each database's way to cut: then no division can round."""
    at = at_s if database.is_sqlite else sa.func.floor(at_s)
    return sa.cast(at, sa.BigInteger).op("/", return_type=sa.BigInteger())(sa.literal_column(str(_DAY_S)))


def month_of(day: str) -> str:
    """The month of a day, as `2026-11`."""
    return day[:7]


def bounds(period: str) -> tuple[float, float]:
    """Start and end of a day or month, in seconds since the epoch. Raises: ValueError."""
    if len(period) == 7:
        first = date.fromisoformat(f"{period}-01")
        return _start(first), _start((first + timedelta(days=31)).replace(day=1))
    first = date.fromisoformat(period)
    return _start(first), _start(first + timedelta(days=1))


def _start(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _row(group_by: Sequence[Group], values: Sequence[Any]) -> UsageRow:
    named, sums = values[: len(group_by)], values[len(group_by) :]
    group: dict[str, str | None] = {
        name: day_named(value) if name == "day" else value for name, value in zip(group_by, named, strict=True)
    }
    return UsageRow(group, *(int(value) for value in sums))
