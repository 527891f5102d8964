"""Hours of the service level: every request and every check counts once, whatever dies, and sums are right."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from aiohttp import ClientSession, web

from api.sla.counting import CHECK_DEADLINE_S, Counting, Counts, Reading, forget_old, ready
from api.sla.report import report
from core.clock import ManualClock
from core.dependency import DependencyTimeout, DependencyUnavailable
from storage.schema import sla_checks, sla_hours, sla_latencies, sla_marks
from storage.sql import Database
from tests.support.gate import open_gate
from tests.support.network import free_port

T = TypeVar("T")

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class Host:
    """A keeper's counting on a host whose counters and gateway a test holds in its hand."""

    def __init__(self, database: Database, clock: ManualClock, name: str = "alpha") -> None:
        self.reading: Reading | None = Reading("first", {})
        self.well = True
        self.database, self.clock, self.name = database, clock, name
        self.counting = self.keeper()

    def keeper(self, database: Database | None = None) -> Counting:
        """A keeper that has just been started."""
        return Counting(database or self.database, self.clock, self.name, self._ask, lambda: self.reading)

    async def look(self, counts: Counts | None = None, folder: str = "first") -> None:
        if counts is not None:
            self.reading = Reading(folder, counts)
        await self.counting.count()

    async def _ask(self) -> bool:
        return self.well


class Losing(Database):
    """A database whose transactions come through, but whose answers do not."""

    async def write(self, work: Callable[[Any], Awaitable[T]], deadline_s: float | None = None) -> T:
        await super().write(work, deadline_s)
        raise DependencyTimeout("sql", 1.0)


class Away(Database):
    """A database that takes nothing."""

    async def write(self, work: Callable[[Any], Awaitable[T]], deadline_s: float | None = None) -> T:
        raise DependencyUnavailable("sql", "it is away")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def host(database: Database, clock: ManualClock) -> Host:
    return Host(database, clock)


async def rows(database: Database, table: sa.Table) -> list[tuple[Any, ...]]:
    """All rows, the hour as hours since noon."""

    async def find(connection: Any) -> Any:
        return (await connection.execute(sa.select(table).order_by(*table.primary_key))).all()

    return [((row[0] - NOON) / 3600, *row[1:]) for row in await database.read(find)]


async def test_what_a_look_finds_belongs_to_its_hour(database: Database, host: Host, clock: ManualClock) -> None:
    await host.look({"chat": {"requests": 10, "errors": 1, "0.5": 9, "+Inf": 1}})
    clock.advance(1800)
    await host.look({"chat": {"requests": 12, "errors": 1, "0.5": 11, "+Inf": 1}, "query": {"requests": 1, "5.0": 1}})
    clock.advance(1800)
    await host.look(
        {"chat": {"requests": 15, "errors": 3, "0.5": 12, "1.0": 2, "+Inf": 1}, "query": {"requests": 1, "5.0": 1}}
    )
    await host.look()
    assert await rows(database, sla_hours) == [
        (0, "alpha", "chat", 12, 1),
        (0, "alpha", "query", 1, 0),
        (1, "alpha", "chat", 3, 2),
    ]
    assert set(await rows(database, sla_latencies)) == {
        (0, "alpha", "chat", "0.5", 11),
        (0, "alpha", "chat", "+Inf", 1),
        (0, "alpha", "query", "5.0", 1),
        (1, "alpha", "chat", "0.5", 1),
        (1, "alpha", "chat", "1.0", 2),
    }


async def test_a_keeper_that_is_started_again_goes_on_where_the_last_one_stopped(
    database: Database, host: Host
) -> None:
    await host.look({"chat": {"requests": 10}})
    for _ in range(3):
        host.counting = host.keeper()
        await host.look()
    await host.look({"chat": {"requests": 17}})
    assert await rows(database, sla_hours) == [(0, "alpha", "chat", 17, 0)]


