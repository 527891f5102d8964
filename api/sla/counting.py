"""What the keeper counts of its host's service level, by the hour, in SQL.

Requests come from the counters of the shared folder, which outlive the processes that count in them. How far they were
counted stands in SQL and is moved in the transaction that adds to the hours: whenever a keeper dies, the next one goes
on there. What a look finds belongs to the hour of the look.
"""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.ids import new_id
from monitoring.metrics import FOLDER_ID, REQUEST_SECONDS, REQUESTS, samples_of
from storage.schema import sla_checks, sla_hours, sla_latencies, sla_marks
from storage.sql import Database

HOUR_S = 3600
DAY_S = 24 * HOUR_S
KEPT_DAYS = 400
CHECK_DEADLINE_S = 2.0

Counts = Mapping[str, Mapping[str, int]]
"""By class of routes: `requests`, `errors`, and for each bucket of latency, by its bound, the requests in it alone."""

_FAILED = 500  # and above
_V1 = "/v1/"


def class_of(route: str) -> str | None:
    """The class of a route's template: its first word after /v1; None: it is no part of the promise."""
    return route.removeprefix(_V1).partition("/")[0] if route.startswith(_V1) else None


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of a folder.

    Attributes:
        folder: another one once the folder was cleared.
    """

    folder: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far a host was counted, by which keeper, the how-manieth time."""

    looks: int
    keeper: str
    reading: Reading


_NEVER = _Mark(0, "", Reading("", {}))


