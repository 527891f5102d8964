"""A lease is held as long as the work goes on, and the work goes on only as long as the lease is held."""

import asyncio
from collections.abc import Iterator

import pytest

from core.clock import ManualClock
from core.dependency import DependencyError, DependencyUnavailable
from retrieval import heartbeat
from retrieval.errors import ErrandLost, LeaseLost


async def beats(answers: Iterator[Exception | None], lost: type[Exception] = LeaseLost, most: int = 50) -> int:
    """Each renewal takes ten seconds. Returns: after how many the work was stopped; `most`: it was not."""
    clock, count = ManualClock(), 0
    work = asyncio.create_task(asyncio.sleep(3600))

    async def renew() -> None:
        nonlocal count
        count += 1
        clock.advance(10)
        if (answer := next(answers, None)) is not None:
            raise answer

    beat = asyncio.create_task(heartbeat.keep(renew, lost, work, clock, lease_s=25, every_s=0))
    while count < most and not beat.done():  # noqa: ASYNC110  # it counts turns of the loop, and waits for nothing
        await asyncio.sleep(0)
    beat.cancel()
    await asyncio.gather(beat, return_exceptions=True)
    await asyncio.sleep(0)
    stopped = work.cancelled()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return count if stopped else most


def away(*turns: bool) -> Iterator[DependencyError | None]:
    return (DependencyUnavailable("sql", "away") if turn else None for turn in turns)


@pytest.mark.parametrize("lost", [LeaseLost, ErrandLost])
async def test_a_lease_that_is_lost_stops_the_work_at_once(lost: type[Exception]) -> None:
    assert await beats(iter([None, None, lost("gone")]), lost) == 3


async def test_work_goes_on_while_the_store_is_away_and_the_lease_holds() -> None:
    assert await beats(away(True, True, True, True)) == 3  # after 30 s of a lease of 25
    assert await beats(away(True, True, False, True, False, True)) == 50
    assert await beats(away(True, True, False, True, True)) == 5  # it counts from when it was asked
    assert await beats(away()) == 50