async def test_a_folder_that_was_cleared_is_counted_from_its_beginning(database: Database, host: Host) -> None:
    await host.look({"chat": {"requests": 10}})
    await host.look({"chat": {"requests": 30}}, folder="second")  # more than before, so no counter tells
    await host.look({"chat": {"requests": 31}}, folder="second")
    await host.look({"chat": {"requests": 5}}, folder="second")  # cleared by a hand that left our file there
    assert await rows(database, sla_hours) == [(0, "alpha", "chat", 10 + 30 + 1 + 5, 0)]


async def test_a_folder_that_was_cleared_and_has_counted_nothing_yet_is_remembered(
    database: Database, host: Host
) -> None:
    await host.look({"chat": {"requests": 10}})
    await host.look({}, folder="second")
    await host.look({"chat": {"requests": 10}}, folder="second")
    assert await rows(database, sla_hours) == [(0, "alpha", "chat", 20, 0)]


async def test_an_answer_of_sql_that_is_lost_makes_nothing_count_twice(
    database: Database, url: str, host: Host
) -> None:
    losing = Losing(url, 10.0)
    host.counting = host.keeper(losing)
    await host.counting.check()
    for _ in range(3):
        with pytest.raises(DependencyTimeout):
            await host.look({"chat": {"requests": 10}})
        await host.counting.check()
    host.counting._database = database
    await host.look({"chat": {"requests": 11}})
    await losing.close()
    assert await rows(database, sla_hours) == [(0, "alpha", "chat", 11, 0)]
    assert await rows(database, sla_checks) == [(0, "alpha", 4, 4)]


async def test_checks_made_while_sql_is_away_come_to_their_own_hours(
    database: Database, url: str, host: Host, clock: ManualClock
) -> None:
    away = Away(url, 10.0)
    host.counting = host.keeper(away)
    for host.well in (True, False, False):
        await host.counting.check()
        with pytest.raises(DependencyUnavailable):
            await host.look()
        clock.advance(1800)
    host.counting._database = database
    await host.look()
    await host.look()
    await away.close()
    assert await rows(database, sla_checks) == [(0, "alpha", 2, 1), (1, "alpha", 1, 0)]


async def test_of_two_keepers_that_look_at_once_one_counts(database: Database, host: Host) -> None:
    both = threading.Barrier(2)
    seen = iter([Reading("first", {"chat": {"requests": 10}}), Reading("first", {"chat": {"requests": 12}})])

    def read() -> Reading:
        both.wait(20)  # both have read how far was counted, and none has written yet
        return next(seen)

    for _ in range(2):
        keepers = [Counting(database, host.clock, "alpha", host._ask, read) for _ in range(2)]
        await asyncio.gather(*(keeper.count() for keeper in keepers))
        seen = iter([Reading("first", {"chat": {"requests": 14}}), Reading("first", {"chat": {"requests": 14}})])
    await host.look({"chat": {"requests": 15}})
    assert await rows(database, sla_hours) == [(0, "alpha", "chat", 15, 0)]


async def test_without_a_shared_folder_only_checks_are_counted(database: Database, host: Host) -> None:
    host.reading = None
    await host.counting.check()
    await host.look()
    assert await rows(database, sla_checks) == [(0, "alpha", 1, 1)]
    assert await rows(database, sla_hours) == []


