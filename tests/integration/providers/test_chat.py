"""Chats with hosted providers, each over its own wire format: what it was told, what it said, what was counted."""

import asyncio
import gc
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession

from api.errors import describe
from router.config import RouterConfig, load
from router.errors import NoDeployment, RouterError, UpstreamFailed, UpstreamRefused
from router.router import Router, open_router
from tests.integration.providers.asking import ARGUMENTS, SAID, TOOLS, chat, chatter, kept_secret, only, read
from tests.integration.providers.conftest import CHATS
from tests.integration.providers.wire import IN_STREAM, USAGE, Fault, Say, Wire
from tests.support.network import free_port

pytestmark = [
    pytest.mark.slow,  # LiteLLM takes seconds to import
    pytest.mark.parametrize("name", CHATS),
]
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both
async def test_a_provider_is_told_what_was_asked_and_its_answer_is_told_and_counted(
    wires: dict[str, Wire], router: Router, name: str, stream: bool
) -> None:
    wire = chatter(wires, name)
    answer = await router.open(chat(name, stream=stream))
    got = await read(answer)
    assert (got.text, got.reason, got.tools, got.broken) == ("one two three", "stop", [], False)
    assert (answer.usage, answer.finish_reason) == (USAGE, "stop")
    seen = only(wire)
    assert wire.told(seen) == replace(SAID, stream=stream)
    kept_secret(wire, seen)


async def test_a_stream_tells_its_usage_only_where_it_is_asked_to(
    wires: dict[str, Wire], router: Router, name: str
) -> None:
    silent = await read(await router.open(chat(name, stream=True)))
    asked = await read(await router.open(chat(name, stream=True, stream_options={"include_usage": True})))
    assert silent.usage == {}
    assert asked.usage["prompt_tokens"] == USAGE.prompt_tokens
    assert asked.usage["completion_tokens"] == USAGE.completion_tokens
    assert asked.usage["prompt_tokens_details"]["cached_tokens"] == USAGE.cached_tokens
    assert wires[name].refusals == []


@both
async def test_an_answer_that_was_cut_short_says_so(
    wires: dict[str, Wire], router: Router, name: str, stream: bool
) -> None:
    wires[name].says = Say(reason="length")
    answer = await router.open(chat(name, stream=stream))
    assert ((await read(answer)).reason, answer.finish_reason) == ("length", "length")


@both
async def test_a_tool_is_offered_and_called(wires: dict[str, Wire], router: Router, name: str, stream: bool) -> None:
    wire = chatter(wires, name)
    wire.says = Say(tool=ARGUMENTS, reason="tool_calls")
    answer = await router.open(chat(name, stream=stream, tools=TOOLS))
    got = await read(answer)
    ((tool, arguments),) = got.tools
    assert (tool, json.loads(arguments), got.text, got.reason) == ("weather", json.loads(ARGUMENTS), "", "tool_calls")
    assert answer.usage == USAGE
    assert wire.told(only(wire)).tools == ["weather"]


@both
async def test_a_call_that_is_demanded_is_demanded_of_the_provider(
    wires: dict[str, Wire], router: Router, name: str, stream: bool
) -> None:
    await read(await router.open(chat(name, stream=stream, tools=TOOLS, tool_choice="required")))
    body = only(wires[name]).body
    words = {
        "anthropic": ("tool_choice", {"type": "any"}),
        "bedrock": ("toolConfig", {**body.get("toolConfig", {}), "toolChoice": {"any": {}}}),
        "cohere": ("tool_choice", "REQUIRED"),
    }
    key, wanted = words.get(name, ("tool_choice", "required"))
    assert body[key] == wanted


async def test_a_stop_word_may_be_one(wires: dict[str, Wire], router: Router, name: str) -> None:
    wire = chatter(wires, name)
    await router.open(chat(name, stop="END"))
    assert wire.told(only(wire)).stop == ["END"]


