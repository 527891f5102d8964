"""SQL that stands still, or refuses: lines wait and then arrive."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from api.keeper import Duty, keep
from api.ledger.ledger import Ledger
from api.ledger.ship import Shipper
from core.clock import SystemClock
from core.dependency import DependencyError
from storage.sql import Database
from tests.integration.ledger.test_kills import files_in, outcomes, rows
from tests.support.ledger import PRICE, a_line, finished
from tests.support.network import free_port


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Hold SQLite's write lock, or a lock on the table that lets nobody write."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        if url.startswith("sqlite"):
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("BEGIN IMMEDIATE"))
            yield
            await connection.execute(text("ROLLBACK"))
        else:
            await connection.execute(text("LOCK TABLE ledger IN EXCLUSIVE MODE"))
            yield
            await connection.rollback()
    await engine.dispose()


@pytest.mark.heavy
async def test_while_nobody_can_write_lines_wait_and_then_arrive(
    database: Database, url: str, folder: Path, figure: Callable[[str], None]
) -> None:
    """The keeper itself, with SQL held for three seconds; the worker never waits."""
    impatient = Database(url, 0.4)
    stop = asyncio.Event()
    keeper = asyncio.create_task(keep([Duty("ledger", Shipper(impatient, folder).ship, 0.5)], stop))
    worker = Ledger(folder, SystemClock())
    expected, slowest = {}, 0.0

    async def work(name: str, seconds: float) -> None:
        nonlocal slowest
        number, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.perf_counter()
            worker.begin(a_line(f"{name}-{number}"), PRICE).finish(finished(a_line(f"{name}-{number}")))
            slowest = max(slowest, time.perf_counter() - started)
            expected[f"{name}-{number}"] = "ok"
            number += 1
            await asyncio.sleep(0.01)

    await work("before", 1.2)
    async with locked(url):
        held = len(await rows(database))
        assert held > 0
        await work("during", 3.0)
        worker.begin(a_line("open"), PRICE).count(3, 4)
        worker.close()  # the worker ends, too
        expected["open"] = "lost"
        assert len(await rows(database)) == held
    released = time.monotonic()
    while files_in(folder):
        assert time.monotonic() < released + 45, "the lines did not arrive"
        await asyncio.sleep(0.05)
    figure(
        f"{len(expected)} lines, all in SQL {time.monotonic() - released:.1f} s after the lock was released; slowest "
        f"begin and finish {slowest * 1e3:.2f} ms"
    )
    stop.set()
    await keeper
    await impatient.close()
    assert await outcomes(database) == expected


async def test_a_line_that_a_table_would_not_take_holds_up_nobody(database: Database, folder: Path) -> None:
    worker = Ledger(folder, SystemClock())
    odd = {
        "long": a_line("long", model_group="m" * 5000, key_id="k" * 500),
        "nul": a_line("nul", model_group="a\0b"),
        "huge": a_line("huge", tokens_out=2**63, nano_usd=10**40),
        "nan": a_line("nan", latency_ms=float("nan"), ttft_ms=float("inf")),
        "plain": a_line("plain"),
    }
    for line in odd.values():
        worker.begin(line, PRICE).finish(replace(line, outcome="ok"))
    worker.close()
    await Shipper(database, folder).ship()
    assert await outcomes(database) == dict.fromkeys(odd, "ok")
    found = {row.request_id: row for row in await rows(database)}
    assert found["long"].model_group == "m" * 200
    assert found["nul"].model_group == "ab"
    assert (found["huge"].tokens_out, found["huge"].nano_usd) == (2**50, 2**50)
    assert (found["nan"].latency_ms, found["nan"].ttft_ms) == (0.0, None)


async def test_with_sql_away_every_file_stays(folder: Path) -> None:
    worker = Ledger(folder, SystemClock())
    worker.begin(a_line()).finish(finished(a_line()))
    worker.close()
    away = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none", 1.0)
    with pytest.raises(DependencyError):
        await Shipper(away, folder).ship()
    await away.close()
    assert len(files_in(folder)) == 3
