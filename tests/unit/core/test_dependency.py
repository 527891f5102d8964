"""The helper that every outbound call goes through."""

import asyncio
import contextlib

import pytest

from core.breaker import BreakerPolicy, BreakerState
from core.clock import ManualClock
from core.dependency import Dependency, DependencyTimeout, DependencyUnavailable

POLICY = BreakerPolicy(failures_to_open=2, probe_after_s=5.0, successes_to_close=1)


async def answer() -> str:
    return "here"


async def refuse() -> str:
    raise ConnectionRefusedError


async def hang() -> str:
    await asyncio.sleep(60)
    return "late"


async def fail_otherwise() -> str:
    raise ValueError("a bad query")


async def test_an_answer_passes_through() -> None:
    assert await Dependency("part", 1.0).call(answer) == "here"


async def test_a_silent_part_is_left_at_its_deadline() -> None:
    with pytest.raises(DependencyTimeout, match=r"part did not answer within 0\.01 s"):
        await Dependency("part", 0.01).call(hang)


async def test_an_outage_is_translated_and_hides_its_text() -> None:
    with pytest.raises(DependencyUnavailable, match=r"part can't be reached \(ConnectionRefusedError\)"):
        await Dependency("part", 1.0).call(refuse)


async def test_after_enough_outages_calls_are_refused_without_being_made() -> None:
    clock = ManualClock()
    part = Dependency("part", 1.0, policy=POLICY, clock=clock)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await part.call(refuse)
    with pytest.raises(DependencyUnavailable) as refused:
        await part.call(answer)
    assert refused.value.retry_after_s == 5.0
    clock.advance(5.0)
    assert await part.call(answer) == "here"
    assert part.state is BreakerState.CLOSED


async def test_a_refused_query_is_an_answer_and_no_outage() -> None:
    part = Dependency("part", 1.0, policy=POLICY)
    for _ in range(5):
        with pytest.raises(ValueError, match="a bad query"):
            await part.call(fail_otherwise)
    assert part.state is BreakerState.CLOSED


async def test_a_caller_who_leaves_says_nothing_about_the_part() -> None:
    clock = ManualClock()
    part = Dependency("part", 30.0, policy=POLICY, clock=clock)
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await part.call(refuse)
    clock.advance(5.0)
    probe = asyncio.create_task(part.call(hang))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await part.call(answer) == "here"


async def test_a_timeout_raised_inside_counts_as_away_not_as_our_deadline() -> None:
    async def their_timeout() -> str:
        raise TimeoutError

    with pytest.raises(DependencyUnavailable, match="part timed out"):
        await Dependency("part", 1.0).call(their_timeout)


async def test_a_cancel_that_the_library_swallowed_still_ends_the_caller() -> None:
    """redis-py 8.1 can return normally from a command that was cancelled; a loop around it would never end."""
    dependency = Dependency("part", 5.0)
    started = asyncio.Event()

    async def swallow() -> str:
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "as if nothing had happened"

    task = asyncio.create_task(dependency.call(swallow))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await dependency.call(answer) == "here"
