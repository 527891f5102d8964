"""A worker that dies at any transaction of a batch's life, before or behind its commit: no line is lost or doubled."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.batches.batchleases import BatchLeases
from api.batches.errors import LeaseLost
from api.batches.forms import LineUsage
from api.batches.lineleases import Answered, LineLease
from api.batches.lines import read_lines
from api.batches.states import Status
from core.dependency import DependencyUnavailable
from storage.schema import batch_lines, files
from storage.sql import Database
from tests.integration.batches.conftest import BOUNDS, CHAT, LEASE_S, House, meets, names

T = TypeVar("T")


class Mortal(Database):
    """A database of a worker that dies with its n-th write: nothing of that worker reaches SQL afterwards."""

    def __init__(self, url: str, dies_at: int, *, committed: bool) -> None:
        super().__init__(url, 10.0)
        self._left = dies_at
        self._committed = committed
        self.dead = asyncio.Event()

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        self._check()
        return await super().read(work)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]], deadline_s: float | None = None) -> T:
        self._check()
        self._left -= 1
        if self._left == 0:
            if self._committed:
                await super().write(work, deadline_s)
            self.dead.set()
            self._check()
        return await super().write(work, deadline_s)

    def _check(self) -> None:
        if self.dead.is_set():
            raise DependencyUnavailable("sql", "this worker is dead")


async def die_at(house: House, write: int, *, committed: bool) -> bool:
    """Let a worker work until its n-th write. Returns: whether it got there before everything was done."""
    database = Mortal(house.url, write, committed=committed)
    runner = asyncio.create_task(house.runner(database).run())
    done = asyncio.create_task(_all_ended(house))
    died = asyncio.create_task(database.dead.wait())
    await asyncio.wait((done, died), timeout=20, return_when=asyncio.FIRST_COMPLETED)
    for task in (runner, done, died):
        task.cancel()
    await asyncio.wait((runner, done, died))
    await database.close()
    return database.dead.is_set()


async def _all_ended(house: House) -> None:
    async def ended() -> bool:
        return all(one.status.ended for one in await house.batches.list(house.principal, None, 10))

    await meets(ended, limit_s=20)


@pytest.mark.parametrize("committed", [False, True], ids=["before", "behind"])
async def test_a_death_at_any_write_loses_and_doubles_nothing(
    house: House, figure: Callable[[str], None], committed: bool
) -> None:
    ids = names(7)
    deaths: Counter[str] = Counter()
    write = 0
    dying = True
    while dying:
        write += 1
        batch = await house.batch(*ids)
        dying = await die_at(house, write, committed=committed)
        deaths[(await house.now(batch)).status] += dying
        async with house.working(later_s=LEASE_S):
            ended = await house.until(batch)
        assert ended.status is Status.COMPLETED
        assert (ended.total, ended.completed, ended.failed) == (7, 7, 0)
        assert await house.out(ended) == (Counter(ids), Counter())
        assert await house.rows(sa.select(files.c.id).where(files.c.purpose == "batch_output")) != []
        outputs = await house.files.list(house.principal, "batch_output", None, 10_000)
        assert len(outputs) == write  # one of each batch
    assert write > 12
    figure(f"{write - 1} deaths {'behind' if committed else 'before'} a commit, the batch being then: {dict(deaths)}")


@pytest.mark.parametrize(("write", "lines"), [(2, 1000), (3, 2000), (4, 2500), (5, 2500)])
async def test_a_file_of_thousands_is_taken_apart_on_from_where_a_worker_died(
    light_house: House, write: int, lines: int
) -> None:
    house = light_house
    ids = names(2500)
    batch = await house.batch(*ids)
    assert await die_at(house, write, committed=True)
    there = sa.select(sa.func.count()).where(batch_lines.c.batch_id == batch.id)
    assert [tuple(row) for row in await house.rows(there)] == [(lines,)]
    house.provider.gate.clear()
    async with house.working(later_s=LEASE_S):
        assert (await house.until(batch, Status.IN_PROGRESS)).total == 2500
    assert [tuple(row) for row in await house.rows(there)] == [(2500,)]
    await house.batches.cancel(house.principal, batch.id)
    async with house.working():
        ended = await house.until(batch)
    output, errors = await house.out(ended)
    assert output + errors == Counter(ids)


async def held(house: House, batch_id: str) -> LineLease:
    lease = await house.runner()._lines.acquire([batch_id])
    assert lease is not None
    return lease


async def in_progress(house: House, count: int) -> str:
    """A batch whose lines are there, and that nobody works at. Returns: its id."""
    batch = await house.batch(*names(count))
    leases = BatchLeases(house.database, house.clock, "reader", LEASE_S)
    lease = await leases.take(batch.id)
    assert lease is not None
    data = await house.files.content(house.principal, batch.input_file_id)
    lines, _ = read_lines(data, CHAT, BOUNDS)
    await leases.add_lines(lease, lines)
    await leases.begin(lease, lines)
    return batch.id


DONE = Answered('{"late": true}', ok=True, usage=LineUsage(1))


async def test_a_zombie_can_neither_answer_nor_hand_back_a_line(house: House) -> None:
    batch_id = await in_progress(house, 1)
    zombie, successor = house.runner()._lines, house.runner()._lines
    lease = await held(house, batch_id)
    assert await zombie.renew([lease]) == {lease}
    assert await successor.take_back() == 0
    house.clock.ahead_s += LEASE_S
    assert await successor.take_back() == 1
    with pytest.raises(LeaseLost):
        await zombie.finish(lease, DONE)  # though nobody has it now
    new = await held(house, batch_id)
    assert (new.fence, new.attempt) == (2, 2)
    for late in (
        zombie.finish(lease, DONE),
        zombie.rest(lease, 5.0),
        zombie.retry(lease, 5.0),
        zombie.release(lease),
    ):
        with pytest.raises(LeaseLost):
            await late
    assert await zombie.renew([lease]) == set()
    await successor.finish(new, DONE)
    with pytest.raises(LeaseLost):
        await successor.finish(new, DONE)
    batch = await house.batches.get(house.principal, batch_id)
    assert (batch.completed, batch.status) == (1, Status.FINALIZING)


async def test_one_line_goes_to_one_worker(house: House) -> None:
    batch_id = await in_progress(house, 8)
    leases = await asyncio.gather(*(held(house, batch_id) for _ in range(8)))
    assert sorted(lease.number for lease in leases) == list(range(1, 9))
    assert await house.runner()._lines.acquire([batch_id]) is None


async def test_a_zombie_reads_and_ends_nothing(house: House) -> None:
    batch = await house.batch(*names(2))
    zombie = BatchLeases(house.database, house.clock, "zombie", LEASE_S)
    lease = await zombie.take(batch.id)
    assert lease is not None
    assert await zombie.take(batch.id) is None
    assert not (await zombie.open_ones())[0].free
    house.clock.ahead_s += LEASE_S
    assert (await zombie.open_ones())[0].free
    new = await zombie.take(batch.id)
    assert new is not None
    lines, _ = read_lines(await house.files.content(house.principal, batch.input_file_id), CHAT, BOUNDS)

    async def nothing(_: AsyncConnection) -> None:
        raise AssertionError("it went on")

    for late in (
        zombie.add_lines(lease, lines),
        zombie.begin(lease, lines),
        zombie.refuse(lease, []),
        zombie.running(lease),
        zombie.outcomes(lease, 0),
        zombie.end(lease, Status.COMPLETED, {}, nothing),
    ):
        with pytest.raises(LeaseLost):
            await late
    assert (await house.now(batch)).status is Status.VALIDATING
    assert await house.rows(sa.select(batch_lines.c.number)) == []


async def test_a_cancel_takes_the_lease_of_whoever_reads_the_file(house: House) -> None:
    batch = await house.batch(*names(2))
    leases = BatchLeases(house.database, house.clock, "reader", LEASE_S)
    lease = await leases.take(batch.id)
    assert lease is not None
    await house.batches.cancel(house.principal, batch.id)
    with pytest.raises(LeaseLost):
        await leases.begin(lease, [])
    assert await house.runner()._lines.acquire([batch.id]) is None


async def test_a_batch_does_not_end_while_one_of_its_lines_is_being_sent(house: House) -> None:
    batch_id = await in_progress(house, 2)
    lease = await held(house, batch_id)
    await house.batches.cancel(house.principal, batch_id)
    assert await house.runner()._lines.acquire([batch_id]) is None  # though a line of it waits
    papers = house.runner()._papers
    await papers.handle(batch_id)
    assert (await house.batches.get(house.principal, batch_id)).status is Status.CANCELLING
    await house.runner()._lines.finish(lease, DONE)  # it was answered all the same, and that is kept
    await papers.handle(batch_id)
    ended = await house.batches.get(house.principal, batch_id)
    assert (ended.status, ended.completed, ended.failed) == (Status.CANCELLED, 1, 1)
