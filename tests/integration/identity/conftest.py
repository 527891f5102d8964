"""Migrated databases: SQLite and a real PostgreSQL, a fresh one for each test."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.migrate import migrate
from tests.support.database import fresh_sqlite
from tests.support.gate import Gate, open_gate
from tests.support.postgres import Postgres, postgres_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server whose database `migrated` is the template of every other."""
    with postgres_server() as server:
        server.execute("CREATE DATABASE migrated")
        migrate(server.url("migrated"))
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return fresh_sqlite(tmp_path / "stoker.db")


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    name = f"test{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    return postgres.url(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    found: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return found


@pytest.fixture
async def gate(url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """One worker, on each database in turn."""
    async with open_gate(url, tmp_path / "data", fetch_allow=["127.0.0.1:9"]) as opened:
        yield opened


@pytest.fixture
async def light_gate(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """One worker on SQLite, for what does not hang on the database."""
    async with open_gate(sqlite_url, tmp_path / "data") as opened:
        yield opened
