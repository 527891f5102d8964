"""SQLite and a real PostgreSQL, each with its tables and nothing in them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.migrate import migrate
from storage.schema import metadata
from storage.sql import Database
from tests.support.database import fresh_sqlite
from tests.support.postgres import postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as server:
        migrate(server.url())
        yield server.url()


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fresh_sqlite(tmp_path_factory.mktemp("sqlite") / "test.db")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, 10.0)

    async def empty(connection: AsyncConnection) -> None:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(table.delete())

    await opened.write(empty)
    yield opened
    await opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ledger"
    made.mkdir()
    return made
