"""A round of the worker that fails ends that round alone."""

import asyncio
from types import SimpleNamespace
from typing import Any

from core.clock import SystemClock
from core.dependency import DependencyUnavailable
from retrieval.settings import RetrievalSettings
from retrieval.worker import Worker


async def test_what_cannot_be_begun_ends_no_other_work() -> None:
    asked, later = 0, asyncio.Event()

    async def acquire() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            later.set()
        raise (ValueError("a row that is none"), DependencyUnavailable("sql", "away"))[asked % 2]

    leases: Any = SimpleNamespace(acquire=acquire)
    none: Any = SimpleNamespace()
    worker = Worker(RetrievalSettings(poll_s=0.01), none, none, leases, none, none, none, SystemClock())
    worker._next_look_s = float("inf")  # no reindex to look at
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        await later.wait()
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
