"""Errands on both databases: each is one worker's at a time, one host is asked by one, and fences hold."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from core.principal import Principal, Role
from retrieval.errors import ErrandLost
from retrieval.intake import NewFile
from retrieval.rows import fetch
from retrieval.sources.errands import Errand, Errands, Kind, Origin
from retrieval.status import Status
from storage.schema import errands, hosts, tasks
from tests.integration.sources.conftest import Desk, Open

SOMEBODY = Principal("default", "key_1", Role.ADMIN)


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = time.time() + 60.0  # what is sent meanwhile is due

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


def workers(desk: Desk, clock: Hand, count: int = 1, **settings: Any) -> list[Errands]:
    usual = {"lease_s": 30.0, "max_attempts": 3, "delay_s": 1.0, "retry_s": 5.0}
    return [Errands(desk.gate.database, clock, f"w{number}", **{**usual, **settings}) for number in range(count)]


async def send(desk: Desk, *hosts: str | None) -> str:
    files = [
        NewFile(f"{number}.txt", None, b"", origin=Origin(Kind.URL, f"http://{host}/{number}", host))
        for number, host in enumerate(hosts)
    ]
    return (await desk.gate.state.retrieval.intake.accept(SOMEBODY, "c", files)).job_id


async def all_now(takers: list[Errands]) -> list[Errand]:
    """What all of them get, asking at once again and again until none gets anything."""
    taken: list[Errand] = []
    idle = 0
    while idle < 3:
        found = [errand for errand in await asyncio.gather(*(one.acquire() for one in takers)) if errand is not None]
        idle = 0 if found else idle + 1
        taken += found
    return taken


async def test_each_errand_is_taken_once_and_a_host_by_one_worker(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        await send(desk, *("a", "b", "c") * 4, *[None] * 6)
        first = await all_now(workers(desk, clock, 8))
        assert len({errand.id for errand in first}) == len(first) == 9
        assert Counter(errand.host for errand in first) == {None: 6, "a": 1, "b": 1, "c": 1}
        clock.now_s += 2
        assert await all_now(workers(desk, clock, 8)) == [], "their hosts are being asked"
        (one,) = workers(desk, clock)
        done = next(errand for errand in first if errand.host == "a")
        await one.write(done, {"status": "done", "lease_until": None})
        assert await all_now(workers(desk, clock, 8)) == [], "the host rests from the end of a call on"
        clock.now_s += 1.1
        assert [errand.host for errand in await all_now(workers(desk, clock, 8))] == ["a"]


async def test_a_clock_that_is_set_back_has_no_host_rest_for_longer(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        await send(desk, "a", "a")
        (one,) = workers(desk, clock)
        errand = await one.acquire()
        assert errand is not None
        await one.write(errand, {"status": "done", "lease_until": None})
        await one._database.write(lambda connection: connection.execute(errands.update().values(not_before=0.0)))
        assert await one.acquire() is None, "the host rests"
        clock.now_s -= 3600.0
        assert await one.acquire() is not None


async def test_an_errand_of_a_silent_worker_goes_to_another_and_the_first_is_turned_away(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        job_id = await send(desk, "a")
        (one,) = workers(desk, clock)
        lost = await one.acquire()
        assert lost is not None
        for attempt in (2, 3):
            assert await one.acquire() is None
            clock.now_s += 31
            again = await one.acquire()
            assert again is not None
            assert (again.id, again.attempt) == (lost.id, attempt)
        with pytest.raises(ErrandLost):
            await one.renew(lost)
        with pytest.raises(ErrandLost):
            await one.fail(lost, "too late")
        assert await one.acquire() is None
        clock.now_s += 31
        assert await one.acquire() is None
        job = await desk.gate.state.retrieval.jobs.get(SOMEBODY, job_id)
        assert (job.status, job.documents[0].status) == ("failed", "failed")
        assert "lost 3 times" in (job.documents[0].error or "")


async def test_what_is_tried_again_waits_and_is_failed_in_the_end(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        job_id = await send(desk, None)
        (one,) = workers(desk, clock)
        for pause_s, wished_s in ((5.0, None), (70.0, 70.0)):
            errand = await one.acquire()
            assert errand is not None
            assert await one.retry(errand, "no answer", wished_s)
            clock.now_s += pause_s - 0.5
            assert await one.acquire() is None
            clock.now_s += 1
        errand = await one.acquire()
        assert errand is not None
        assert not await one.retry(errand, "no answer")
        job = await desk.gate.state.retrieval.jobs.get(SOMEBODY, job_id)
        assert job.documents[0].error == "no answer (after 3 attempts)"


async def test_a_tenant_with_many_errands_does_not_keep_others_waiting(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        await send(desk, *[None] * 5)

        async def as_others(connection: Any) -> None:
            last = sa.select(sa.func.max(errands.c.id)).scalar_subquery()
            await connection.execute(errands.update().where(errands.c.id == last).values(tenant_id="other"))

        await desk.gate.database.write(as_others)
        (one,) = workers(desk, clock)
        order = [errand.tenant_id for _ in range(5) if (errand := await one.acquire()) is not None]
        assert order[:2] == ["default", "other"]


async def test_a_cancel_calls_errands_back(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        job_id = await send(desk, "a", "b")
        (one,) = workers(desk, clock)
        running = await one.acquire()
        assert running is not None
        await desk.gate.state.retrieval.jobs.cancel(SOMEBODY, job_id)
        with pytest.raises(ErrandLost):
            await one.renew(running)
        assert not await one.any_open()
        rows = await fetch(desk.gate.database, sa.select(tasks.c.status))
        assert {row.status for row in rows} == {Status.CANCELLED}


async def test_hosts_that_rested_are_forgotten(desks: Open) -> None:
    async with desks() as desk:
        clock = Hand()
        await send(desk, "a")
        (one,) = workers(desk, clock)
        assert await one.acquire() is not None
        await one.forget_hosts()
        assert len(await fetch(desk.gate.database, sa.select(hosts))) == 1
        clock.now_s += 62
        await one.forget_hosts()
        assert await fetch(desk.gate.database, sa.select(hosts)) == []
