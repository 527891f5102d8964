"""Experiments and shadows before real servers: who is asked, and that nobody pays for it who takes no part."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest

from core.breaker import BreakerState
from core.money import Price
from core.reach import HOME
from monitoring import metrics
from monitoring.tally import tally
from router.config import RouterConfig
from router.deployment import Deployment
from router.errors import UpstreamFailed, UpstreamRefused
from router.experiments import Experiment
from router.router import open_router
from tests.integration.router.calls import chat, hosted, native, read
from tests.support.openai_server import Fault, OpenAiServer, openai_server


def trying(name: str, percent: float, shadow: bool = False, to: str = "large") -> Experiment:
    return Experiment(name, "g", to, percent, shadow)


def config(*experiments: Experiment, members: tuple[Deployment, ...]) -> RouterConfig:
    return RouterConfig(members, {}, experiments=experiments)


def counted(name: str) -> dict[tuple[str, str], float]:
    tally.flush()
    found = metrics.samples_of(metrics.EXPERIMENT_CALLS)
    return {(one.labels["arm"], one.labels["outcome"]): one.value for one in found if one.labels["experiment"] == name}


async def until(what: str, is_so: object) -> None:
    by_s = time.monotonic() + 20
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < by_s, what
        await asyncio.sleep(0.01)


async def test_each_caller_goes_the_same_way_each_time(server: OpenAiServer, other: OpenAiServer) -> None:
    members = (native(server), native(other, "large-1", group="large"))
    tried = trying("ways", 40)
    async with open_router(config(tried, members=members)) as router:
        ways: Counter[str] = Counter()
        for at in range(60):
            call = replace(chat(stream=at % 2 == 0), who=f"user_{at}")
            names = set()
            for _ in range(3):
                answer = await router.open(call)
                names.add(answer.deployment.name)
                if answer.frames is not None:
                    await read(answer)
                await answer.aclose()
            assert names == {"large-1" if tried.takes(call.who) else "native-1"}
            ways.update(names)
    assert len(ways) == 2
    said = counted("ways")
    assert said[("variant", "ok")] == 3 * ways["large-1"]
    assert said[("control", "ok")] == 3 * ways["native-1"]


async def test_a_variant_that_fails_costs_its_callers_no_answer(server: OpenAiServer, other: OpenAiServer) -> None:
    other.fault = Fault.ERROR_500
    members = (native(server), native(other, "large-1", group="large"))
    async with open_router(config(trying("failing", 100), members=members)) as router:
        for _ in range(4):
            assert (await router.open(chat())).deployment.name == "native-1"
    assert counted("failing") == {("variant", "failed"): 4}


async def test_a_variant_whose_fallback_answers_has_failed(server: OpenAiServer, other: OpenAiServer) -> None:
    other.fault = Fault.ERROR_500
    members = (native(server), native(other, "large-1", group="large"))
    helped = replace(config(trying("helped", 100), members=members), fallbacks={"large": ["g"]})
    async with open_router(helped) as router:
        for _ in range(3):
            assert (await router.open(chat())).deployment.name == "native-1"
    assert counted("helped") == {("variant", "failed"): 3}


async def test_a_request_that_the_variant_alone_refuses_says_nothing(server: OpenAiServer, other: OpenAiServer) -> None:
    """As a provider that speaks no completions."""
    members = (native(server), hosted(other))
    async with open_router(config(trying("refused", 100, to="hosted"), members=members)) as router:
        call = replace(chat(), kind="completions", body={"model": "g", "prompt": "one two"})
        assert (await router.open(call)).deployment.name == "native-1"
    assert counted("refused") == {}


async def test_a_shadow_asks_no_fallback_and_rests_nobody(server: OpenAiServer, other: OpenAiServer) -> None:
    other.fault = Fault.LIMIT_429
    members = (native(server), native(other, "large-1", group="large"))
    shaded = replace(config(trying("alone", 100, shadow=True), members=members), fallbacks={"large": ["g"]})
    async with open_router(shaded) as router:
        await router.open(chat())
        await until("it has come", lambda: other.requests == 1)
        await asyncio.sleep(0.05)
        assert server.requests == 1
        state = next(member for member in router.members() if member.deployment.name == "large-1")
        assert state.health.ejected is None


async def test_a_stream_that_breaks_counts_as_failed_and_one_that_is_left_as_nothing(server: OpenAiServer) -> None:
    async with open_router(
        config(trying("broken", 0), members=(native(server), native(server, "l", "large")))
    ) as router:
        server.fault = Fault.CUT_MID_STREAM
        answer = await router.open(chat("one two three four", stream=True))
        await read(answer)
        await answer.aclose()
        server.fault = None
        left = await router.open(chat("one two three four", stream=True))
        await left.aclose()
    assert counted("broken") == {("control", "failed"): 1}


async def test_a_reservation_covers_whoever_may_answer(server: OpenAiServer, other: OpenAiServer) -> None:
    dear = replace(native(other, "large-1", group="large"), price=Price(9, 9, 9))
    async with open_router(config(trying("dear", 1), members=(native(server), dear))) as router:
        assert router.bound("g").price == Price(9, 9, 9)
    async with open_router(config(trying("shade", 100, shadow=True), members=(native(server), dear))) as router:
        assert router.bound("g").price == Price()


async def test_a_shadow_changes_nothing_of_the_answer(server: OpenAiServer, other: OpenAiServer) -> None:
    members = (native(server), native(other, "large-1", group="large"))
    async with open_router(config(trying("seen", 100, shadow=True), members=members)) as router:
        plain = await router.open(chat("one two three"))
        assert plain.deployment.name == "native-1"
        stream = await router.open(chat("one two three", stream=True, stream_options={"include_usage": True}))
        assert stream.deployment.name == "native-1"
        await read(stream)
        await stream.aclose()
        await until("both have cast a shadow", lambda: counted("seen").get(("shadow", "ok")) == 2)
    assert other.requests == 2
    assert all("stream" not in body and "stream_options" not in body for body in other.bodies)
    assert {headers["x-request-id"] for headers in other.headers} == {"req_1.shadow"}


async def test_a_shadow_that_fails_harms_nobody(server: OpenAiServer, other: OpenAiServer) -> None:
    """Neither those who ask its group for themselves, nor the budget of retries."""
    other.fault = Fault.ERROR_500
    members = (native(server), native(other, "large-1", group="large"))
    async with open_router(config(trying("harmless", 100, shadow=True), members=members)) as router:
        budget = router._budget._saved
        for at in range(20):
            await router.open(replace(chat(), request_id=f"req_{at}"))
            await until("its shadow is over", lambda at=at: sum(counted("harmless").values()) == at + 1)
        state = next(member for member in router.members() if member.deployment.name == "large-1")
        assert state.breaker.state is BreakerState.CLOSED
        assert state.health.ejected is None
        assert router._budget._saved >= budget
        other.fault = None
        assert (await router.open(chat(group="large"))).deployment.name == "large-1"


async def test_shadows_are_bounded_and_end_with_the_router(server: OpenAiServer, other: OpenAiServer) -> None:
    other.fault = Fault.HANG
    members = (native(server), native(other, "large-1", group="large"))
    async with open_router(config(trying("bounded", 100, shadow=True), members=members)) as router:
        for at in range(20):
            await router.open(replace(chat(), request_id=f"req_{at}"))
        await until("they have come", lambda: other.requests == 8)
    assert counted("bounded") == {("shadow", "left out"): 12}
    await until("they were cancelled", lambda: other.cancelled == 8)


@pytest.mark.parametrize("shadow", [False, True])
async def test_text_that_stays_is_tried_nowhere_else(server: OpenAiServer, shadow: bool) -> None:
    async with openai_server() as canary:
        members = (native(server), hosted(canary))
        name = f"kept-{shadow}"
        async with open_router(config(trying(name, 100, shadow, to="hosted"), members=members)) as router:
            assert (await router.open(chat(reach=HOME))).deployment.name == "native-1"
            assert canary.requests == 0
            await router.open(chat())
            await until("and other text is", lambda: canary.requests == 1)
        assert counted(name) == {("shadow" if shadow else "variant", "ok"): 1}


async def test_an_experiment_that_has_ended_moves_nobody(server: OpenAiServer, other: OpenAiServer) -> None:
    members = (native(server), native(other, "large-1", group="large"))
    running, ended = trying("ended", 100), replace(trying("ended", 100), stopped=True)
    async with open_router(config(running, members=members)) as router:
        assert (await router.open(chat())).deployment.name == "large-1"
        await router.follow(config(ended, members=members))
        assert (await router.open(chat())).deployment.name == "native-1"


@pytest.mark.parametrize("percent", [0, 100])
async def test_a_request_that_is_at_fault_says_nothing_of_either(
    server: OpenAiServer, other: OpenAiServer, percent: float
) -> None:
    members = (native(server), native(other, "large-1", group="large"))
    name = f"at-fault-{percent}"
    async with open_router(config(trying(name, percent), members=members)) as router:
        with pytest.raises(UpstreamRefused):
            await router.open(chat("word " * 5000))
    assert counted(name) == {}


async def test_what_the_control_lacks_is_raised_and_counted(server: OpenAiServer) -> None:
    server.fault = Fault.ERROR_500
    members = (native(server), native(server, "l", "large"))
    async with open_router(config(trying("control", 0), members=members)) as router:
        with pytest.raises(UpstreamFailed):
            await router.open(chat())
    assert counted("control") == {("control", "failed"): 1}
