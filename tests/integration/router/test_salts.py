"""Each tenant's prompts have a salt of their own at every engine of one's own, on every way that leads there."""

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from core.reach import ANYWHERE
from router.config import RouterConfig
from router.deployment import LaneName
from router.experiments import Experiment
from router.router import Call, Router, open_router
from router.salt import salt_of
from tests.integration.router.calls import chat, config, hosted, native, read
from tests.integration.router.test_trying import until
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.prefixes import salt_refusal
from tests.support.exact.server import ExactServer, exact_server
from tests.support.openai_server import OpenAiServer

LONG = "a song that is sung by all of them " * 20
BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 2},
    "completions": {"prompt": "a b", "max_tokens": 2},
    "messages": {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 2},
}


async def told(router: Router, call: Call) -> str:
    """Ask, and read to the end. Returns: who answered."""
    answer = await router.open(call)
    if answer.frames is not None:
        await read(answer)
    await answer.aclose()
    return answer.deployment.name


async def test_two_tenants_have_two_salts_and_each_has_one_in_every_worker(server: OpenAiServer) -> None:
    for _ in range(2):  # two workers, or one that was started again
        async with open_router(config(native(server))) as router:
            for kind, body in BODIES.items():
                for tenant in ("ann", "bob"):
                    made = {**body, "model": "g"}
                    await router.open(Call(kind, "g", made, False, ANYWHERE, "req_1", tenant=tenant))  # type: ignore[arg-type]
                    assert "cache_salt" not in made
    salts = [body.get("cache_salt") for body in server.bodies]
    assert salts == [salt_of("ann"), salt_of("bob")] * 6
    assert len(set(salts)) == 2
    assert salt_of("ann") == "d7207d8158b868bb91c5657d469b3849"  # in other processes, and after an upgrade
    for salt in salts:
        assert salt_refusal({"cache_salt": salt}) is None
        assert "ann" not in salt


async def test_an_engine_finds_nothing_of_another_tenants_and_all_of_ones_own() -> None:
    async with exact_server("m") as engine, open_router(config(_of(engine))) as router:
        for tenant in ("ann", "bob", "ann", "bob"):
            await told(router, chat(LONG, tenant=tenant, stream=True, max_tokens=3))
        first, other, again, others_again = (one.cached_tokens for one in engine.log)
        assert (first, other) == (0, 0)
        assert again == others_again > 100


async def test_where_the_cache_is_shared_no_salt_is_sent() -> None:
    async with exact_server("m") as engine:
        async with open_router(config(replace(_of(engine), parts_tenants=False))) as router:
            for tenant in ("ann", "bob"):
                await told(router, chat(LONG, tenant=tenant, max_tokens=3))
        assert all("cache_salt" not in one.body for one in engine.log)
        assert engine.log[1].cached_tokens > 100


@pytest.mark.parametrize("more", [{}, {"stop": [" zzz"]}, {"response_format": {"type": "json_object"}}])
async def test_who_goes_on_with_a_stream_is_told_the_same_salt(more: dict[str, Any]) -> None:
    async with exact_server("m") as first, exact_server("m") as second:
        first.plan = second.plan = deque([Failure(Fault.CUT, 3)])
        async with open_router(config(_of(first, "a"), _of(second, "b"))) as router:
            body = {"stream_options": {"include_usage": True}, **more}
            await told(router, chat(LONG, tenant="ann", stream=True, max_tokens=20, **body))
        served = [*first.log, *second.log]
        assert len(served) == 2
        assert {one.body.get("cache_salt") for one in served} == {salt_of("ann")}
        ways = {one.way for one in served}
        assert ways == ({"whole"} if "response_format" in more else {"whole", "prefill" if more else "token_ids"})


async def test_variants_shadows_and_fallbacks_are_told_it_too(server: OpenAiServer, other: OpenAiServer) -> None:
    members = (native(server), native(other, "large-1", group="large"))
    tried = RouterConfig(members, {}, experiments=[Experiment("v", "g", "large", 100)])
    shaded = RouterConfig(members, {}, experiments=[Experiment("s", "g", "large", 100, shadow=True)])
    for at, configured in enumerate((tried, shaded), 1):
        async with open_router(configured) as router:
            await told(router, chat(tenant="ann"))
            await until("the other one is asked", lambda at=at: other.requests == at)
    async with open_router(config(native(server, draining=True), members[1], g=["large"])) as router:
        assert await told(router, chat(tenant="ann")) == "large-1"
    assert [body.get("cache_salt") for body in (*server.bodies, *other.bodies)] == [salt_of("ann")] * 4


async def test_what_another_tenant_sent_warms_nothing_in_the_routers_books() -> None:
    async with exact_server("m") as first, exact_server("m") as second:
        made = replace(config(_of(first, "a"), _of(second, "b")), strategy="prefix-affinity")
        async with open_router(made) as router:
            group = router._groups["g"]
            call = chat(LONG * 3, tenant="ann")
            place = await told(router, call)
            for tenant, held in (("ann", True), ("bob", False)):
                trail = group.trail(replace(call, tenant=tenant))
                assert trail is not None
                assert group.strategy._matched(place, trail) == (len(trail.blocks) if held else 0)
            shared = [replace(one, parts_tenants=False) for one in made.deployments]
            await router.follow(replace(made, deployments=shared))
            place = await told(router, call)
            trail = router._groups["g"].trail(replace(call, tenant="bob"))
            assert trail is not None
            assert router._groups["g"].strategy._matched(place, trail) == len(trail.blocks) > 0


@pytest.mark.slow  # LiteLLM takes seconds to import
async def test_a_hosted_provider_is_told_no_salt(server: OpenAiServer, other: OpenAiServer) -> None:
    own = replace(hosted(other, group="own"), parameters={"custom_llm_provider": "hosted_vllm"}, model=other.model)
    vectors = replace(own, name="vectors-1", group="vectors", kind="embedding")
    elsewhere = hosted(server, "vectors-2", group="elsewhere", kind="embedding")
    async with open_router(config(hosted(server), own, vectors, elsewhere)) as router:
        for stream in (False, True):
            await told(router, chat(group="hosted", tenant="ann", stream=stream))
            await told(router, chat(group="own", tenant="ann", stream=stream))
        for group in ("vectors", "elsewhere"):
            body = {"model": group, "input": ["a b"]}
            await told(router, Call("embeddings", group, body, False, ANYWHERE, "req_1", tenant="ann"))
    assert len(server.bodies) == len(other.bodies) == 3
    assert all("cache_salt" not in str(body) for body in server.bodies)
    assert [body.get("cache_salt") for body in other.bodies] == [salt_of("ann")] * 3


def _of(server: ExactServer, name: str = "native-1") -> Any:
    like: Any = server  # it has a model and an address, as the other double
    made = native(like, name)
    assert made.lane is LaneName.NATIVE
    return made
