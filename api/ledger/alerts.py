"""Budget alerts: stored once when a subject has spent 50, 80 or 100 % of a day's or month's limit."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.line import Line
from api.ledger.reports import COLUMNS, day_of, month_of, spent
from core.clock import Clock
from core.dependency import DependencyError
from core.limits import EVERYONE, Limits, Subject, SubjectKind
from monitoring.logs import logger
from monitoring.metrics import BUDGET_ALERTS
from storage.schema import budget_alerts, limits
from storage.sql import Database

PERCENTS = (50, 80, 100)
_Touched = tuple[str, SubjectKind, str, str]  # tenant, subject, and the day of a new line
_log = logger(__name__)


class Alerts:
    """Watches what new lines spent. Of its first check, every subject with a limit of money is part."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._touched: set[_Touched] = set()
        self._all = True
        for kind in SubjectKind:  # a series that begins with its first alert would show no increase
            for percent in PERCENTS:
                BUDGET_ALERTS.labels(kind.value, str(percent))

    def note(self, lines: Iterable[Line]) -> None:
        """Remember whose lines are in SQL now; some may come twice."""
        for line in lines:
            day = day_of(line.at)
            for kind, column in COLUMNS.items():
                subject_id = getattr(line, column.name)
                if subject_id is not None:
                    self._touched.add((line.tenant_id, kind, subject_id, day))
                if kind in (SubjectKind.MODEL, SubjectKind.ROUTE):
                    self._touched.add((EVERYONE, kind, subject_id, day))
            self._touched.add((EVERYONE, SubjectKind.TENANT, EVERYONE, day))

    async def check(self) -> int:
        """Look at what was noted since the last check. Returns: alerts that are new.

        Raises: DependencyError: SQL is away; the next check looks at the same and more.
        """
        touched, self._touched = self._touched, set()
        try:
            new = await self._check(touched)
        except BaseException:
            self._touched |= touched
            raise
        self._all = False
        return new

    async def _check(self, touched: set[_Touched]) -> int:
        if not touched and not self._all:
            return 0
        with_limits = await self._database.read(self._limits_of({tenant for tenant, *_ in touched}))
        today = day_of(self._clock.time())
        days: dict[tuple[str, SubjectKind, str], set[str]] = {}
        for tenant_id, kind, subject_id, day in touched:
            days.setdefault((tenant_id, kind, subject_id), set()).add(day)
        new, failure = 0, None
        for found in with_limits:
            subject = Subject(SubjectKind(found.kind), found.subject_id, _limits(found))
            its_days = days.get((found.tenant_id, subject.kind, subject.id), {today} if self._all else set())
            for period, limit in _periods(its_days, subject.limits):
                try:
                    new += await self._compare(found.tenant_id, subject, period, limit)
                except DependencyError as error:  # a sum that takes too long keeps nobody else's from being looked at
                    failure = error
        if failure is not None:
            raise failure
        return new

    def _limits_of(self, tenants: set[str]) -> Any:
        query = sa.select(limits).where(
            sa.or_(limits.c.nano_usd_per_day.is_not(None), limits.c.nano_usd_per_month.is_not(None))
        )
        if not self._all:
            query = query.where(limits.c.tenant_id.in_(tenants))

        async def find(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(query)).all()

        return find

    async def _compare(self, tenant_id: str, subject: Subject, period: str, limit: int) -> int:
        stored = sa.select(budget_alerts.c.percent).where(
            budget_alerts.c.tenant_id == tenant_id,
            budget_alerts.c.kind == subject.kind,
            budget_alerts.c.subject_id == subject.id,
            budget_alerts.c.period == period,
        )

        async def find(connection: AsyncConnection) -> set[int]:
            return set((await connection.execute(stored)).scalars())

        missing = set(PERCENTS) - await self._database.read(find)
        if not missing:
            return 0
        nano_usd = await spent(self._database, tenant_id, subject, period)
        due = sorted(percent for percent in missing if nano_usd > 0 and nano_usd * 100 >= limit * percent)
        if not due:
            return 0
        rows = [
            {
                "tenant_id": tenant_id,
                "kind": subject.kind.value,
                "subject_id": subject.id,
                "period": period,
                "percent": percent,
                "at": self._clock.time(),
            }
            for percent in due
        ]
        insert = self._database.insert_or_ignore(budget_alerts)

        async def store(connection: AsyncConnection) -> None:
            await connection.execute(insert, rows)

        await self._database.write(store)
        for percent in due:
            BUDGET_ALERTS.labels(subject.kind.value, str(percent)).inc()
            _log.warning(
                "budget alert", tenant=tenant_id, kind=subject.kind, subject=subject.id, period=period, percent=percent
            )
        return len(due)


def _limits(row: sa.Row[Any]) -> Limits:
    return Limits(nano_usd_per_day=row.nano_usd_per_day, nano_usd_per_month=row.nano_usd_per_month)


def _periods(days: set[str], bounds: Limits) -> list[tuple[str, int]]:
    """Each day and month with the limit that holds in it."""
    found = []
    if bounds.nano_usd_per_day is not None:
        found += [(day, bounds.nano_usd_per_day) for day in sorted(days)]
    if bounds.nano_usd_per_month is not None:
        found += [(month, bounds.nano_usd_per_month) for month in sorted({month_of(day) for day in days})]
    return found
