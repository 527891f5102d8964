"""What the counted hours say over days: over all hosts, of all routes or of one class."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.sla.counting import DAY_S
from core.clock import Clock
from monitoring.metrics import LATENCY_S
from monitoring.rules.gateway import OBJECTIVE
from storage.schema import sla_checks, sla_hours, sla_latencies
from storage.sql import Database

_EPOCH = date(1970, 1, 1)
_BOUNDS = (*map(float, LATENCY_S), math.inf)


@dataclass(slots=True)
class Level:
    """The level over some time.

    Attributes:
        errors: answers with a status of 500 or above.
        latencies: requests by the upper bound of their bucket, in seconds; without those of the buckets below.
        checks: times that a gateway was asked whether it is ready; `good`: that it said so.
    """

    requests: int = 0
    errors: int = 0
    checks: int = 0
    good: int = 0
    latencies: dict[float, int] = field(default_factory=dict)

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    @property
    def uptime(self) -> float | None:
        return self.good / self.checks if self.checks else None

    @property
    def budget_left(self) -> float | None:
        """Of the errors that the objective allows, the share that is left; below 0: it is broken."""
        return None if self.error_rate is None else 1 - self.error_rate / (1 - OBJECTIVE)

    def quantile(self, share: float) -> float | None:
        """Seconds in which this share of requests was answered, interpolated within its bucket.

        As Prometheus's `histogram_quantile`: beyond the last finite bound that bound is told.
        """
        rank = share * sum(self.latencies.values())
        if not rank:
            return None
        below, start = 0, 0.0
        for bound in sorted({*_BOUNDS, *self.latencies}):
            within = self.latencies.get(bound, 0)
            if below + within >= rank:
                return start if math.isinf(bound) else start + (bound - start) * (rank - below) / within
            below, start = below + within, bound
        raise AssertionError("the last bucket holds every request")

    def add(self, other: "Level") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.checks += other.checks
        self.good += other.good
        for bound, count in other.latencies.items():
            self.latencies[bound] = self.latencies.get(bound, 0) + count


@dataclass(frozen=True, slots=True)
class Report:
    """From `first` to `last`, both included: all together, and each day of which anything is known."""

    first: date
    last: date
    total: Level
    days: Mapping[date, Level]


async def report(database: Database, clock: Clock, days: int, route: str | None) -> Report:
    """The last `days` days in UTC, today included.

    Args:
        route: a class of routes; None: all. Checks are of the gateway as a whole.

    Raises: DependencyError: SQL is away.
    """
    today = int(clock.time()) // DAY_S
    start = (today - days + 1) * DAY_S

    async def find(connection: AsyncConnection) -> list[Sequence[Sequence[Any]]]:
        return [
            (await connection.execute(query)).all()
            for query in (
                _sums(sla_hours, route, start, (), ("requests", "errors")),
                _sums(sla_latencies, route, start, ("bound",), ("requests",)),
                _sums(sla_checks, None, start, (), ("checks", "good")),
            )
        ]

    hours, latencies, checks = await database.read(find)
    found: dict[date, Level] = {}
    for day, requests, errors in hours:
        _of(found, day).add(Level(int(requests), int(errors)))
    for day, bound, requests in latencies:
        _of(found, day).latencies[float(bound)] = int(requests)
    for day, asked, good in checks:
        _of(found, day).add(Level(checks=int(asked), good=int(good)))
    total = Level()
    for level in found.values():
        total.add(level)
    return Report(_date(today - days + 1), _date(today), total, dict(sorted(found.items())))


def _sums(table: sa.Table, route: str | None, start: int, by: Sequence[str], of: Sequence[str]) -> sa.Select[Any]:
    day = table.c.hour.op("/", return_type=sa.BigInteger())(sa.literal_column(str(DAY_S)))
    query = (
        sa.select(day, *(table.c[name] for name in by), *(sa.func.sum(table.c[name]) for name in of))
        .where(table.c.hour >= start)
        .group_by(day, *(table.c[name] for name in by))
    )
    return query if route is None else query.where(table.c.route == route)


def _of(found: dict[date, Level], day: int) -> Level:
    return found.setdefault(_date(day), Level())


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)
