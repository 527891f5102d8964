"""An alert for each threshold of each period, once, and told until somebody takes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import insert, select

from api.ledger.alerts import Alerts
from api.ledger.ledger import Ledger
from api.ledger.line import Line
from api.ledger.ship import Shipper
from api.ledger.webhook import Webhook
from core.clock import Clock, ManualClock
from core.dependency import DependencyError
from storage.schema import budget_alerts, limits, tenants
from storage.sql import Database
from tests.support.ledger import NOON, a_line, finished

_DAY_S = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


async def limit(database: Database, kind: str, subject_id: str, tenant_id: str = "default", **bounds: float) -> None:
    values = {"tenant_id": tenant_id, "kind": kind, "subject_id": subject_id, "strict": False, "changed_at": 0.0}

    async def write(connection: Any) -> None:
        tenant = {"id": "default", "name": "default", "created_at": 0.0, "changed_at": 0.0}
        await connection.execute(database.insert_or_ignore(tenants).values(tenant))
        await connection.execute(insert(limits).values(values | bounds))

    await database.write(write)


async def stored(database: Database) -> set[tuple[str, str, str, int]]:
    found = await database.read(lambda connection: connection.execute(select(budget_alerts)))
    return {(row.kind, row.subject_id, row.period, row.percent) for row in found}


class Books:
    """A worker and the keeper's part, without waiting."""

    def __init__(self, database: Database, folder: Path, alerts: Alerts) -> None:
        self._worker = Ledger(folder, ManualClock())
        self._shipper = Shipper(database, folder, shipped=alerts.note)
        self._alerts = alerts
        self._number = 0

    async def spend(self, nano_usd: int, **fields: Any) -> int:
        """One finished request, shipped. Returns: alerts that are new."""
        await self.ship(nano_usd, **fields)
        return await self._alerts.check()

    async def ship(self, nano_usd: int, **fields: Any) -> None:
        self._number += 1
        line: Line = a_line(f"req_{self._number}", **fields)
        self._worker.begin(line).finish(finished(line, nano_usd=nano_usd))
        await self._shipper.ship()


@pytest.fixture
async def books(database: Database, folder: Path, clock: ManualClock) -> Books:
    alerts = Alerts(database, clock)
    await alerts.check()
    return Books(database, folder, alerts)


async def test_each_threshold_is_stored_once(database: Database, books: Books) -> None:
    await limit(database, "key", "key_1", nano_usd_per_day=1000)
    assert await books.spend(499) == 0
    assert await books.spend(1) == 1
    assert await books.spend(299) == 0
    assert await books.spend(1) == 1
    assert await books.spend(199) == 0
    assert await books.spend(1) == 1
    assert await books.spend(5000) == 0
    assert await stored(database) == {("key", "key_1", "2026-11-21", percent) for percent in (50, 80, 100)}


async def test_who_leaps_over_thresholds_has_passed_them_all(database: Database, books: Books) -> None:
    await limit(database, "tenant", "default", nano_usd_per_month=1000)
    assert await books.spend(999) == 2
    assert await stored(database) == {("tenant", "default", "2026-11", 50), ("tenant", "default", "2026-11", 80)}


async def test_a_day_begins_anew_and_a_month_goes_on(database: Database, books: Books) -> None:
    await limit(database, "user", "u", nano_usd_per_day=100, nano_usd_per_month=1000)
    assert await books.spend(60, user_id="u") == 1
    assert await books.spend(60, user_id="u", at=NOON + _DAY_S) == 1
    assert await books.spend(380, user_id="u", at=NOON + 10 * _DAY_S) == 3  # 1 December
    assert await books.spend(400, user_id="u", at=NOON - _DAY_S) == 4  # arrives late: 20 November, and November
    assert {(period, percent) for _, _, period, percent in await stored(database)} == {
        ("2026-11-21", 50),
        ("2026-11-22", 50),
        *(("2026-12-01", percent) for percent in (50, 80, 100)),
        *(("2026-11-20", percent) for percent in (50, 80, 100)),
        ("2026-11", 50),
    }


@pytest.mark.parametrize(
    ("kind", "subject_id", "fields"),
    [
        ("key", "key_1", {}),
        ("user", "u", {"user_id": "u"}),
        ("team", "m", {"team_id": "m"}),
        ("tenant", "default", {}),
        ("model", "words", {}),
        ("route", "/v1/chat/completions", {}),
    ],
)
async def test_every_kind_of_subject_is_watched_and_no_other_of_its_kind(
    database: Database, books: Books, kind: str, subject_id: str, fields: dict[str, str]
) -> None:
    await limit(database, kind, subject_id, nano_usd_per_day=100)
    await limit(database, kind, "another", nano_usd_per_day=100)
    assert await books.spend(50, **fields) == 1
    assert await stored(database) == {(kind, subject_id, "2026-11-21", 50)}


async def test_another_tenants_subject_of_the_same_name_is_left_alone(database: Database, books: Books) -> None:
    await limit(database, "model", "words", nano_usd_per_day=100)
    await books.ship(80, at=NOON - _DAY_S)
    assert await books.spend(500, tenant_id="other") == 2
    assert {period for _, _, period, _ in await stored(database)} == {"2026-11-20"}


