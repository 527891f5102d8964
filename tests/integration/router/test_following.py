"""A router that works by another configuration while calls run: what is known stays known, and no call is lost."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest

from core.breaker import BreakerState
from core.clock import ManualClock
from core.money import Price
from router.config import RouterConfig
from router.errors import LeavesTheHouse, ModelNotFound, NoDeployment, UpstreamFailed
from router.router import Router, open_router
from tests.integration.router.calls import chat, config, hosted, native, read
from tests.support.openai_server import Fault, OpenAiServer, openai_server


def health_of(router: Router, name: str) -> object:
    return next(member.health for member in router.members() if member.deployment.name == name)


async def test_new_deployments_answer_and_removed_ones_do_not(server: OpenAiServer, other: OpenAiServer) -> None:
    async with open_router(config(native(server))) as router:
        await router.open(chat())
        await router.follow(config(native(other, "b", group="h")))
        await router.open(chat(group="h"))
        with pytest.raises(ModelNotFound):
            await router.open(chat())
        assert [model.id for model in router.models()] == ["h"]
    assert (server.requests, other.requests) == (1, 1)


async def test_what_is_known_of_an_engine_is_kept_and_of_another_one_it_is_not(server: OpenAiServer) -> None:
    """A price, a weight or a deadline says nothing of the engine; another address is another one."""
    async with openai_server(server.model) as twin, open_router(config(native(server, "a"))) as router:
        server.fault = Fault.ERROR_500
        for _ in range(2):
            with pytest.raises(UpstreamFailed):
                await router.open(chat())
        health = health_of(router, "a")
        (before,) = router.members()
        assert before.breaker.state is BreakerState.OPEN
        dearer = replace(native(server, "a"), price=Price(7, 7, 7), weight=2.0)
        await router.follow(config(dearer))
        (kept,) = router.members()
        assert kept.health is health
        assert kept.breaker.state is BreakerState.OPEN
        assert router.bound("g").price.prompt == 7
        await router.follow(config(native(twin, "a")))
        assert health_of(router, "a") is not health
        await router.open(chat())
        assert twin.requests == 1


async def test_a_stream_goes_on_to_its_end_when_its_deployment_is_removed(
    server: OpenAiServer, other: OpenAiServer
) -> None:
    server.pause_s = 0.02
    async with open_router(config(native(server, "a"))) as router:
        answer = await router.open(chat("one two three four five six", stream=True))
        await router.follow(config(native(other, "b")))
        assert router.running() == {"b": 0, "a": 1}
        whole = await read(answer)
        assert whole.count(b'"content"') >= 6
        assert whole.endswith(b"data: [DONE]\n\n")
        await answer.aclose()
        assert router.running() == {"b": 0}


async def test_a_draining_deployment_is_given_no_new_call(server: OpenAiServer) -> None:
    async with openai_server(server.model) as twin:
        both = [native(server, "a"), native(twin, "b")]
        async with open_router(config(*both)) as router:
            await router.follow(config(replace(both[0], draining=True), both[1]))
            for _ in range(6):
                await router.open(chat())
            assert (server.requests, twin.requests) == (0, 6)
            await router.follow(config(*(replace(each, draining=True) for each in both)))
            with pytest.raises(NoDeployment, match="drained"):
                await router.open(chat())
            await router.follow(config(*both))
            for _ in range(6):
                await router.open(chat())
            assert server.requests == 3


async def test_a_stream_that_breaks_is_not_gone_on_with_by_a_draining_deployment(server: OpenAiServer) -> None:
    async with openai_server(server.model) as twin:
        server.fault = Fault.CUT_MID_STREAM
        both = [native(server, "a"), native(twin, "b")]
        async with open_router(config(*both)) as router:
            while (answer := await router.open(chat("one two three four", stream=True))).deployment.name != "a":
                await answer.aclose()
            asked = twin.requests
            await router.follow(config(both[0], replace(both[1], draining=True)))
            assert b'"error"' in await read(answer)
            assert twin.requests == asked


async def test_more_places_let_those_in_who_wait_and_fewer_wait_for_those_inside(server: OpenAiServer) -> None:
    server.pause_s = 0.01
    one = replace(native(server, "a"), max_parallel=1)
    async with open_router(config(one)) as router:
        first = await router.open(chat("one two three four", stream=True))
        waiting = asyncio.create_task(router.open(chat("one two", stream=True)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await router.follow(config(replace(one, max_parallel=2)))
        second = await asyncio.wait_for(waiting, 10)
        await router.follow(config(one))
        late = asyncio.create_task(router.open(chat("one two", stream=True)))
        await asyncio.sleep(0.05)  # it waits
        await read(first)
        await first.aclose()
        await asyncio.sleep(0.5)
        assert not late.done(), "one is inside, and there is one place"
        await read(second)
        await second.aclose()
        third = await asyncio.wait_for(late, 10)
        await read(third)
        await third.aclose()


async def test_the_first_hosted_deployment_may_come_later(server: OpenAiServer) -> None:
    async with open_router(config(native(server)), ManualClock()) as router:
        await router.follow(config(native(server), hosted(server)))
        assert (await router.open(chat(group="hosted"))).deployment.name == "hosted-1"


async def test_fallbacks_and_retries_are_those_of_the_newest_configuration(
    server: OpenAiServer, other: OpenAiServer
) -> None:
    members = (native(server), native(other, "large-1", group="large"))
    server.fault = Fault.ERROR_500
    async with open_router(RouterConfig(members)) as router:
        with pytest.raises(UpstreamFailed):
            await router.open(chat())
        await router.follow(RouterConfig(members, {"g": ["large"]}))
        assert (await router.open(chat())).deployment.name == "large-1"


async def test_while_one_drains_the_others_have_all_of_their_places(server: OpenAiServer) -> None:
    async with openai_server(server.model) as twin:
        server.pause_s = 0.05
        one, two = (replace(native(each, name), max_parallel=2) for each, name in ((server, "a"), (twin, "b")))
        async with open_router(config(one)) as router:
            held = [await router.open(chat("word " * 200, stream=True)) for _ in range(2)]
            await router.follow(config(replace(one, draining=True), two))
            async with asyncio.timeout(10):
                for _ in range(3):
                    assert (await router.open(chat())).deployment.name == "b"
            await router.follow(config(two))
            async with asyncio.timeout(10):
                assert (await router.open(chat())).deployment.name == "b"
            for answer in held:
                await answer.aclose()
            assert router._groups["g"].gate.running == 0


async def test_a_call_that_waits_while_its_deployment_is_removed_is_not_sent_there(
    server: OpenAiServer, other: OpenAiServer
) -> None:
    server.pause_s = 0.05
    one = replace(native(server, "a"), max_parallel=1)
    async with open_router(config(one)) as router:
        held = await router.open(chat("word " * 200, stream=True))
        waiting = asyncio.create_task(router.open(chat()))
        await asyncio.sleep(0.05)
        await router.follow(config(native(other, "b", group="h")))
        await held.aclose()
        with pytest.raises(NoDeployment):
            await waiting
        assert server.requests == 1


async def test_a_group_that_is_drained_is_no_matter_of_policy(server: OpenAiServer) -> None:
    away = replace(hosted(server), draining=True)
    async with open_router(config(native(server), away), ManualClock()) as router:
        with pytest.raises(NoDeployment, match="drained") as refused:
            await router.open(chat(group="hosted"))
        assert not isinstance(refused.value, LeavesTheHouse)


async def test_nothing_is_left_of_deployments_that_came_and_went(server: OpenAiServer) -> None:
    """Also where nobody asks how many calls each one has."""
    stays = native(server, "a")
    async with open_router(config(stays)) as router:
        gone = []
        for number in range(20):
            await router.follow(config(stays, native(server, f"b{number}", group=f"g{number}")))
            gone += [
                weakref.ref(member.health) for member in router.members() if member.health is not health_of(router, "a")
            ]
            await router.open(chat(group=f"g{number}"))
        await router.follow(config(stays))
        await asyncio.sleep(1.0)  # watches end with their next look
        await router.follow(config(stays))
        gc.collect()
        left = [health for each in gone if (health := each()) is not None]
        assert len(gone) == 20
        assert left == []
