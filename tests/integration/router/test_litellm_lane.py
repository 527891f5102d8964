"""The LiteLLM lane: LiteLLM itself, talking to a local server that it takes for OpenAI."""

import asyncio
import inspect
import sys
from dataclasses import replace

import orjson
import pytest

from core.reach import ANYWHERE, HOME
from core.usage import Usage
from router.errors import (
    NoDeployment,
    RouterError,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.router import Call, open_router
from tests.integration.router.calls import chat, config, hosted, native, read
from tests.support.network import free_port
from tests.support.openai_server import Fault, OpenAiServer

pytestmark = pytest.mark.slow  # LiteLLM takes seconds to import


async def test_an_answer_in_one_piece_is_translated(server: OpenAiServer) -> None:
    async with open_router(config(hosted(server))) as router:
        answer = await router.open(chat(group="hosted", max_tokens=2))
        assert [(model.id, model.owned_by) for model in router.models()] == [("hosted", "openai")]
    body = orjson.loads(answer.body)
    assert body["choices"][0]["message"]["content"] == "one two"
    assert body["model"] == "words"
    assert (answer.usage, answer.finish_reason) == (Usage(4, 2), "length")
    assert server.headers[0]["authorization"] == "Bearer sk-test"


async def test_a_stream_is_translated_with_its_usage(server: OpenAiServer) -> None:
    async with open_router(config(hosted(server))) as router:
        answer = await router.open(chat(group="hosted", stream=True))
        body = await read(answer)
        asked = await router.open(chat(group="hosted", stream=True, stream_options={"include_usage": True}))
        asked_body = await read(asked)
    frames = body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [orjson.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "one two three four"
    assert all("usage" not in chunk for chunk in chunks)
    assert b'"usage"' in asked_body
    assert answer.usage == asked.usage == Usage(4, 4)
    assert answer.finish_reason == "stop"
    assert answer.first_token_s is not None


async def test_embeddings_pass(server: OpenAiServer) -> None:
    async with open_router(config(hosted(server, kind="embedding"))) as router:
        call = Call(
            "embeddings", "hosted", {"model": "hosted", "input": ["a b", "c"]}, False, ANYWHERE, "r", tenant="t"
        )
        answer = await router.open(call)
    assert len(orjson.loads(answer.body)["data"]) == 2
    assert answer.usage == Usage(3, 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.KEY_401, UpstreamFailed),
        (Fault.LIMIT_429, UpstreamRefused),
        (Fault.ERROR_500, UpstreamFailed),
        (Fault.BUSY_503, NoDeployment),
        (Fault.HANG, UpstreamTimeout),
    ],
)
async def test_a_fault_has_its_own_error_and_tells_no_secret(
    server: OpenAiServer, fault: Fault, error: type[RouterError], stream: bool
) -> None:
    server.fault = fault
    limit_s = 1 if fault is Fault.HANG else 15
    async with open_router(config(hosted(server, limit_s=limit_s))) as router:
        with pytest.raises(error) as caught:
            await router.open(chat(group="hosted", stream=stream))
    assert type(caught.value) is error
    assert "secret" not in str(caught.value)
    assert server.requests == 1  # retries are the router's, not LiteLLM's
    if fault is Fault.LIMIT_429:
        assert isinstance(caught.value, UpstreamRefused)
        assert (caught.value.status, caught.value.retry_after_s) == (429, 9)


async def test_a_provider_that_is_away_is_no_deployment() -> None:
    away = OpenAiServer("words", base_url=f"http://127.0.0.1:{free_port()}/v1")
    async with open_router(config(hosted(away))) as router:
        with pytest.raises(NoDeployment):
            await router.open(chat(group="hosted"))


async def test_a_prompt_that_is_too_long_is_refused_with_the_limit(server: OpenAiServer) -> None:
    async with open_router(config(hosted(server))) as router:
        with pytest.raises(UpstreamRefused, match="maximum context length is 4096 tokens") as caught:
            await router.open(chat("word " * 5000, group="hosted"))
        assert router.status()[0].state == "closed"
    assert (caught.value.status, caught.value.error["code"]) == (400, "context_length_exceeded")
    assert "litellm" not in str(caught.value)


@pytest.mark.parametrize("field", ["top_k", "mock_response", "api_base"])
async def test_a_field_that_no_provider_takes_is_refused_not_dropped(server: OpenAiServer, field: str) -> None:
    call = chat(group="hosted")
    async with open_router(config(hosted(server))) as router:
        with pytest.raises(UpstreamRefused, match=field) as caught:
            await router.open(replace(call, body={**call.body, field: "x"}))
    assert caught.value.error["param"] == field
    assert server.requests == 0


async def test_a_client_that_leaves_cancels_the_provider(server: OpenAiServer) -> None:
    server.pause_s = 0.05
    async with open_router(config(hosted(server))) as router:
        answer = await router.open(chat("word " * 1000, group="hosted", stream=True))
        assert answer.frames is not None
        await anext(answer.frames)
        await answer.aclose()
        await asyncio.sleep(0.1)
        assert server.cancelled == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_local_model_that_fails_falls_back_to_a_hosted_one(
    server: OpenAiServer, other: OpenAiServer, stream: bool
) -> None:
    server.fault = Fault.ERROR_500
    async with open_router(config(native(server), hosted(other), g=["hosted"])) as router:
        answer = await router.open(chat(stream=stream))
        body = await read(answer) if stream else answer.body
    assert (answer.deployment.name, answer.fallback) == ("hosted-1", "hosted")
    assert b"four" in body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_may_not_leave_the_house_never_does(
    server: OpenAiServer, other: OpenAiServer, stream: bool
) -> None:
    server.fault = Fault.ERROR_500
    async with open_router(config(native(server), hosted(other), g=["hosted"])) as router:
        for _ in range(4):
            with pytest.raises((UpstreamFailed, NoDeployment)):
                await router.open(chat(stream=stream, reach=HOME))
        with pytest.raises(NoDeployment, match="may not leave the house"):
            await router.open(chat(group="hosted", reach=HOME))
    assert other.requests == 0


async def test_a_provider_whose_stream_breaks_ends_in_an_error_event(server: OpenAiServer) -> None:
    server.fault = Fault.CUT_MID_STREAM
    async with open_router(config(hosted(server))) as router:
        body = await read(await router.open(chat(group="hosted", stream=True)))
    assert b"[DONE]" not in body
    assert b"stream_broken" in body


async def test_the_server_of_litellm_which_its_advisories_are_about_is_not_even_imported() -> None:
    code = "import sys; from router.litellm_lane import LitellmLane; LitellmLane(); import litellm; "
    code += "tools = [{'type': 'function', 'function': {'name': 'f', 'parameters': {'type': 'object'}}}]; "
    code += "litellm.completion('openai/x', [], tools=tools, mock_response='x', _skip_mcp_handler=True); "
    code += "parts = ('proxy_server', 'auth', 'management_endpoints'); "
    code += "print([name for name in sys.modules if name.startswith(tuple(f'litellm.proxy.{p}' for p in parts))])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert told.decode().strip() == "[]"


def test_every_error_of_litellm_has_a_translation(server: OpenAiServer) -> None:
    from litellm import exceptions

    from router.litellm_lane import TABLE

    classes = [
        kind
        for _, kind in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == exceptions.__name__
    ]
    assert len(classes) > 15
    unmapped = [kind.__name__ for kind in classes if not any(base in TABLE for base in kind.__mro__)]
    assert unmapped == []
    assert issubclass(UpstreamUnavailable, UpstreamError)