@pytest.mark.parametrize(
    ("kind", "subject_id"), [("model", "words"), ("route", "/v1/chat/completions"), ("tenant", "*")]
)
async def test_a_budget_that_all_tenants_share_counts_what_all_of_them_spend(
    database: Database, books: Books, kind: str, subject_id: str
) -> None:
    await limit(database, kind, subject_id, "*", nano_usd_per_day=100)
    assert await books.spend(40) == 0
    assert await books.spend(40, tenant_id="other") == 2
    assert await stored(database) == {(kind, subject_id, "2026-11-21", percent) for percent in (50, 80)}


async def test_limits_of_nothing_and_lines_without_cost_alert_nobody(database: Database, books: Books) -> None:
    await limit(database, "key", "key_1", nano_usd_per_day=0)
    await limit(database, "tenant", "default", requests_per_minute=1)
    assert await books.spend(0) == 0
    assert await books.spend(1) == 3


async def test_a_keeper_that_starts_looks_at_everybody(database: Database, books: Books, clock: ManualClock) -> None:
    """The one before was killed after it had shipped and before it had looked."""
    await books.spend(90)
    await limit(database, "key", "key_1", nano_usd_per_day=100)
    assert await stored(database) == set()
    assert await Alerts(database, clock).check() == 2


async def test_what_could_not_be_looked_at_is_looked_at_later(
    database: Database, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = Alerts(database, clock)
    await alerts.check()
    books = Books(database, folder, alerts)
    await limit(database, "key", "key_1", nano_usd_per_day=100)

    async def away(*_: object) -> int:
        raise DependencyError("sql", "sql is away")

    monkeypatch.setattr("api.ledger.alerts.spent", away)
    with pytest.raises(DependencyError):
        await books.spend(50)
    monkeypatch.undo()
    assert await alerts.check() == 1
    assert await alerts.check() == 0


@dataclass
class Hook:
    """A webhook. `status` answers, None leaves the caller waiting."""

    url: str = ""
    status: int | None = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    made = Hook()

    async def take(request: web.Request) -> web.Response:
        made.bodies.append(await request.json())
        if made.status is None:
            await asyncio.sleep(60)
        return web.Response(status=made.status or 0, headers={"location": made.url})

    app = web.Application()
    app.router.add_post("/alerts", take)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/alerts"
    yield made
    await runner.cleanup()


async def deliver(database: Database, clock: Clock, url: str) -> int:
    async with aiohttp.ClientSession() as session:
        return await Webhook(database, clock, session, url).deliver()


async def test_the_webhook_is_told_once_of_each_alert(database: Database, books: Books, clock: ManualClock) -> None:
    await limit(database, "key", "key_1", nano_usd_per_day=2_000_000_000)
    await books.spend(1_700_000_000)
    async with hook() as taker:
        assert await deliver(database, clock, taker.url) == 2
        assert await deliver(database, clock, taker.url) == 0  # a keeper that was started again
    assert taker.bodies == [
        {
            "type": "budget_alert",
            "id": f"default:key:key_1:2026-11-21:{percent}",
            "tenant": "default",
            "kind": "key",
            "subject": "key_1",
            "period": "2026-11-21",
            "percent": percent,
            "at": int(NOON),
            "spent_usd": "1.700000000",
            "limit_usd": "2.000000000",
        }
        for percent in (50, 80)
    ]


@pytest.mark.parametrize("status", [500, 302, 404, None], ids=str)
async def test_an_alert_that_is_not_taken_is_told_again_with_growing_rests(
    database: Database, books: Books, clock: ManualClock, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ledger.webhook._DEADLINE_S", 0.2)
    await limit(database, "key", "key_1", nano_usd_per_day=100)
    await books.spend(60)
    async with hook() as taker, aiohttp.ClientSession() as session, asyncio.timeout(30):  # it hangs for 60 s
        taker.status = status
        webhook = Webhook(database, clock, session, taker.url)
        for rest_s, tries in ((1, 1), (2, 2), (4, 3)):
            assert await webhook.deliver() == 0
            clock.advance(rest_s - 0.01)
            assert await webhook.deliver() == 0
            assert len(taker.bodies) == tries
            clock.advance(0.02)
        taker.status = 204
        assert await webhook.deliver() == 1
        assert await webhook.deliver() == 0
    assert len({body["id"] for body in taker.bodies}) == 1


async def test_a_webhook_that_is_not_there_costs_nothing_but_time(
    database: Database, books: Books, clock: ManualClock
) -> None:
    await limit(database, "key", "key_1", nano_usd_per_day=100)
    await books.spend(60)
    assert await deliver(database, clock, "http://127.0.0.1:9/nobody") == 0
    async with hook() as taker:
        assert await deliver(database, clock, taker.url) == 1


async def test_old_alerts_are_not_told_any_more(database: Database, books: Books, clock: ManualClock) -> None:
    await limit(database, "key", "key_1", nano_usd_per_day=100)
    await books.spend(60)
    clock.advance(4 * _DAY_S)
    async with hook() as taker:
        assert await deliver(database, clock, taker.url) == 0


async def test_an_alert_tells_of_a_limit_that_is_gone(database: Database, books: Books, clock: ManualClock) -> None:
    await limit(database, "key", "key_1", nano_usd_per_day=100)
    await books.spend(60)
    await database.write(lambda connection: connection.execute(limits.delete()))
    async with hook() as taker:
        assert await deliver(database, clock, taker.url) == 1
    assert taker.bodies[0]["limit_usd"] is None
