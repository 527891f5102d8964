"""Whoever fetches goes on, whatever one errand brings home."""

import asyncio
from typing import Any, cast

import pytest

from core.clock import SystemClock
from retrieval.errors import FetchFailed
from retrieval.intake import Intake
from retrieval.settings import RetrievalSettings
from retrieval.sources.courier import Courier
from retrieval.sources.errands import Errand, Kind
from retrieval.sources.open import open_courier

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


class Shelf(Intake):
    """Takes what one call may hold, and keeps none of it."""

    def __init__(self, settings: RetrievalSettings) -> None:
        none: Any = None
        super().__init__(none, none, none, SystemClock(), settings)
        self.calls: list[int] = []

    async def accept(self, _by: object, _name: object, files: Any, *_: object) -> Any:
        self._check(files)
        self.calls.append(len(files))


async def test_a_list_comes_in_by_as_many_as_one_call_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(*_: object) -> None: ...

    monkeypatch.setattr("retrieval.sources.errands.Errands.write", write)
    settings, none = SETTINGS.model_copy(update={"max_batch_files": 2}), cast(Any, None)
    shelf = Shelf(settings)
    courier = open_courier(settings, none, none, none, shelf, SystemClock(), "w")
    by = {"tenant_id": "t", "key_id": "k", "role": "manager", "user_id": None, "groups": [], "reach": None}
    plan = {"by": by, "metadata": {}, "acl": None, "expires_after_s": None, "collection_id": "c"}
    errand = Errand("e", "job", "t", None, Kind.SITEMAP, "https://a.example/", None, plan, 0, 1, 1, "", None)
    await courier._placing.place(errand, [f"https://a.example/{number}" for number in range(5)], 0, 0.0)
    assert shelf.calls == [2, 2, 1]
