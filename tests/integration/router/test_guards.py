"""Guards before real servers: what a model is sent, what its caller hears, and on which ways they hold."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.config import Changes, RouterConfig, assembled, load, written
from router.deployment import Deployment
from router.errors import ConfigInvalid, GuardFailed, GuardRefused
from router.experiments import Experiment
from router.guards import Guard, Posted, of_groups
from router.router import Call, open_router
from tests.integration.router.calls import HURRIED, chat, hosted, native, read
from tests.integration.router.test_trying import counted
from tests.support.guards import Alias, Breaks, Forbids, Hoards, Judges, posted
from tests.support.openai_server import Fault, OpenAiServer

ALIAS = Alias("Ada Byron", "person 1")


def guarded(*members: Deployment, **guards: list[Guard]) -> RouterConfig:
    fallbacks = {"g": ["hosted"]} if len(members) > 1 else {}
    return RouterConfig(members, fallbacks, guards={group: posted(*some) for group, some in guards.items()})


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
            call = Call("messages", "g", {**body, "stream": stream}, stream, chat().reach, "req_1", tenant="t")
            answer = await router.open(call)
            said = await read(answer) if stream else answer.body
            await answer.aclose()
            assert b"Ada" in said
            assert b"Byron" in said
            assert server.bodies[-1]["messages"][-1]["content"] == "to person 1"
    async with open_router(guarded(native(server, kind="embedding"), g=[ALIAS])) as router:
        call = Call(
            "embeddings", "g", {"model": "g", "input": ["Ada Byron", "b"]}, False, chat().reach, "req_1", tenant="t"
        )
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
    async with open_router(guarded(native(server), g=[Judges("secret")])) as router:
        answer = await router.open(chat("the secret pier"))
        assert isinstance(answer.refused, GuardRefused)
        assert not answer.body
        assert answer.usage is not None  # it was made all the same
        assert answer.usage.completion_tokens == 3
        await answer.aclose()
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
        config = replace(RouterConfig(members, {}, experiments=[tried]), guards={"hosted": posted(ALIAS)})
        async with open_router(config) as router:
            await (await router.open(chat("Ada Byron"))).aclose()
            await router.close()
    assert b"Ada" not in orjson.dumps([server.bodies, other.bodies])


async def test_a_call_goes_to_no_group_whose_guards_have_not_looked(server: OpenAiServer, other: OpenAiServer) -> None:
    class Holds(Hoards):
        """Holds a call until it is told to let go."""

        def __init__(self) -> None:
            self.looks, self.free = asyncio.Event(), asyncio.Event()

        async def asked(self, text: str) -> str:
            self.looks.set()
            await self.free.wait()
            return text

    members, holds = (native(server, deadlines=HURRIED), hosted(other)), Holds()
    later = guarded(*members, hosted=[ALIAS])
    server.fault = Fault.ERROR_500
    async with open_router(replace(guarded(*members, g=[holds]), fallbacks={})) as router:
        asking = asyncio.create_task(router.open(chat("Ada Byron")))
        await holds.looks.wait()
        # It is still being looked at when a fallback comes that has a guard of its own: that one looks, too.
        await router.follow(replace(later, guards={"g": posted(holds), **later.guards}))
        holds.free.set()
        await (await asking).aclose()
    assert b"Ada" not in orjson.dumps([server.bodies, other.bodies])
    assert other.bodies


async def test_a_stream_is_gone_on_with_by_no_group_whose_guards_have_not_looked(
    server: OpenAiServer, other: OpenAiServer
) -> None:
    members = native(server, deadlines=HURRIED), native(other, "native-2", "hosted")
    server.fault = Fault.HANG_MID_STREAM
    async with open_router(RouterConfig(members, {})) as router:
        answer = await router.open(chat("Ada Byron is here", stream=True))
        await router.follow(guarded(*members, hosted=[ALIAS]))
        await read(answer)
        assert answer.broken
        await answer.aclose()
    assert other.bodies == []


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_guard_refuses_is_no_failure_of_the_variant(server: OpenAiServer, stream: bool) -> None:
    tried = Experiment(f"judged {stream}", "g", "hosted", 100, stop=None)
    members = native(server), native(server, "native-2", "hosted")
    config = replace(guarded(*members, g=[Judges("secret")]), fallbacks={}, experiments=[tried])
    async with open_router(config) as router:
        answer = await router.open(chat("the secret pier", stream=stream))
        if stream:
            await read(answer)
        await answer.aclose()
        assert isinstance(answer.refused, GuardRefused)
    assert counted(tried.name) == {("variant", "ok"): 1}


def test_what_is_configured_as_it_was_is_not_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "stoker.yaml"

    def read_with(word: str, before: list[Posted]) -> list[Posted]:
        models = "model_list:\n  - {model_name: g, litellm_params: {model: hosted_vllm/m, api_base: 'http://a/v1'}}\n"
        use = "{use: 'tests.support.guards:Forbids', options: {word: WORD}}"
        guards = ", ".join(use.replace("WORD", one) for one in (word, "same", "same"))
        file.write_text(f"{models}stoker:\n  guards:\n    g: [{guards}]\n")
        return list(assembled(written(file), (), Changes(), {"g": before}).guards["g"])

    first = read_with("one", [])
    assert [new.guard is old.guard for new, old in zip(read_with("one", first), first, strict=True)] == [True] * 3
    changed = read_with("two", first)
    assert [new.guard is old.guard for new, old in zip(changed, first, strict=True)] == [False, True, True]
    assert first[1].guard is not first[2].guard


def test_a_group_is_named_by_what_all_that_may_answer_are_guarded_by() -> None:
    def name(*guards: Posted, others: tuple[Posted, ...] = ()) -> str | None:
        found = of_groups({"g": guards, "h": others}, lambda group: ["h"] if group == "g" else [], ["g", "h"])
        return found["g"].name if "g" in found else None

    def made(**options: object) -> Posted:
        return Posted(Hoards(), "house:Guard", options)

    names = [
        name(),
        name(made()),
        name(made(a=1, b=2)),
        name(made(a=1), made(b=2)),
        name(made(b=2), made(a=1)),
        name(made(), others=(made(),)),
    ]
    assert names[0] is None
    assert len(set(names)) == len(names)
    assert name(made(a=1, b=2)) == name(made(b=2, a=1))


def test_the_file_names_guards_and_says_which_line_is_wrong(tmp_path: Path, server: OpenAiServer) -> None:
    file = tmp_path / "stoker.yaml"
    models = (
        f"model_list:\n  - model_name: g\n    litellm_params: {{model: hosted_vllm/m, api_base: '{server.base_url}'}}\n"
    )

    def read_with(guards: str) -> RouterConfig:
        file.write_text(f"{models}stoker:\n  guards:\n    {guards}\n")
        return load(file)

    found = read_with("g: [{use: 'tests.support.guards:Alias', options: {name: a, alias: b}}]")
    assert isinstance(found.guards["g"][0].guard, Alias)
    for guards, says in (
        ("g: [{use: 'no.such:Guard'}]", r"stoker\.yaml:6.*no.such:Guard can't be made: No module named 'no'"),
        ("h: [{use: 'tests.support.guards:Hoards'}]", r"stoker\.yaml:6.*no `model_list` entry is called 'h'"),
        ("g: [{use: nothing}]", "stoker"),
    ):
        with pytest.raises(ConfigInvalid, match=says):
            read_with(guards)
