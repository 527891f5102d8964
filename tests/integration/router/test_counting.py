"""Engines count the tokens of a chat; who can't is left alone for a while, and nobody waits for it."""

import asyncio
from dataclasses import replace

import pytest

from core.clock import ManualClock
from core.reach import ANYWHERE, HOME
from router.counting import Counted
from router.errors import ModelNotFound
from router.native_lane import NativeLane
from router.router import Router, open_router
from tests.integration.router.calls import chat, config, hosted, native
from tests.support.openai_server import Fault, OpenAiServer

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]


async def test_the_engine_counts_as_it_bills(server: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        assert await router.count_tokens("g", MESSAGES, reach=HOME) == Counted(5, 4096)
        answer = await router.open(chat(messages=MESSAGES, max_tokens=1))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 5
    assert server.counted[0] == {"model": "words", "messages": MESSAGES}


async def test_who_has_no_such_route_is_asked_more_and_more_seldom(server: OpenAiServer) -> None:
    server.counts = False
    clock = ManualClock()
    async with open_router(config(native(server)), clock) as router:
        asked = []
        for at_s in range(1000):
            before = server.refused_counts
            assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) is None
            if server.refused_counts > before:
                asked.append(at_s)
            clock.advance(1.0)
    assert asked == [0, 5, 15, 35, 75, 155, 315, 615, 915]


async def test_a_rest_ends(server: OpenAiServer) -> None:
    server.counts = False
    clock = ManualClock()
    async with open_router(config(native(server)), clock) as router:
        assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) is None
        server.counts = True
        clock.advance(4.9)
        assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) is None
        clock.advance(0.2)
        assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) == Counted(5, 4096)


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.HANG])
async def test_an_engine_that_fails_or_hangs_costs_a_second_at_most_and_another_one_is_asked_next(
    server: OpenAiServer, other: OpenAiServer, fault: Fault
) -> None:
    server.fault = fault
    async with open_router(config(native(server), native(other, "b"))) as router:
        async with asyncio.timeout(5):
            assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) is None
            assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) == Counted(5, 4096)
        assert [one.state for one in router.status()] == ["closed", "closed"], "it counts for nobody's health"


async def test_what_must_stay_in_the_house_is_shown_to_no_hosted_engine(server: OpenAiServer) -> None:
    async with open_router(config(replace(native(server), hosted=True))) as router:
        assert await router.count_tokens("g", MESSAGES, reach=HOME) is None
        assert server.counted == []
        assert await router.count_tokens("g", MESSAGES, reach=ANYWHERE) == Counted(5, 4096)


async def test_a_hosted_provider_and_an_unknown_group_are_not_asked(server: OpenAiServer) -> None:
    lane = NativeLane()
    router = Router(config(hosted(server)), lane, ManualClock())
    assert await router.count_tokens("hosted", MESSAGES, reach=ANYWHERE) is None
    with pytest.raises(ModelNotFound):
        await router.count_tokens("nobody", MESSAGES, reach=ANYWHERE)
    await lane.aclose()
    assert server.counted == []