async def test_days_and_their_sum_over_two_hosts_computed_by_hand(database: Database, clock: ManualClock) -> None:
    one, other = Host(database, clock), Host(database, clock, "beta")
    for host, well in ((one, True), (other, False)):
        for host.well in (True, True, True, well):
            await host.counting.check()
    await one.look({"chat": {"requests": 6000, "errors": 3, "0.25": 6000}, "query": {"requests": 1, "5.0": 1}})
    await other.look({"chat": {"requests": 3999, "errors": 1, "2.5": 3999}})
    clock.advance(24 * 3600)
    await other.look({"chat": {"requests": 4999, "errors": 3, "2.5": 4999}})
    clock.advance(24 * 3600)
    found = await report(database, clock, 3, None)
    assert (found.first.isoformat(), found.last.isoformat()) == ("2026-11-21", "2026-11-23")
    assert [day.isoformat() for day in found.days] == ["2026-11-21", "2026-11-22"]
    first, second = found.days.values()
    assert (first.requests, first.errors, first.checks, first.good) == (10_000, 4, 8, 7)
    assert (second.requests, second.errors, second.uptime) == (1000, 2, None)
    assert first.quantile(0.5) == pytest.approx(0.1 + 0.15 * 5000 / 6000)
    assert first.quantile(0.95) == pytest.approx(1 + 1.5 * 3500 / 3999)
    total = found.total
    assert (total.requests, total.errors, total.uptime) == (11_000, 6, 7 / 8)
    assert total.error_rate == 6 / 11_000
    assert total.budget_left == pytest.approx(1 - 6 / 11)
    assert total.quantile(0.99) == pytest.approx(1 + 1.5 * (0.99 * 11_000 - 6000) / 4999)
    chat = (await report(database, clock, 3, "query")).total
    assert (chat.requests, chat.errors, chat.checks) == (1, 0, 8)
    assert chat.quantile(0.5) == 3.75
    assert (await report(database, clock, 2, None)).total.requests == 1000, "a day that was not asked for"
    assert (await report(database, clock, 1, None)).total.requests == 0


async def test_hours_are_kept_for_400_days(database: Database, host: Host, clock: ManualClock) -> None:
    await host.counting.check()
    await host.look({"chat": {"requests": 1, "0.5": 1}})
    clock.advance(399 * 24 * 3600)
    await forget_old(database, clock)
    assert (await report(database, clock, 400, None)).total.requests == 1
    clock.advance(1.5 * 24 * 3600)
    await forget_old(database, clock)
    left = [
        sa.select(sa.func.count()).select_from(table) for table in (sla_hours, sla_latencies, sla_checks, sla_marks)
    ]
    for query in left:
        assert await database.read(lambda connection, query=query: connection.scalar(query)) == 0


async def test_the_route_tells_it_to_admins(database: Database, url: str, clock: ManualClock, tmp_path: Path) -> None:
    host = Host(database, clock)
    await host.counting.check()
    await host.look({"chat": {"requests": 1000, "errors": 1, "0.25": 1000}, "query": {"requests": 1000, "0.25": 1000}})
    async with open_gate(url, tmp_path, clock=clock) as gate:
        told = (await gate.call("GET", "/v1/admin/sla")).json()
        one = (await gate.call("GET", "/v1/admin/sla", params={"days": 1, "route": "query"})).json()
        wrong = [
            (await gate.call("GET", "/v1/admin/sla", params=params)).status_code
            for params in ({"days": "0"}, {"days": "401"}, {"route": "nothing"})
        ]
    level = {
        "requests": 2000,
        "errors": 1,
        "error_rate": 0.0005,
        "p50_s": pytest.approx(0.175),
        "p95_s": pytest.approx(0.2425),
        "p99_s": pytest.approx(0.2485),
        "checks": 1,
        "good_checks": 1,
        "uptime": 1.0,
    }
    assert told == {
        "object": "sla",
        "from": "2026-10-23",
        "to": "2026-11-21",
        "route": None,
        "objective": 0.999,
        "error_budget_left": pytest.approx(0.5),
        "total": level,
        "data": [{"day": "2026-11-21", **level}],
    }
    assert (one["from"], one["total"]["requests"], one["error_budget_left"]) == ("2026-11-21", 1000, 1.0)
    assert wrong == [400, 400, 400]


@pytest.fixture
async def gateway_url() -> AsyncIterator[str]:
    """Says 200, 503, and then nothing."""
    answers = iter([200, 503])
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        status = next(answers, None)
        if status is None:
            await never.wait()
        return web.Response(status=status or 500)

    app, port = web.Application(), free_port()
    app.add_routes([web.get("/health/ready", answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    never.set()
    await runner.cleanup()


async def test_a_gateway_is_up_where_it_says_so_in_time(gateway_url: str) -> None:
    async with ClientSession() as session, asyncio.timeout(10 * CHECK_DEADLINE_S):
        assert [await ready(session, gateway_url) for _ in range(3)] == [True, False, False]
        assert await ready(session, f"http://127.0.0.1:{free_port()}") is False
