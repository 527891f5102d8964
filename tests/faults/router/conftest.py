"""Two servers of one model, and what asks them."""

import itertools
from collections.abc import AsyncIterator

import pytest

from tests.faults.router import calls
from tests.support.exact.server import ExactServer, exact_server

Twins = tuple[ExactServer, ExactServer]


@pytest.fixture
async def twins() -> AsyncIterator[Twins]:
    """Two servers that continue one another exactly; they share their plan, so whichever is asked first fails first."""
    async with exact_server() as first, exact_server() as second:
        first.pause_s = second.pause_s = 0.001
        second.plan, second.cuts = first.plan, first.cuts
        yield first, second


@pytest.fixture(autouse=True)
def same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test has the same prompts whichever ran before it."""
    monkeypatch.setattr(calls, "_numbers", itertools.count())
