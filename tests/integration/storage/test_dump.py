"""SQL in files and back, on SQLite and on a real PostgreSQL: one moment of it, whole or not at all."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.dump import Dumped, DumpRefused, dump, fill, holds, is_empty, kind_of
from storage.migrate import migrate, revisions
from storage.schema import metadata, sla_hours, tenants
from storage.sql import Database
from tests.support.database import fresh_sqlite, migrated
from tests.support.postgres import Postgres, postgres_server

_ODD = "a\tb\nc\\d\x01 é 漢 '\" \\N"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A database with a schema, and one without anything."""
    if request.param == "sqlite":
        yield fresh_sqlite(tmp_path / "from.db"), f"sqlite+aiosqlite:///{tmp_path / 'to' / 'stoker.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    server.execute("CREATE DATABASE dumped", "CREATE DATABASE filled")
    migrated(server.url("dumped"))
    yield server.url("dumped"), server.url("filled")
    server.execute("DROP DATABASE dumped WITH (FORCE)", "DROP DATABASE filled WITH (FORCE)")


async def _sums(connection: AsyncConnection) -> tuple[int, int]:
    """How many tenants there are, and what they have together: always one of each."""
    count = await connection.scalar(select(func.count()).select_from(tenants)) or 0
    return count, int(await connection.scalar(select(func.coalesce(func.sum(sla_hours.c.requests), 0))) or 0)


async def test_a_dump_is_of_one_moment_while_others_write(urls: tuple[str, str], tmp_path: Path) -> None:
    database, back = Database(urls[0], 60.0), Database(urls[1], 60.0)
    written, some = 0, asyncio.Event()

    async def both(connection: AsyncConnection) -> None:
        name = f"{written:06} {_ODD}"
        values = {"hour": written, "host": "h", "route": "r", "requests": 1, "errors": 0}
        await connection.execute(tenants.insert().values(id=name, name=name, created_at=0.1))
        await connection.execute(sla_hours.insert().values(values))

    async def write() -> None:
        nonlocal written
        while True:
            await database.write(both)
            written += 1
            if written % 20 == 0:
                some.set()

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(60):
            await some.wait()
            made = await dump(urls[0], tmp_path / "sql", _sums)
            after = written
            some.clear()
            await some.wait()
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
    count, together = made.seen
    assert 20 <= count == together <= after + 1
    rows = {table.name: table.rows for table in made.tables}
    assert (rows["tenants"], rows["sla_hours"]) == (count, count)
    assert set(rows) == set(metadata.tables)
    assert await is_empty(urls[1])
    await fill(urls[1], tmp_path / "sql", made.kind, made.revision, made.tables)
    assert await back.read(_sums) == (count, count)
    names = await back.read(lambda connection: connection.scalars(select(tenants.c.name)))
    assert all(name.endswith(_ODD) for name in names)
    assert not await is_empty(urls[1])
    assert await holds(urls[1], made.tables)
    await database.close()
    await back.close()


@pytest.mark.heavy
async def test_a_database_that_refuses_one_row_has_none(postgres: Postgres, tmp_path: Path) -> None:
    await asyncio.to_thread(postgres.execute, "CREATE DATABASE whole", "CREATE DATABASE refusing")
    source, target = postgres.url("whole"), postgres.url("refusing")
    await asyncio.to_thread(migrate, source)
    database = Database(source, 60.0)
    await database.write(lambda c: c.execute(tenants.insert().values(id="t", name="t", created_at=0.0)))
    made = await dump(source, tmp_path / "sql", _sums)
    await database.close()
    broken = [Dumped(table.name, table.columns, table.rows) for table in made.tables]
    broken.append(broken[[table.name for table in broken].index("tenants")])  # each tenant once more
    with pytest.raises(DumpRefused):
        await fill(target, tmp_path / "sql", made.kind, made.revision, broken)
    assert await is_empty(target)
    await fill(target, tmp_path / "sql", made.kind, made.revision, made.tables)
    assert not await is_empty(target)


async def test_another_kind_of_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DumpRefused, match="the dump is of postgresql"):
        await fill(f"sqlite+aiosqlite:///{tmp_path / 'to.db'}", tmp_path, "postgresql", revisions()[-1], [])
    assert kind_of("postgresql+asyncpg://h/d") == "postgresql"


async def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DumpRefused):
        await dump(f"sqlite+aiosqlite:///{tmp_path / 'none.db'}", tmp_path / "sql", _sums)
    assert not (tmp_path / "none.db").exists()
