"""SQL stands still: keys that the worker knows go on, nobody is told that their key is wrong."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.clock import ManualClock
from tests.support.gate import Gate, open_gate
from tests.support.postgres import Postgres


async def status_within(gate: Gate, key: str, seconds: float) -> int:
    async with asyncio.timeout(seconds):
        return await gate.status(key)


@pytest.mark.heavy
async def test_a_frozen_postgresql(postgres: Postgres, postgres_url: str, tmp_path: Path) -> None:
    clock = ManualClock(time.time())
    async with open_gate(postgres_url, tmp_path / "data", clock=clock, sql_deadline_s=1.0) as gate:
        known, unseen = await gate.key(), await gate.key()
        assert await gate.status(known["key"]) == 200
        with postgres.frozen():
            for _ in range(8):  # until the breaker is open, and beyond
                answer = await gate.call("GET", "/v1/models", unseen["key"])
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "part_unavailable")
                assert answer.headers["retry-after"]
                assert await gate.status("sk-stoker-wrong") == 503
                assert await status_within(gate, known["key"], 0.2) == 200
            await gate.directory.identities.poll()
            clock.advance(60)
            assert await gate.status(known["key"]) == 200
            clock.advance(0.1)
            assert await gate.status(known["key"]) == 503
        for _ in range(100):
            if await gate.status(unseen["key"]) == 200:
                break
            await asyncio.sleep(0.05)
        assert [await gate.status(key) for key in (known["key"], unseen["key"])] == [200, 200]
        assert await gate.status("sk-stoker-wrong") == 401


@pytest.mark.heavy
async def test_a_change_that_sql_cannot_tell_of_does_not_stop_known_keys(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """The mark has moved, and then SQL stopped: each request after the first goes on without waiting."""
    async with (
        open_gate(postgres_url, tmp_path / "data", sql_deadline_s=5) as one,
        open_gate(postgres_url, tmp_path / "data", sql_deadline_s=5) as other,
    ):
        known = await one.key()
        assert await other.status(known["key"]) == 200
        await one.call("PUT", "/v1/admin/limits/model/small", json={"rpm": 1})
        with postgres.frozen():
            assert await status_within(other, known["key"], 3.5) == 200
            for _ in range(5):
                assert await status_within(other, known["key"], 1.0) == 200


@pytest.fixture
def locked(tmp_path: Path, sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """A connection that can hold SQLite's write lock."""
    connection = sqlite3.connect(tmp_path / "stoker.db", isolation_level=None)
    yield connection
    connection.close()


async def test_sqlites_write_lock_stops_administration_and_no_key(
    sqlite_url: str, locked: sqlite3.Connection, tmp_path: Path
) -> None:
    async with open_gate(sqlite_url, tmp_path / "data", sql_deadline_s=1.0) as gate:
        known, unseen = await gate.key(), await gate.key()
        assert await gate.status(known["key"]) == 200
        locked.execute("BEGIN IMMEDIATE")
        assert [await gate.status(key) for key in (known["key"], unseen["key"])] == [200, 200]
        assert await gate.status("sk-stoker-wrong") == 401  # readers are not blocked, so this is the truth
        answer = await gate.call("POST", "/v1/admin/keys", json={"name": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "part_unavailable")
        locked.execute("ROLLBACK")
