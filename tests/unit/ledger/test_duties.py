"""What the keeper does side by side: the fault of one duty is nobody else's."""

import asyncio

from api.keeper import Duty, keep
from core.dependency import DependencyUnavailable


async def test_a_duty_that_fails_is_tried_again_and_the_others_go_on() -> None:
    stop, failed, done = asyncio.Event(), 0, 0

    async def fails() -> None:
        nonlocal failed
        failed += 1
        raise (ValueError("odd"), DependencyUnavailable("sql", "away"), OSError("full"))[failed % 3]

    async def works() -> None:
        nonlocal done
        done += 1
        if done == 5:
            stop.set()

    async with asyncio.timeout(30):
        await keep([Duty("odd", fails, 0.001, at_end=True), Duty("well", works, 0.01, at_end=True)], stop)
    assert done == 6, "five times, and once at the end, whatever the one before it did"
    assert failed >= 4
