"""Whoever fetches goes on, whatever one errand brings home."""

import asyncio
from typing import Any, cast

import pytest

from core.clock import SystemClock
from retrieval.errors import FetchFailed
from retrieval.settings import RetrievalSettings
from retrieval.sources.courier import Courier
from retrieval.sources.errands import Errand, Kind

SETTINGS = RetrievalSettings(fetch_parallel=1, poll_s=0.01, lease_s=5)


class Errands:
    """Has some errands; what is said of one that fails can't be written."""

    def __init__(self, *ids: str) -> None:
        self.waiting = list(ids)
        self.told: list[str] = []
        self.over = asyncio.Event()

    async def any_open(self) -> bool:
        return bool(self.waiting)

    async def acquire(self) -> Errand:
        one = self.waiting.pop(0)
        if one == "of a later version":
            raise ValueError("'video' is not a valid Kind")
        return Errand(one, "job", "t", "doc", Kind.URL, "https://a.example/", None, {}, 0, 1, 1, "a", None)

    async def renew(self, errand: Errand) -> None: ...

    async def fail(self, errand: Errand, reason: str, *_: object) -> None:
        self.told.append(errand.id)
        if not self.waiting:
            self.over.set()
        reason.encode()


class Broken(Courier):
    async def _do(self, errand: Errand) -> None:
        raise FetchFailed(f"{errand.id} sends image/\udcff, which can't be read here.")


@pytest.mark.parametrize("first", ["one that cannot be told", "of a later version"])
async def test_an_errand_that_cannot_be_begun_or_ended_stops_no_other(first: str) -> None:
    errands = Errands(first, "the next")
    courier: Courier = cast(Any, Broken)(SETTINGS, errands, *[None] * 7, SystemClock())
    running = asyncio.create_task(courier.run())
    try:
        async with asyncio.timeout(5):
            await asyncio.wait((running, asyncio.create_task(errands.over.wait())), return_when="FIRST_COMPLETED")
        assert errands.told[-1:] == ["the next"]
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
