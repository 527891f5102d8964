"""A migration that is killed at any statement is taken up by the next start, and ends as one that never was."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from storage.migrate import migrate
from tests.support.database import migrated
from tests.support.postgres import Postgres, postgres_server
from tests.support.process import ROOT

SEED = int(os.environ.get("CHAOS_SEED", "1"))
_FEW, _SOME, _MANY = 3, 8, 60
_OLD = "0012"  # a schema with rows from which the rest is migrated


def die(url: str, statement: int) -> int | None:
    """Returns: how many statements there were, had it not been killed; None: it was."""
    command = [sys.executable, "-m", "tests.faults.chaos.dying_migration", url, str(statement)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


def schema(file: Path) -> list[object]:
    """Tables with their columns, keys and indexes, and the rows of tenants; the order of constraints is chance."""
    with closing(sqlite3.connect(file)) as database:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return sorted(database.execute(query).fetchall(), key=str)

        tables = [name for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        parts = ("table_info", "foreign_key_list", "index_list")
        told = [
            (name, part, sorted((row[1:] for row in rows(f"PRAGMA {part}({name})")), key=str))
            for name in tables
            for part in parts
        ]
        indexes = rows("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        return [*told, indexes, rows("SELECT id, name FROM tenants"), rows("SELECT * FROM alembic_version")]


def filled(file: Path) -> str:
    """An old database with a row. Returns: its URL."""
    url = f"sqlite+aiosqlite:///{file}"
    migrate(url, _OLD)
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            "INSERT INTO tenants (id, name, local_only, created_at, changed_at) VALUES ('t', 't', 1, 0, 0)"
        )
        database.commit()
    return url


def moments(statements: int, count: int) -> list[int]:
    return sorted(random.Random(SEED).sample(range(1, statements + 1), min(count, statements)))


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(_FEW, marks=pytest.mark.light),
        pytest.param(_SOME, marks=pytest.mark.heavy),
        pytest.param(_MANY, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("begin", ["empty", "old"])
def test_sqlite(tmp_path: Path, begin: str, count: int, figure: Callable[[str], None]) -> None:
    def fresh(name: str) -> tuple[Path, str]:
        file = tmp_path / f"{name}.db"
        return file, filled(file) if begin == "old" else f"sqlite+aiosqlite:///{file}"

    whole, url = fresh("whole")
    statements = die(url, 0)
    assert statements is not None
    wanted = schema(whole)
    for statement in (killed := moments(statements, count)):
        file, url = fresh(f"at-{statement}")
        assert die(url, statement) is None
        migrate(url)
        assert schema(file) == wanted, f"killed at statement {statement} of {statements}"
    figure(f"seed {SEED}: {len(killed)} kills at {statements} statements, from a database that was {begin}")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as one:
        yield one


@pytest.mark.parametrize(
    "count", [pytest.param(_FEW, marks=pytest.mark.heavy), pytest.param(_MANY, marks=pytest.mark.long)]
)
def test_postgresql(postgres: Postgres, count: int, figure: Callable[[str], None]) -> None:
    async def described(database: str) -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(postgres.url(database).replace("+asyncpg", ""))
        query = (
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        rows = [tuple(row) for row in await connection.fetch(query)]
        indexes = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
        await connection.close()
        return [*rows, *(tuple(row) for row in indexes)]

    postgres.execute(f"CREATE DATABASE whole{count}")
    statements = die(postgres.url(f"whole{count}"), 0)
    assert statements is not None
    wanted = asyncio.run(described(f"whole{count}"))
    for statement in (killed := moments(statements, count)):
        name = f"at{count}_{statement}"
        postgres.execute(f"CREATE DATABASE {name}")
        assert die(postgres.url(name), statement) is None
        migrated(postgres.url(name))
        assert asyncio.run(described(name)) == wanted, f"killed at statement {statement} of {statements}"
    figure(f"seed {SEED}: {len(killed)} kills at {statements} statements")
