"""A connection that is cut in the middle of a statement is an outage of SQL, and the next transaction has another."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.dependency import DependencyUnavailable
from storage.sql import Database
from tests.support.postgres import Postgres, postgres_server
from tests.support.proxy import Fault, Proxy, Toxic

pytestmark = pytest.mark.slow  # PostgreSQL is started


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as one:
        yield one


@pytest.fixture
async def proxy(postgres: Postgres) -> AsyncIterator[Proxy]:
    made = Proxy(postgres.socket)
    await made.listen()
    yield made
    await made.close()


@pytest.fixture
async def database(proxy: Proxy) -> AsyncIterator[Database]:
    made = Database(f"postgresql+asyncpg://postgres:@127.0.0.1:{proxy.port}/postgres", 30.0)
    await made.check()
    yield made
    await made.close()


async def sleep(connection: AsyncConnection) -> None:
    await connection.execute(sa.text("SELECT pg_sleep(20)"))


async def under_way(database: Database, *, writes: bool) -> "asyncio.Task[None]":
    task = asyncio.create_task(database.write(sleep) if writes else database.read(sleep))
    await asyncio.sleep(0.5)
    assert not task.done()
    return task


@pytest.mark.parametrize("writes", [True, False])
async def test_a_reset_in_the_middle_of_a_statement(proxy: Proxy, database: Database, writes: bool) -> None:
    task = await under_way(database, writes=writes)
    await proxy.begin(Toxic(Fault.RESET))
    with pytest.raises(DependencyUnavailable, match="sql can't be reached"):
        await task
    await proxy.end()
    await database.check()


@pytest.mark.parametrize("writes", [True, False])
async def test_an_answer_that_is_cut_short(proxy: Proxy, database: Database, writes: bool) -> None:
    async def much(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("SELECT repeat('x', 100000)"))

    await proxy.begin(Toxic(Fault.LIMIT, size_bytes=2_000))
    with pytest.raises(DependencyUnavailable, match="sql can't be reached"):
        await (database.write(much) if writes else database.read(much))
    await proxy.end()
    await database.check()


async def test_a_server_that_ends_its_connections(postgres: Postgres, database: Database) -> None:
    task = await under_way(database, writes=True)
    others = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid != pg_backend_pid()"
    ended = f"SELECT pg_terminate_backend(pid) {others}"
    await asyncio.to_thread(postgres.execute, ended)
    with pytest.raises(DependencyUnavailable, match="sql can't be reached"):
        await task
    await database.check()


async def test_what_is_wrong_with_a_statement_is_no_outage(database: Database) -> None:
    async def wrong(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("SELECT 1 / 0"))

    for _ in range(10):
        with pytest.raises(sa.exc.DBAPIError):
            await database.write(wrong)
    await database.check()