def read_folder() -> Reading | None:
    """What all processes that share the folder have counted; None: none is shared.

    Raises: OSError: it can't be read now.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return None
    return Reading(_folder_id(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])), _counts())


def _folder_id(folder: Path) -> str:
    file = folder / FOLDER_ID
    with suppress(FileExistsError):
        file.touch(exist_ok=False)
    made = file.stat()
    return f"{made.st_ino}-{made.st_mtime_ns}"


def _counts() -> Counts:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    below: dict[str, Counter[str]] = defaultdict(Counter)  # as Prometheus has them: each bucket with all below it
    for sample in samples_of(REQUESTS, REQUEST_SECONDS):
        name = class_of(sample.labels["route"])
        if name is None:
            continue
        if "status" in sample.labels:
            found[name]["requests"] += int(sample.value)
            found[name]["errors"] += int(sample.value) if int(sample.labels["status"]) >= _FAILED else 0
        elif "le" in sample.labels:
            below[name][sample.labels["le"]] += int(sample.value)
    for name, buckets in below.items():
        before = 0
        for bound in sorted(buckets, key=float):
            found[name][bound] = buckets[bound] - before
            before = buckets[bound]
    return {name: {what: count for what, count in its.items() if count} for name, its in found.items()}


def increase(before: Reading, now: Reading) -> Counts:
    """What was counted since; all of it where the folder was cleared between."""
    old = before.counts
    fell = any(
        now.counts.get(name, {}).get(what, 0) < count for name, its in old.items() for what, count in its.items()
    )
    if fell or before.folder != now.folder:
        old = {}
    grown = {
        name: {what: more for what, count in its.items() if (more := count - old.get(name, {}).get(what, 0))}
        for name, its in now.counts.items()
    }
    return {name: its for name, its in grown.items() if its}


async def ready(session: aiohttp.ClientSession, gateway_url: str) -> bool:
    """Whether the gateway says within the deadline that all its parts answer."""
    timeout = aiohttp.ClientTimeout(total=CHECK_DEADLINE_S)
    try:
        # A connection that is kept would always ask the same worker.
        async with session.get(
            f"{gateway_url}/health/ready", timeout=timeout, headers={"connection": "close"}
        ) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


class Counting:
    """One for each keeper.

    Args:
        host: under which its rows stand; two hosts of one database have two.
        ask: whether the host's gateway is ready.
        read: the counters; None: there are none to count.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        host: str,
        ask: Callable[[], Awaitable[bool]],
        read: Callable[[], Reading | None] = read_folder,
    ) -> None:
        self._database = database
        self._clock = clock
        self._host = host
        self._ask = ask
        self._read = read
        self._id = new_id("kpr")
        self._checks: list[tuple[int, bool]] = []  # hour, and whether it was well: not in SQL yet
        self._sent: tuple[int, int] | None = None  # a look of which SQL did not say that it is done, with its checks

    async def check(self) -> None:
        """Ask the gateway; `count` brings it to SQL."""
        good = await self._ask()
        self._checks.append((self._hour(), good))

    async def count(self) -> None:
        """Add to the hours what was counted since the last look of any keeper of this host.

        Raises: DependencyError, OSError: the next look counts the same and more.
        """
        mark = await self._database.read(self._mark)
        self._settle(mark)
        now = await asyncio.to_thread(self._read)
        gained = {} if now is None else increase(mark.reading, now)
        moved = now is not None and now.folder != mark.reading.folder
        checks = Counter(self._checks)
        if not gained and not checks and not moved:
            return
        self._sent = (mark.looks + 1, checks.total())
        kept = await self._database.write(partial(self._add, mark, now or mark.reading, gained, checks))
        if kept:
            del self._checks[: checks.total()]
        self._sent = None

    def _hour(self) -> int:
        return int(self._clock.time()) // HOUR_S * HOUR_S

    def _settle(self, mark: _Mark) -> None:
        """Forget checks that are in SQL although its answer did not come."""
        if self._sent is not None and (mark.looks, mark.keeper) == (self._sent[0], self._id):
            del self._checks[: self._sent[1]]
        self._sent = None

    async def _mark(self, connection: AsyncConnection) -> _Mark:
        row = (await connection.execute(sa.select(sla_marks).where(sla_marks.c.host == self._host))).one_or_none()
        return _NEVER if row is None else _Mark(row.looks, row.keeper, Reading(row.folder, row.counts))

    async def _add(
        self, mark: _Mark, now: Reading, gained: Counts, checks: Counter[tuple[int, bool]], connection: AsyncConnection
    ) -> bool:
        """Returns: whether nobody else has looked since the mark was read; else nothing is added."""
        values = {
            "looks": mark.looks + 1,
            "keeper": self._id,
            "folder": now.folder,
            "counts": now.counts,
            "at": self._clock.time(),
        }
        moving: Any = self._database.insert_or_ignore(sla_marks).values(host=self._host, **values)
        if mark is not _NEVER:
            its = sla_marks.c
            moving = sa.update(sla_marks).where(its.host == self._host, its.looks == mark.looks).values(**values)
        if (await connection.execute(moving)).rowcount != 1:
            return False
        here = {"hour": self._hour(), "host": self._host}
        routes = [
            {**here, "route": name, "requests": its.get("requests", 0), "errors": its.get("errors", 0)}
            for name, its in gained.items()
        ]
        latencies = [
            {**here, "route": name, "bound": what, "requests": count}
            for name, its in gained.items()
            for what, count in its.items()
            if what not in ("requests", "errors")
        ]
        asked = [
            {
                "hour": hour,
                "host": self._host,
                "checks": checks[hour, True] + checks[hour, False],
                "good": checks[hour, True],
            }
            for hour in sorted({hour for hour, _ in checks})
        ]
        for table, rows in ((sla_hours, routes), (sla_latencies, latencies), (sla_checks, asked)):
            if rows:
                await connection.execute(self._adding(table), rows)
        return True

    def _adding(self, table: sa.Table) -> Any:
        insert = self._database.upsert(table)
        keys = [column.name for column in table.primary_key]
        sums = {column.name: column + insert.excluded[column.name] for column in table.c if column.name not in keys}
        return insert.on_conflict_do_update(index_elements=keys, set_=sums)


async def forget_old(database: Database, clock: Clock) -> None:
    """Delete what is older than is kept. Raises: DependencyError."""
    before = clock.time() - KEPT_DAYS * DAY_S

    async def forget(connection: AsyncConnection) -> None:
        for table in (sla_hours, sla_latencies, sla_checks):
            await connection.execute(sa.delete(table).where(table.c.hour < before))
        await connection.execute(sa.delete(sla_marks).where(sla_marks.c.at < before))

    await database.write(forget)
