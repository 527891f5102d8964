"""The migrations make the tables that the code speaks of, on SQLite and on a real PostgreSQL, up and down."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, column, insert, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from core.reach import ANYWHERE, HOME, Reach
from storage.migrate import migrate
from storage.schema import metadata, tenants
from storage.sql import Database
from tests.support.postgres import postgres_server


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres_server() as server:
        yield server.url()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


def inspected(url: str, look: "object") -> object:
    async def run() -> object:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            result = await connection.run_sync(look)  # type: ignore[arg-type]
        await engine.dispose()
        return result

    return asyncio.run(run())


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def difference(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


# On SQLite indexes of expressions are not compared: tests of their queries ask for the plan.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_migrations_lead_up_to_the_schema_and_back_to_nothing(url: str) -> None:
    migrate(url)
    assert inspected(url, table_names) == set(metadata.tables)
    assert inspected(url, difference) == []
    migrate(url)  # a second time changes nothing
    migrate(url, "base")
    assert inspected(url, table_names) == set()


def test_what_stayed_in_the_house_does_so_after_the_migration(url: str) -> None:
    migrate(url, "0017")
    named = ("id", "name", "local_only", "created_at", "changed_at")
    old = table("tenants", *map(column, named))

    def fill(connection: Connection) -> None:
        for name, kept in (("home", True), ("free", False)):
            connection.execute(old.insert().values(dict(zip(named, (name, name, kept, 0.0, 0.0), strict=True))))
        connection.commit()

    def reaches(connection: Connection) -> dict[str, Reach]:
        return {row.id: Reach.read(row.reach) for row in connection.execute(select(tenants.c.id, tenants.c.reach))}

    inspected(url, fill)
    migrate(url)
    assert inspected(url, reaches) == {"home": HOME, "free": ANYWHERE}
    migrate(url, "base")


def test_a_transaction_that_raises_leaves_nothing_behind(url: str) -> None:
    migrate(url)

    async def run() -> None:
        database = Database(url, 5.0)
        row = {"id": "t1", "name": "one", "created_at": 0.0}

        async def add_and_fail(connection: AsyncConnection) -> None:
            await connection.execute(insert(tenants).values(**row))
            raise ValueError("halfway")

        async def count(connection: AsyncConnection) -> int:
            return len((await connection.execute(select(tenants))).all())

        with pytest.raises(ValueError, match="halfway"):
            await database.write(add_and_fail)
        assert await database.read(count) == 0
        for _ in range(2):  # the second time the key is taken, and the row is left alone
            await database.write(lambda c: c.execute(database.insert_or_ignore(tenants).values(**row)))
        assert await database.read(count) == 1
        await database.close()

    try:
        asyncio.run(run())
    finally:
        migrate(url, "base")


def test_writers_at_once_lose_no_update_on_sqlite(tmp_path: Path) -> None:
    """Each transaction reads a number and writes it back one higher: the write lock is taken at the start."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"
    migrate(url)

    async def run() -> str:
        databases = [Database(url, 30.0) for _ in range(4)]
        await databases[0].write(lambda c: c.execute(insert(tenants).values(id="t", name="0", created_at=0.0)))

        async def raise_by_one(connection: AsyncConnection) -> None:
            name = (await connection.execute(select(tenants.c.name))).scalar_one()
            await asyncio.sleep(0)
            await connection.execute(tenants.update().values(name=str(int(name) + 1)))

        await asyncio.gather(*(database.write(raise_by_one) for database in databases for _ in range(10)))
        name = await databases[0].read(lambda c: c.execute(select(tenants.c.name)))
        result = str(name.scalar_one())
        for database in databases:
            await database.close()
        return result

    assert asyncio.run(run()) == "40"
