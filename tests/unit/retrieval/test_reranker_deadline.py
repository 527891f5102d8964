"""A question may give its reranking less time than the settings do, and never more."""

import asyncio
from typing import Any

import pytest

from core.dependency import DependencyTimeout
from retrieval.reranker import Reranker
from tests.simulation.loop import VirtualLoop


class Slow(Reranker):
    """A server that takes an hour."""

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(3600)
        return body


@pytest.mark.parametrize(("asked_s", "taken_s"), [(0.5, 0.5), (100.0, 5.0), (None, 5.0)])
def test_the_shorter_of_both_deadlines_holds(asked_s: float | None, taken_s: float) -> None:
    async def work() -> float:
        session: Any = None
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(DependencyTimeout):
            await Slow(session, "http://x", None, 5.0).scores("q", ["a"], asked_s)
        return asyncio.get_running_loop().time() - began_s

    loop = VirtualLoop()
    try:
        assert loop.run_until_complete(work()) == pytest.approx(taken_s)
    finally:
        loop.close()
