"""What the reports say is what a plain sum over the lines says, to the last nano-dollar."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any, get_args

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert
from starlette.middleware import Middleware

from api import usage as room
from api.errors import TABLE, answer_error
from api.identity import Caller
from api.ledger.errors import TooManyRows
from api.ledger.line import Line, row
from api.ledger.reports import COLUMNS, Group, bounds, spent, usage
from api.middleware import RecordMiddleware
from core.clock import ManualClock, SystemClock
from core.limits import EVERYONE, Limits, Subject, SubjectKind
from core.principal import Principal, Role
from storage.schema import ledger
from storage.sql import Database
from tests.support.ledger import NOON, a_line

_DAY_S = 86_400
_FIELD = {
    "model": "model_group",
    "endpoint": "route",
    "key": "key_id",
    "user": "user_id",
    "team": "team_id",
    "tenant": "tenant_id",
}
MIDNIGHT = NOON + _DAY_S / 2
# Moments about the turn of a month too, and the last float before it.
MOMENTS = st.sampled_from(
    [
        *(NOON + n * 7 * 3600.5 for n in range(-20, 60)),
        *(math.nextafter(MIDNIGHT + n * _DAY_S, to) for n in range(-2, 12) for to in (0.0, MIDNIGHT + n * _DAY_S)),
    ]
)
COUNTS = st.integers(0, 2**50)
LINES = st.builds(
    Line,
    request_id=st.sampled_from([f"req_{n}" for n in range(12)]),
    segment=st.integers(0, 3),
    tenant_id=st.sampled_from(["t1", "t2"]),
    route=st.sampled_from(["/v1/chat/completions", "/v1/embeddings"]),
    model_group=st.sampled_from(["words", "=cmd()", "größer"]),
    deployment=st.just("d"),
    at=MOMENTS,
    user_id=st.sampled_from([None, "u1", "u2"]),
    team_id=st.sampled_from([None, "m1"]),
    key_id=st.sampled_from([None, "k1", "k2"]),
    tokens_in=COUNTS,
    tokens_cached=COUNTS,
    tokens_out=COUNTS,
    nano_usd=COUNTS,
)
BOOKS = st.lists(LINES, max_size=25, unique_by=lambda line: line.name)
GROUPS = st.lists(st.sampled_from(get_args(Group)), unique=True)
ASKED = (list(SubjectKind), ["t1", "t2"], ["2026-11-21", "2026-11-30", "2026-12-01", "2026-11", "2026-12"])
slow = settings(
    max_examples=settings().max_examples * 2 // 5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def subject(kind: SubjectKind, subject_id: str) -> Subject:
    return Subject(kind, subject_id, Limits())


async def keep(database: Database, lines: Sequence[Line]) -> None:
    async def write(connection: Any) -> None:
        await connection.execute(delete(ledger))
        if lines:
            await connection.execute(insert(ledger), [row(line) for line in lines])

    await database.write(write)


def day(line: Line) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=math.floor(line.at))).date().isoformat()


@slow
@given(
    BOOKS, st.lists(st.sampled_from(get_args(Group)), unique=True), st.integers(-3, 12), st.integers(0, 12), st.data()
)
async def test_usage_is_the_sum_of_the_lines(
    database: Database, lines: list[Line], groups: list[Group], start: int, length: int, data: st.DataObject
) -> None:
    await keep(database, lines)
    first = date(2026, 11, 21) + timedelta(days=start)
    last = first + timedelta(days=length)
    only = data.draw(st.sampled_from([{}, {"tenant": "t1"}, {"tenant": "t2", "key": "k1"}, {"user": "u2"}]))
    sums: dict[tuple[str | None, ...], list[Any]] = defaultdict(lambda: [set(), 0, 0, 0, 0])
    for line in lines:
        if first.isoformat() <= day(line) <= last.isoformat() and all(
            getattr(line, _FIELD[name]) == value for name, value in only.items()
        ):
            of = sums[tuple(day(line) if group == "day" else getattr(line, _FIELD[group]) for group in groups)]
            of[0].add(line.request_id)
            for place, count in enumerate((line.tokens_in, line.tokens_cached, line.tokens_out, line.nano_usd), 1):
                of[place] += count
    found = await usage(database, first, last, groups, only)
    assert {tuple(row.group[group] for group in groups): row for row in found} == {
        tuple(row.group.values()): row for row in found
    }
    assert {
        tuple(row.group.values()): [row.requests, row.tokens_in, row.tokens_cached, row.tokens_out, row.nano_usd]
        for row in found
    } == {name: [len(of[0]), *of[1:]] for name, of in sums.items()}
    assert all(type(value) is int for row in found for value in (row.requests, row.tokens_in, row.nano_usd))
    keys = [[value or "" for value in row.group.values()] for row in found]
    assert keys == sorted(keys)


@slow
@given(BOOKS, st.lists(st.tuples(*map(st.sampled_from, ASKED)), min_size=5, max_size=5))
async def test_spent_is_the_sum_of_the_lines(
    database: Database, lines: list[Line], asked: list[tuple[SubjectKind, str, str]]
) -> None:
    # A key is of one tenant.
    lines = [replace(line, key_id=line.key_id and f"{line.key_id}-{line.tenant_id}") for line in lines]
    await keep(database, lines)
    everybody = {(kind, line.tenant_id, getattr(line, COLUMNS[kind].name)) for kind in SubjectKind for line in lines}
    for kind, tenant_id, period in asked:
        for subject_id in sorted({name for of, _, name in everybody if of is kind and name is not None}):
            start, end = bounds(period)
            expected = sum(
                line.nano_usd
                for line in lines
                if (line.tenant_id == tenant_id or kind is SubjectKind.KEY)
                and getattr(line, COLUMNS[kind].name) == subject_id
                and start <= line.at < end
                and day(line).startswith(period)
            )
            found = await spent(database, tenant_id, subject(kind, subject_id), period)
            assert found == expected
            assert type(found) is int
            if kind in (SubjectKind.MODEL, SubjectKind.ROUTE):
                of_all = [one for one in lines if getattr(one, COLUMNS[kind].name) == subject_id]
                assert await spent(database, EVERYONE, subject(kind, subject_id), period) == in_period(of_all, period)
        everybody_spent = await spent(database, EVERYONE, subject(SubjectKind.TENANT, EVERYONE), period)
        assert everybody_spent == in_period(lines, period)


def in_period(lines: list[Line], period: str) -> int:
    start, end = bounds(period)
    return sum(line.nano_usd for line in lines if start <= line.at < end and day(line).startswith(period))


async def test_sums_beyond_what_a_float_holds_are_exact(database: Database) -> None:
    lines = [a_line(f"req_{n}", nano_usd=2**50 - n, tokens_in=2**50 - n) for n in range(200)]
    await keep(database, lines)
    expected = sum(line.nano_usd for line in lines)
    assert expected > 2**53
    assert float(expected) != expected
    assert await spent(database, "default", subject(SubjectKind.KEY, "key_1"), "2026-11") == expected
    (found,) = await usage(database, date(2026, 11, 1), date(2026, 11, 30), [], {})
    assert (found.nano_usd, found.tokens_in) == (expected, expected)


async def test_a_request_over_two_deployments_counts_once(database: Database) -> None:
    await keep(database, [a_line("r", deployment="a", tokens_out=3), a_line("r", segment=1, tokens_out=4)])
    (found,) = await usage(database, date(2026, 11, 21), date(2026, 11, 21), ["model"], {})
    assert (found.requests, found.tokens_out) == (1, 7)


async def test_midnight_belongs_to_the_day_that_begins(database: Database) -> None:
    before = math.nextafter(MIDNIGHT, 0.0)
    await keep(database, [a_line("r1", at=before, nano_usd=1), a_line("r2", at=MIDNIGHT, nano_usd=2)])
    found = await usage(database, date(2026, 11, 21), date(2026, 11, 22), ["day"], {})
    assert {row.group["day"]: row.nano_usd for row in found} == {"2026-11-21": 1, "2026-11-22": 2}
    for period, nano_usd in (("2026-11-21", 1), ("2026-11-22", 2), ("2026-11", 3)):
        assert await spent(database, "default", subject(SubjectKind.KEY, "key_1"), period) == nano_usd


async def test_a_report_too_long_to_read_is_refused(database: Database) -> None:
    await keep(database, [a_line(f"req_{n}", key_id=f"key_{n}") for n in range(5)])
    today = date(2026, 11, 21)
    assert len(await usage(database, today, today, ["key"], {}, most_rows=5)) == 5
    with pytest.raises(TooManyRows):
        await usage(database, today, today, ["key"], {}, most_rows=4)


def client(database: Database, principal: Principal) -> httpx.AsyncClient:
    """The two routes on their own, for a caller who has been identified."""
    app = FastAPI(
        middleware=[Middleware(RecordMiddleware, clock=SystemClock())],
        exception_handlers=dict.fromkeys(TABLE, answer_error),
    )
    app.include_router(room.routes)
    app.state.stoker = SimpleNamespace(database=database, clock=ManualClock(NOON))
    app.dependency_overrides[get_args(Caller)[1].dependency] = lambda: principal
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.fixture
async def books(database: Database) -> Database:
    await keep(
        database,
        [
            a_line("r1", tenant_id="t1", key_id="k1", tokens_in=10, tokens_cached=4, tokens_out=2, nano_usd=1_500),
            a_line("r2", tenant_id="t1", key_id="k2", tokens_in=1, nano_usd=1, at=NOON - _DAY_S, model_group="=1+1"),
            a_line("r4", tenant_id="t1", key_id="k1", cache="hit", nano_usd_saved=250),
            a_line("r3", tenant_id="t2", key_id="k3", tokens_in=100, nano_usd=10**9),
        ],
    )
    return database


async def test_a_member_reads_the_own_key_and_a_manager_the_tenant_and_nobody_another(books: Database) -> None:
    async with client(books, Principal("t1", "k1", Role.MEMBER)) as member:
        answer = (await member.get("/v1/usage")).json()
    assert answer == {
        "object": "list",
        "data": [
            {
                "day": "2026-11-21",
                "requests": 2,
                "tokens_in": 10,
                "tokens_cached": 4,
                "tokens_out": 2,
                "nano_usd": 1500,
                "usd": "0.000001500",
                "usd_saved": "0.000000250",
            }
        ],
    }
    async with client(books, Principal("t1", "k1", Role.MANAGER)) as manager:
        data = (await manager.get("/v1/usage", params={"group_by": "key,day"})).json()["data"]
    assert [(entry["key"], entry["day"]) for entry in data] == [("k1", "2026-11-21"), ("k2", "2026-11-20")]
    async with client(books, Principal("t1", None, Role.MEMBER)) as nobody:
        assert (await nobody.get("/v1/usage")).status_code == 403


async def test_an_admin_reads_every_tenant_or_one(books: Database) -> None:
    async with client(books, Principal("t1", "k1", Role.ADMIN)) as admin:
        data = (await admin.get("/v1/admin/usage", params={"group_by": "tenant"})).json()["data"]
        assert [(entry["tenant"], entry["usd"]) for entry in data] == [("t1", "0.000001501"), ("t2", "1.000000000")]
        data = (await admin.get("/v1/admin/usage", params={"group_by": "", "tenant": "t2"})).json()["data"]
        assert [entry["tokens_in"] for entry in data] == [100]
        data = (await admin.get("/v1/admin/usage", params={"from": "2026-11-20", "to": "2026-11-20"})).json()["data"]
        assert [entry["requests"] for entry in data] == [1]


async def test_a_table_is_safe_to_open(books: Database) -> None:
    async with client(books, Principal("t1", "k1", Role.ADMIN)) as admin:
        answer = await admin.get("/v1/admin/usage", params={"group_by": "model", "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.splitlines() == [
        "model,requests,tokens_in,tokens_cached,tokens_out,nano_usd,usd,usd_saved",
        "'=1+1,1,1,0,0,1,0.000000001,0.000000000",
        "words,3,110,4,2,1000001500,1.000001500,0.000000250",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"group_by": "colour"},
        {"from": "2026-11-22"},
        {"from": "2026-11-20", "to": "2026-11-19"},
        {"from": "2020-01-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
    ],
)
async def test_what_makes_no_sense_is_refused(books: Database, wrong: dict[str, str]) -> None:
    async with client(books, Principal("t1", "k1", Role.ADMIN)) as admin:
        answer = await admin.get("/v1/usage", params=wrong)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_days_at_the_ends_of_the_calendar_are_no_accident(books: Database) -> None:
    async with client(books, Principal("t1", "k1", Role.ADMIN)) as admin:
        for ends in ({"to": "0001-01-05"}, {"to": "9999-12-31"}):
            assert (await admin.get("/v1/usage", params=ends)).status_code == 200


@pytest.mark.heavy
async def test_what_a_months_sum_takes(database: Database, figure: Callable[[str], None]) -> None:
    lines = [row(a_line(f"req_{n}", at=NOON + n, nano_usd=n, key_id=f"key_{n % 50}")) for n in range(50_000)]
    await keep(database, [])
    for start in range(0, len(lines), 5_000):
        piece = lines[start : start + 5_000]
        await database.write(lambda connection, piece=piece: connection.execute(insert(ledger), piece))
    took = {}
    for kind, subject_id in ((SubjectKind.TENANT, "default"), (SubjectKind.KEY, "key_7")):
        started = time.perf_counter()
        await spent(database, "default", subject(kind, subject_id), "2026-11")
        took[kind] = (time.perf_counter() - started) * 1e3
    figure(f"a month of 50,000 lines: tenant {took[SubjectKind.TENANT]:.1f} ms, key {took[SubjectKind.KEY]:.1f} ms")
