"""A lease is lost when nobody renews it, whatever wall clocks say; a holder that works keeps its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.clock import ManualClock
from storage.silence import Silence
from storage.sql import Database
from tests.support.postgres import postgres_server

LEASE_S = 30.0
HOUR_S = 3600.0
TABLE = sa.Table(
    "leased",
    sa.MetaData(),
    sa.Column("job", sa.String(10), primary_key=True),
    sa.Column("document", sa.String(10), primary_key=True),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(10)),
    sa.Column("lease_until", sa.Float),
)
C = TABLE.c


class SetClock(ManualClock):
    """Its wall clock can be set; the monotonic one takes no notice."""

    off_s = 0.0

    def time(self) -> float:
        return super().time() + self.off_s


class Shop:
    """Rows that are held, and whoever looks at them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SetClock()

    def looker(self, **how: Any) -> Silence:
        return Silence(self.database, self.clock, TABLE, LEASE_S, **how)

    async def hold(self, job: str, document: str = "d", status: str = "running", fence: int = 1) -> None:
        until = self.clock.time() + LEASE_S
        row = {"job": job, "document": document, "status": status, "fence": fence, "worker": "w", "lease_until": until}
        await self.do(TABLE.insert().values(row))

    async def renew(self, job: str) -> None:
        await self.do(TABLE.update().where(C.job == job).values(lease_until=self.clock.time() + LEASE_S))

    async def do(self, statement: Any) -> None:
        await self.database.write(lambda connection: connection.execute(statement))

    async def held(self) -> set[tuple[str, str]]:
        names = sa.select(C.job, C.document).where(C.worker.is_not(None), C.lease_until.is_not(None))

        async def read(connection: Any) -> set[tuple[str, str]]:
            return {tuple(row) for row in await connection.execute(names)}

        return await self.database.read(read)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("silence")
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/stoker.db"
        return
    with postgres_server() as server:
        yield server.url()


@pytest.fixture
async def shop(url: str) -> AsyncIterator[Shop]:
    database = Database(url, 30.0)
    await database.write(lambda connection: connection.run_sync(TABLE.metadata.drop_all))
    await database.write(lambda connection: connection.run_sync(TABLE.metadata.create_all))
    yield Shop(database)
    await database.close()


async def test_what_nobody_renews_for_a_leases_length_is_lost_and_what_is_renewed_stays(shop: Shop) -> None:
    looker = shop.looker()
    for job, document in (("dead", "a"), ("dead", "b"), ("alive", "a")):
        await shop.hold(job, document)
    assert await looker.take_back() == 0, "who looks for the first time knows nothing"
    for _ in range(3):
        shop.clock.advance(LEASE_S / 3 - 0.1)
        await shop.renew("alive")
        assert await looker.take_back() == 0
    shop.clock.advance(0.3)
    assert await looker.take_back() == 2
    assert await shop.held() == {("alive", "a")}
    shop.clock.advance(LEASE_S)
    assert await looker.take_back() == 1


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S])
async def test_a_wall_clock_that_is_set_takes_nothing_from_the_living_and_keeps_nothing_for_the_dead(
    shop: Shop, off_s: float
) -> None:
    looker = shop.looker()
    await shop.hold("dead")
    await shop.hold("alive")
    await looker.take_back()
    shop.clock.off_s = off_s
    for _ in range(4):
        assert await looker.take_back() == 0
        shop.clock.advance(LEASE_S / 4)
        await shop.renew("alive")
    assert await looker.take_back() == 1
    assert await shop.held() == {("alive", "d")}


async def test_a_lease_that_was_renewed_between_the_look_and_the_taking_stays(shop: Shop) -> None:
    class Late(Silence):
        async def _take(self, key: Any, mark: Any, connection: Any) -> bool:
            until = shop.clock.time() + LEASE_S
            await connection.execute(TABLE.update().where(C.job == "late").values(lease_until=until))
            return await super()._take(key, mark, connection)

    looker = Late(shop.database, shop.clock, TABLE, LEASE_S)
    await shop.hold("late")
    await shop.hold("dead")
    await looker.take_back()
    shop.clock.advance(LEASE_S)
    assert await looker.take_back() == 1
    assert await shop.held() == {("late", "d")}


async def test_who_takes_a_row_anew_has_it_for_a_whole_lease(shop: Shop) -> None:
    first, second = shop.looker(), shop.looker()
    await shop.hold("job")
    for looker in (first, second):
        await looker.take_back()
    shop.clock.advance(LEASE_S)
    assert await first.take_back() == 1
    until = shop.clock.time() + LEASE_S
    await shop.do(TABLE.update().values(worker="next", fence=C.fence + 1, lease_until=until))
    assert await second.take_back() == 0, "it is another's by now"
    shop.clock.advance(LEASE_S - 1)
    assert [await looker.take_back() for looker in (first, second)] == [0, 0]
    assert await shop.held() == {("job", "d")}


async def test_rows_that_cannot_be_held_any_more_are_left_alone_and_freeing_says_how(shop: Shop) -> None:
    freed = []

    async def free(connection: Any, row: Any) -> None:
        freed.append((row.job, row.fence))
        await connection.execute(TABLE.update().where(C.job == row.job).values(lease_until=None, fence=row.fence + 1))

    looker = shop.looker(held=C.status == "running", free=free)
    await shop.hold("job", fence=7)
    await shop.hold("ended", status="ended")
    await looker.take_back()
    shop.clock.advance(LEASE_S)
    assert (await looker.take_back(), freed) == (1, [("job", 7)])


async def test_looks_that_could_not_be_made_count_for_nobody(shop: Shop) -> None:
    """A look that takes long sees what stood before it, so only the time between two looks counts."""
    looker = shop.looker()
    await shop.hold("job")

    class Slow:
        async def read(self, work: Any) -> Any:
            found = await shop.database.read(work)
            shop.clock.advance(LEASE_S)
            return found

        write = shop.database.write

    looker._database = Slow()  # type: ignore[assignment]
    assert [await looker.take_back() for _ in range(2)] == [0, 0]
    assert await looker.take_back() == 1
