"""Guards before real servers: what a model is sent, what its caller hears, and on which ways they hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.config import RouterConfig, load
from router.deployment import Deployment
from router.errors import ConfigInvalid, GuardFailed, GuardRefused
from router.experiments import Experiment
from router.guards import Guard
from router.router import Call, open_router
from tests.integration.router.calls import chat, hosted, native, read
from tests.support.guards import Alias, Breaks, Forbids
from tests.support.openai_server import Fault, OpenAiServer

ALIAS = Alias("Ada Byron", "person 1")


def guarded(*members: Deployment, **guards: list[Guard]) -> RouterConfig:
    return RouterConfig(members, {"g": ["hosted"]} if len(members) > 1 else {}, guards=guards)


def told(answer: bytes) -> str:
    """The text of a stream."""
    frames = [orjson.loads(one[6:]) for one in answer.split(b"\n\n") if one.startswith(b"data: {")]
    return "".join(choice["delta"].get("content", "") for one in frames for choice in one["choices"])


@pytest.mark.parametrize("lane", [native, hosted])
async def test_a_model_sees_an_alias_and_the_caller_the_name(server: OpenAiServer, lane: Any) -> None:
    async with open_router(guarded(lane(server, group="g"), g=[ALIAS])) as router:
        for stream in (False, True):
            answer = await router.open(chat("where is Ada Byron now", stream=stream))
            said = told(await read(answer)) if stream else orjson.loads(answer.body)["choices"][0]["message"]["content"]
            await answer.aclose()
            assert said == "where is Ada Byron now"
            assert server.bodies[-1]["messages"][-1]["content"] == "where is person 1 now"
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 5


async def test_anthropics_route_and_embeddings_are_guarded(server: OpenAiServer) -> None:
    body = {"model": "g", "max_tokens": 50, "messages": [{"role": "user", "content": "to Ada Byron"}]}
    async with open_router(guarded(native(server), g=[ALIAS])) as router:
        for stream in (False, True):
            call = Call("messages", "g", {**body, "stream": stream}, stream, chat().reach, "req_1")
            answer = await router.open(call)
            said = await read(answer) if stream else answer.body
            await answer.aclose()
            assert b"Ada" in said
            assert b"Byron" in said
            assert server.bodies[-1]["messages"][-1]["content"] == "to person 1"
    async with open_router(guarded(native(server, kind="embedding"), g=[ALIAS])) as router:
        call = Call("embeddings", "g", {"model": "g", "input": ["Ada Byron", "b"]}, False, chat().reach, "req_1")
        await (await router.open(call)).aclose()
        assert server.bodies[-1]["input"] == ["person 1", "b"]


async def test_what_a_guard_refuses_or_fails_on_reaches_nobody(server: OpenAiServer) -> None:
    for guard, error in ((Forbids("Ada"), GuardRefused), (Breaks("asked"), GuardFailed)):
        async with open_router(guarded(native(server), g=[ALIAS, guard])) as router:
            with pytest.raises(error):
                await router.open(chat("is Ada here"))
            await (await router.open(chat("nobody"))).aclose() if error is GuardRefused else None
    assert [one["messages"][-1]["content"] for one in server.bodies] == ["nobody"]


async def test_an_answer_that_a_guard_refuses_is_not_told(server: OpenAiServer) -> None:
    class Hears(Forbids):
        async def asked(self, text: str) -> str:
            return text

        async def said(self, piece: str, *, last: bool) -> str:
            return await Forbids.asked(self, piece)

    async with open_router(guarded(native(server), g=[Hears("secret")])) as router:
        with pytest.raises(GuardRefused):
            await router.open(chat("the secret pier"))
        answer = await router.open(chat("the secret pier", stream=True))
        heard = await read(answer)
        assert answer.broken
        assert answer.over
        await answer.aclose()
        assert b"guard_refused" in heard
        assert told(heard.split(b'data: {"error')[0]) == "the"
        assert router.running() == {"native-1": 0}


async def test_guards_of_whoever_may_answer_hold_from_the_beginning(server: OpenAiServer, other: OpenAiServer) -> None:
    members = (native(server), hosted(other))
    async with open_router(guarded(*members, hosted=[ALIAS])) as router:
        for fault in (None, Fault.ERROR_500):
            server.fault = fault
            answer = await router.open(chat("Ada Byron", stream=True))
            assert told(await read(answer)) == "Ada Byron"
            await answer.aclose()
    assert other.bodies
    assert b"Ada" not in orjson.dumps([server.bodies, other.bodies])
    server.fault = None
    for shadow in (False, True):
        tried = Experiment("e", "g", "hosted", 100, shadow, None)
        config = replace(RouterConfig(members, {}, experiments=[tried]), guards={"hosted": [ALIAS]})
        async with open_router(config) as router:
            await (await router.open(chat("Ada Byron"))).aclose()
            await router.close()
    assert b"Ada" not in orjson.dumps([server.bodies, other.bodies])


def test_the_file_names_guards_and_says_which_line_is_wrong(tmp_path: Path, server: OpenAiServer) -> None:
    file = tmp_path / "stoker.yaml"
    models = (
        f"model_list:\n  - model_name: g\n    litellm_params: {{model: hosted_vllm/m, api_base: '{server.base_url}'}}\n"
    )

    def read_with(guards: str) -> RouterConfig:
        file.write_text(f"{models}stoker:\n  guards:\n    {guards}\n")
        return load(file)

    found = read_with("g: [{use: 'tests.support.guards:Alias', options: {name: a, alias: b}}]")
    assert isinstance(found.guards["g"][0], Alias)
    for guards, says in (
        ("g: [{use: 'no.such:Guard'}]", r"stoker\.yaml:6.*no.such:Guard can't be made: No module named 'no'"),
        ("h: [{use: 'tests.support.guards:Hoards'}]", r"stoker\.yaml:6.*no `model_list` entry is called 'h'"),
        ("g: [{use: nothing}]", "stoker"),
    ):
        with pytest.raises(ConfigInvalid, match=says):
            read_with(guards)
