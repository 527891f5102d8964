"""Calls that move from one deployment to the next: how often, where to, and whose time to wait is kept."""

import asyncio
from dataclasses import replace

import pytest

from core.clock import ManualClock
from router.config import RouterConfig
from router.errors import UpstreamFailed, UpstreamRefused
from router.router import open_router
from tests.integration.router.calls import chat, config, native, read
from tests.support.openai_server import Fault, OpenAiServer, openai_server


@pytest.mark.parametrize("fault", [Fault.BUSY_503, Fault.LIMIT_429])
async def test_a_deployment_is_left_alone_for_as_long_as_it_asks(server: OpenAiServer, fault: Fault) -> None:
    clock = ManualClock()
    async with (
        openai_server(server.model) as twin,
        open_router(config(native(server, "a"), native(twin, "b")), clock) as router,
    ):
        server.fault = fault
        for _ in range(4):
            await router.open(chat())
        assert server.requests == 1
        server.fault = None
        clock.advance(5)
        for _ in range(4):
            await router.open(chat())
        assert server.requests == 1, "it asked for 7 or 9 seconds"
        clock.advance(5)
        for _ in range(4):
            await router.open(chat())
        assert server.requests > 1


async def test_the_only_one_is_asked_all_the_same_and_says_itself_when_to_come(server: OpenAiServer) -> None:
    async with open_router(config(native(server)), ManualClock()) as router:
        server.fault = Fault.LIMIT_429
        for _ in range(2):
            with pytest.raises(UpstreamRefused) as refused:
                await router.open(chat())
            assert (refused.value.status, refused.value.retry_after_s) == (429, 9)
        server.fault = None
        await router.open(chat())


async def test_a_call_moves_away_from_those_that_are_gone_without_any_budget(server: OpenAiServer) -> None:
    """A dead engine's load is no load upon load; failures that were work are."""
    patient = replace(native(server).breaker, failures_to_open=10**6)
    gone = replace(native(server, "gone"), api_base="http://127.0.0.1:9/v1", breaker=patient)
    async with open_router(config(gone, native(server, "there"))) as router:
        for _ in range(60):
            await router.open(chat())


async def test_failures_beyond_the_budget_are_not_tried_again(server: OpenAiServer) -> None:
    """The clock stands still, or after some seconds what fails so often would be ejected."""
    async with openai_server(server.model) as broken:
        broken.fault = Fault.ERROR_500
        patient = replace(native(server).breaker, failures_to_open=10**6)
        members = [replace(native(broken, "broken"), breaker=patient), native(server, "there")]
        failed = 0
        async with open_router(config(*members), clock=ManualClock()) as router:
            for _ in range(100):
                try:
                    await router.open(chat())
                except UpstreamFailed:
                    failed += 1
        assert failed > 10
        assert 28 <= broken.requests - failed <= 30, "ten were saved up, and each of the hundred calls earned a fifth"


async def test_a_prompt_that_does_not_fit_goes_to_a_larger_model_where_one_is_named(
    server: OpenAiServer, other: OpenAiServer
) -> None:
    large = native(other, "large-1", group="large")
    named = RouterConfig((native(server), large), {}, context_fallbacks={"g": ["large"]})
    too_long = chat("word " * 5000)
    async with open_router(named) as router:
        with pytest.raises(UpstreamRefused) as refused:
            await router.open(too_long)
        assert refused.value.too_long
        assert (server.requests, other.requests) == (1, 1), "the larger one was asked, and has the same window here"
        assert [status.state for status in router.status()] == ["closed", "closed"]
    async with open_router(RouterConfig((native(server), large), {"g": ["large"]})) as router:
        with pytest.raises(UpstreamRefused):
            await router.open(too_long)
        assert other.requests == 1, "an ordinary fallback is no larger model"


async def test_calls_wait_for_a_probe_that_is_out_and_go_on_when_it_is_answered(server: OpenAiServer) -> None:
    """While one asks whether the only deployment is back, the others need not be refused."""
    patient = replace(native(server).deadlines, first_token_s=3)
    async with open_router(config(replace(native(server), deadlines=patient))) as router:
        server.fault = Fault.ERROR_500
        for _ in range(2):
            with pytest.raises(UpstreamFailed):
                await router.open(chat())
        assert router.status()[0].state == "open"
        server.fault, server.pause_s = None, 0.3
        await asyncio.sleep(0.25)
        asked = server.requests
        answers = await asyncio.gather(*(router.open(chat(stream=True)) for _ in range(20)))
        told = [await read(answer) for answer in answers]
        assert all(one.endswith(b"data: [DONE]\n\n") for one in told)
        assert server.requests == asked + 20
        for answer in answers:
            await answer.aclose()