@both
async def test_the_result_of_a_tool_is_told(wires: dict[str, Wire], router: Router, name: str, stream: bool) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    messages = [
        {"role": "user", "content": "How is it there?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "gale from the north"},
    ]
    answer = await router.open(chat(name, stream=stream, tools=TOOLS, messages=messages))
    assert (await read(answer)).text == "one two three"
    raw = only(wires[name]).raw.decode()
    assert "gale from the north" in raw
    assert "Reykjav" in raw


@both
@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (Fault.BAD_REQUEST, UpstreamRefused, 400),
        (Fault.TOO_LONG, UpstreamRefused, 400),
        (Fault.KEY, UpstreamFailed, 502),
        (Fault.UNPAID, UpstreamFailed, 502),
        (Fault.LIMIT, UpstreamRefused, 429),
        (Fault.ERROR, UpstreamFailed, 502),
        (Fault.BUSY, NoDeployment, 503),
        (Fault.DROP, NoDeployment, 503),
    ],
)
async def test_a_refusal_in_the_providers_form_becomes_our_error(
    wires: dict[str, Wire],
    router: Router,
    name: str,
    fault: Fault,
    error: type[RouterError],
    status: int,
    stream: bool,
) -> None:
    wires[name].fault = fault
    with pytest.raises(RouterError) as caught:
        await router.open(chat(name, stream=stream))
    assert type(caught.value) is error
    told, body, headers = describe(caught.value)
    assert told == status
    text = json.dumps(body)
    assert "secret" not in text
    assert "litellm" not in text.lower()
    assert "Exception" not in text
    assert len(wires[name].seen) == 1  # who asks again is the router, not LiteLLM
    if fault is Fault.BAD_REQUEST:
        assert "temperature" in body["error"]["message"]
        assert "{" not in body["error"]["message"]  # the provider's words, not its envelope
    assert (body["error"]["code"] == "context_length_exceeded") == (fault is Fault.TOO_LONG)
    if fault is Fault.LIMIT:
        assert headers["retry-after"] == "9"


@both
async def test_a_provider_that_is_not_there_is_no_deployment(
    wires: dict[str, Wire], config: RouterConfig, name: str, stream: bool
) -> None:
    (one,) = (deployment for deployment in config.deployments if deployment.group == name)
    assert one.api_base is not None
    elsewhere = replace(one, api_base=one.api_base.replace(wires[name].url, f"http://127.0.0.1:{free_port()}"))
    async with open_router(RouterConfig([elsewhere])) as router:
        with pytest.raises(NoDeployment):
            await router.open(chat(name, stream=stream))


@pytest.mark.parametrize("fault", IN_STREAM)
async def test_a_stream_that_breaks_ends_in_an_error_never_in_silence(
    wires: dict[str, Wire], router: Router, name: str, fault: Fault
) -> None:
    wires[name].fault = fault
    got = await read(await router.open(chat(name, stream=True)))
    assert got.broken
    assert got.reason is None
    assert "one two three".startswith(got.text)
    assert got.text != "one two three"


@pytest.mark.parametrize("fault", IN_STREAM)
async def test_a_stream_that_breaks_is_gone_on_with_by_another_provider(
    wires: dict[str, Wire], config: RouterConfig, name: str, fault: Fault
) -> None:
    wires[name].fault = fault
    other = "azure" if name == "openai" else "openai"
    async with open_router(replace(config, fallbacks={name: [other]})) as router:
        answer = await router.open(chat(name, stream=True))
        got = await read(answer)
    assert (got.text, got.reason, got.broken) == ("one two three", "stop", False)
    assert answer.deployment.group == other


async def test_a_client_that_leaves_cancels_the_provider(wires: dict[str, Wire], router: Router, name: str) -> None:
    wire = wires[name]
    wire.pause_s = 0.2
    answer = await router.open(chat(name, stream=True))
    assert answer.frames is not None
    await anext(answer.frames)
    await answer.aclose()
    for _ in range(40):
        if wire.left:
            break
        await asyncio.sleep(0.05)
    assert wire.left == 1


@both
async def test_nothing_is_left_open(wires: dict[str, Wire], config: RouterConfig, name: str, stream: bool) -> None:
    before = _open_sessions()
    async with open_router(config) as router:
        await read(await router.open(chat(name, stream=stream)))
    assert _open_sessions() <= before


def _open_sessions() -> set[int]:
    sessions = (one for one in gc.get_objects() if type(one) is ClientSession)
    return {id(one) for one in sessions if not one.closed}


async def test_what_a_provider_does_not_take_is_refused_in_our_words(
    wires: dict[str, Wire], router: Router, name: str
) -> None:
    if name in ("openai", "azure", "sagemaker"):
        pytest.skip("it speaks OpenAI's form, and says so itself")
    with pytest.raises(UpstreamRefused, match="logit_bias") as caught:
        await router.open(chat(name, logit_bias={"1": 5}))
    assert caught.value.status == 400
    assert "litellm" not in str(caught.value).lower()
    assert wires[name].seen == []


async def test_a_deployment_whose_key_is_not_set_is_off_and_says_which(
    wires: dict[str, Wire], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stoker.yaml"
    path.write_text(yaml.safe_dump({"model_list": wires[name].entries()[:1]}))
    variable = next(name for name in wires[name].environment() if name.startswith("WIRE_"))
    monkeypatch.delenv(variable)
    config = load(path)
    assert config.deployments == []
    assert config.disabled == {f"{name}-1": f"{variable} is not set"}
    assert not config.unsupported
