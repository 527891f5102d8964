"""A round of the worker that fails ends that round alone."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from core.clock import SystemClock
from core.dependency import DependencyTimeout, DependencyUnavailable
from retrieval import generations
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


async def came(event: asyncio.Event) -> bool:
    """Whether it comes within some seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), 20)
    return event.is_set()


async def test_a_reindex_that_cannot_go_on_holds_up_no_document(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, later = 0, asyncio.Event()

    async def advance(*_: object) -> None:
        raise DependencyTimeout("sql", "sql did not answer within 60 s")

    async def acquire() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            later.set()
        raise DependencyUnavailable("sql", "away")

    monkeypatch.setattr(generations, "advance", advance)
    leases: Any = SimpleNamespace(acquire=acquire)
    none: Any = SimpleNamespace()
    worker = Worker(RetrievalSettings(poll_s=0.01), none, none, leases, none, none, none, SystemClock())
    running = asyncio.create_task(worker.run())
    assert await came(later)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_queue_that_is_never_empty_does_not_keep_the_worker_from_tidying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tidied = asyncio.Event()

    async def acquire() -> object:
        return object()

    async def ingest(_worker: object, _lease: object) -> None:
        await asyncio.sleep(0)

    async def put_in_order(_worker: object) -> None:
        tidied.set()

    monkeypatch.setattr(Worker, "ingest", ingest)
    monkeypatch.setattr(Worker, "_put_in_order", put_in_order)
    leases: Any = SimpleNamespace(acquire=acquire)
    none: Any = SimpleNamespace()
    worker = Worker(RetrievalSettings(lease_s=1, heartbeat_s=0.1), none, none, leases, none, none, none, SystemClock())
    worker._next_look_s = float("inf")
    worker._next_tidy_s = 0.0
    running = asyncio.create_task(worker.run())
    assert await came(tidied)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
