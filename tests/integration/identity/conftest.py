"""Migrated databases: SQLite and a real PostgreSQL, a fresh one for each test."""

import asyncio
import itertools
import logging
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from storage.migrate import migrate
from tests.support.gate import Gate, open_gate

_numbers = itertools.count()


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "stoker.db"
    migrate(f"sqlite+aiosqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A server whose database `migrated` is the template of every other.

    Its folder is not pytest's: another pytest that starts takes that one's rights away from the server's own user.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="stoker-postgres-") as folder:
        warnings.simplefilter("ignore")  # pgserver leaves its pipes to the garbage collector
        import pgserver

        logging.getLogger("pgserver").setLevel(logging.WARNING)  # it logs at exit, when nobody listens any more
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()", "CREATE DATABASE migrated"):
            execute(server.get_uri(), statement)
        migrate(_url(server, "migrated"))
        yield server
        server.cleanup()


def execute(uri: str, statement: str) -> None:
    """Run one statement outside of a transaction."""

    async def run() -> None:
        connection = await asyncpg.connect(uri)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def _url(server: Any, name: str) -> str:
    return str(server.get_uri(database=name)).replace("postgresql://", "postgresql+asyncpg://", 1)


@pytest.fixture
def sqlite_url(sqlite_file: Path, tmp_path: Path) -> str:
    file = tmp_path / "stoker.db"
    shutil.copy(sqlite_file, file)
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture
def postgres_url(postgres: Any) -> str:
    name = f"test{next(_numbers)}"
    execute(postgres.get_uri(), f"CREATE DATABASE {name} TEMPLATE migrated")
    return _url(postgres, name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    found: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return found


@pytest.fixture
async def gate(url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """One worker, on each database in turn."""
    async with open_gate(url, tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def light_gate(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """One worker on SQLite, for what does not hang on the database."""
    async with open_gate(sqlite_url, tmp_path / "data") as opened:
        yield opened
