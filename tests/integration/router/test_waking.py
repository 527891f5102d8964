"""Engines that sleep or are scaled to zero: calls are held while they may come back in time, else told when to come."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from monitoring.metrics import ENGINE_WANTED, samples_of
from router.config import RouterConfig
from router.errors import NoDeployment
from router.router import Router, open_router
from tests.integration.router.calls import DEADLINES, chat, native
from tests.integration.router.test_watch import POLICY, FakeEngine, until
from tests.integration.router.test_watch import running as engine_running
from tests.support.exact.server import ExactServer, exact_server
from tests.support.network import free_port


@asynccontextmanager
async def scaled_to_zero(wakes_in_s: float | None, hold_s: float) -> AsyncIterator[tuple[ExactServer, Router]]:
    """A server where nobody listens until it is told to come."""
    async with exact_server("m") as server:
        server.go()
        only = native(server, wakes_in_s=wakes_in_s, deadlines=replace(DEADLINES, connect_s=3, first_token_s=5))
        async with open_router(RouterConfig([only], hold_s=hold_s)) as router:
            yield server, router


async def refused(router: Router) -> NoDeployment:
    with pytest.raises(NoDeployment) as found:
        await router.open(chat())
    return found.value


@pytest.mark.parametrize("stream", [True, False])
async def test_calls_are_held_until_it_is_there(stream: bool) -> None:
    async with scaled_to_zero(wakes_in_s=2, hold_s=10) as (server, router):
        asking = [asyncio.create_task(router.open(chat(stream=stream))) for _ in range(30)]
        await asyncio.sleep(1.2)
        assert not any(task.done() for task in asking)
        await server.come()
        answers = await asyncio.wait_for(asyncio.gather(*asking), 10)
        assert {answer.status for answer in answers} == {200}
        for answer in answers:
            await answer.aclose()


async def test_no_longer_than_it_may_and_then_they_are_told_when_to_come() -> None:
    async with scaled_to_zero(wakes_in_s=3, hold_s=3.5) as (_, router):
        began_s = time.monotonic()
        error = await refused(router)
        assert 3.4 < time.monotonic() - began_s < 6
        assert error.retry_after_s == 1, "it is overdue"
        assert "scaled to zero" in str(error)


async def test_who_would_have_to_wait_for_too_long_is_told_at_once() -> None:
    async with scaled_to_zero(wakes_in_s=100, hold_s=5) as (server, router):
        began_s = time.monotonic()
        assert 99 < (await refused(router)).retry_after_s <= 100
        await asyncio.sleep(1)
        assert 98 < (await refused(router)).retry_after_s <= 99.1
        assert time.monotonic() - began_s < 4
        await server.come()
        await until(lambda: router.members()[0].breaker.retry_after_s() == 0)
        answer = await router.open(chat(stream=True))
        server.go()
        assert 99 < (await refused(router)).retry_after_s <= 100, "it went anew"
        await answer.aclose()


async def test_it_begins_to_come_back_when_it_is_first_called() -> None:
    async with scaled_to_zero(wakes_in_s=100, hold_s=5) as (_, router):
        router.members()[0].health.gone()
        gone_s = time.monotonic()
        await until(lambda: time.monotonic() > gone_s + 1.5)  # nobody calls it meanwhile
        assert (await refused(router)).retry_after_s > 99


async def test_whoever_scales_engines_is_told_that_one_is_wanted() -> None:
    before_s = time.time()
    async with scaled_to_zero(wakes_in_s=100, hold_s=5) as (_, router):
        await refused(router)
        assert _wanted("g") >= before_s


async def test_so_it_is_where_a_fallback_answers_meanwhile() -> None:
    before_s = time.time()
    async with scaled_to_zero(wakes_in_s=1, hold_s=10) as (gone, _), exact_server("m") as there:
        first, second = native(gone, "gone", group="idle", wakes_in_s=1), native(there, "there", group="other")
        async with open_router(RouterConfig([first, second], {"idle": ["other"]}, hold_s=10)) as router:
            answer = await asyncio.wait_for(router.open(chat(group="idle")), 3)
            await answer.aclose()
            assert _wanted("idle") >= before_s


def _wanted(group: str) -> float:
    samples = samples_of(ENGINE_WANTED)
    return max((each.value for each in samples if each.labels["model_group"] == group), default=0.0)


async def test_one_that_never_sleeps_is_not_waited_for() -> None:
    async with scaled_to_zero(wakes_in_s=None, hold_s=10) as (_, router):
        began_s = time.monotonic()
        assert "scaled to zero" not in str(await refused(router))
        assert time.monotonic() - began_s < 9


async def test_a_fallback_goes_before_waiting() -> None:
    async with scaled_to_zero(wakes_in_s=1, hold_s=10) as (gone, _), exact_server("m") as there:
        first, second = native(gone, "gone", wakes_in_s=1), native(there, "there", group="other")
        config = RouterConfig([first, second], {"g": ["other"]}, hold_s=10)
        async with open_router(config) as router:
            answer = await asyncio.wait_for(router.open(chat()), 3)
            assert answer.fallback == "other"


async def test_who_leaves_while_he_is_held_leaves_nothing_behind() -> None:
    async with scaled_to_zero(wakes_in_s=5, hold_s=10) as (_, router):
        asking = asyncio.create_task(router.open(chat()))
        await asyncio.sleep(0.5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert router.members()[0].health.in_flight == 0


@asynccontextmanager
async def asleep(**more: Any) -> AsyncIterator[tuple[FakeEngine, Router]]:
    """An engine that sleeps, and a router that has seen it."""
    engine = FakeEngine(free_port(), awake=False)
    deployment = replace(engine.deployment(), **more)
    async with (
        engine_running(engine),
        open_router(RouterConfig([deployment], health=POLICY, hold_s=5)) as router,
    ):
        await until(lambda: router.members()[0].health.ejected == "asleep")
        yield engine, router


async def test_a_sleeping_engine_is_woken_once_for_all_who_call_it() -> None:
    async with asleep(wakes_in_s=2) as (engine, router):
        answers = await asyncio.wait_for(asyncio.gather(*(router.open(chat()) for _ in range(20))), 5)
        assert {answer.status for answer in answers} == {200}
        assert engine.woken == 1


async def test_one_that_may_not_be_woken_is_not_even_asked() -> None:
    async with asleep() as (engine, router):
        assert "asleep" in str(await refused(router))
        await asyncio.sleep(0.3)
        assert (engine.woken, engine.bodies) == (0, [])


async def test_an_engine_that_has_no_such_route_is_waited_for_all_the_same() -> None:
    async with asleep(wakes_in_s=2) as (engine, router):
        engine.can_be_woken = False
        asking = asyncio.create_task(router.open(chat()))
        await asyncio.sleep(1)
        assert not asking.done()
        engine.awake = True  # somebody else woke it
        assert (await asyncio.wait_for(asking, 5)).status == 200
