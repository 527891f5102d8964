"""What the router relies on in an upstream: the same suite against vLLM and against the fakes that stand in for it."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from tests.support.exact.server import exact_server
from tests.support.openai_server import openai_server

Upstream = tuple[str, str]  # base URL, model


@pytest.fixture(params=["fake", "exact", pytest.param("vllm", marks=pytest.mark.vllm)])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    if request.param == "vllm":
        engine = request.getfixturevalue("vllm_engine")
        yield f"{engine.url}/v1", engine.model
    else:
        async with openai_server() if request.param == "fake" else exact_server() as server:
            yield server.base_url, server.model


async def _post(upstream: Upstream, body: bytes, path: str = "chat/completions") -> tuple[int, str, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{upstream[0]}/{path}", data=body, headers={"content-type": "application/json"}) as response,
    ):
        return response.status, response.content_type, await response.read()


async def _chat(
    upstream: Upstream, text: str = "What is the capital of France?", **more: Any
) -> tuple[int, str, bytes]:
    body = {"model": upstream[1], "messages": [{"role": "user", "content": text}], "temperature": 0, **more}
    return await _post(upstream, orjson.dumps(body))


def _chunks(body: bytes) -> list[dict[str, Any]]:
    frames = body.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [orjson.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


async def test_it_lists_its_model(upstream: Upstream) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{upstream[0]}/models") as response:
        data = orjson.loads(await response.read())
    assert [entry["id"] for entry in data["data"]] == [upstream[1]]
    assert data["data"][0]["max_model_len"] == 4096


async def test_an_answer_in_one_piece_has_usage_and_a_reason(upstream: Upstream) -> None:
    status, kind, body = await _chat(upstream, max_tokens=3)
    answer = orjson.loads(body)
    assert (status, kind, answer["model"]) == (200, "application/json", upstream[1])
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 3


async def test_a_stream_ends_with_reason_usage_and_done(upstream: Upstream) -> None:
    status, kind, body = await _chat(upstream, max_tokens=3, stream=True, stream_options={"include_usage": True})
    chunks = _chunks(body)
    assert (status, kind) == (200, "text/event-stream")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons[-1] == "length"
    assert set(reasons[:-1]) == {None}


async def test_a_stream_has_no_usage_chunk_unless_asked(upstream: Upstream) -> None:
    _, _, body = await _chat(upstream, max_tokens=3, stream=True)
    assert all(chunk["choices"] for chunk in _chunks(body))


async def test_the_tokens_of_a_chat_are_counted_as_in_its_usage(upstream: Upstream) -> None:
    _, _, body = await _chat(upstream, max_tokens=3)
    root = upstream[0].removesuffix("/v1"), upstream[1]
    asked = {"model": upstream[1], "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    status, kind, counted = await _post(root, orjson.dumps(asked), "tokenize")
    told = orjson.loads(counted)
    assert (status, kind) == (200, "application/json")
    assert told["count"] == orjson.loads(body)["usage"]["prompt_tokens"]
    assert told["max_model_len"] == 4096


async def test_an_unknown_model_is_404(upstream: Upstream) -> None:
    status, _, body = await _chat((upstream[0], "nope"))
    assert status == 404
    assert "does not exist" in orjson.loads(body)["error"]["message"]


@pytest.mark.parametrize("body", [b'{"model":', b'{"model":"MODEL"}'])
async def test_a_malformed_body_is_400(upstream: Upstream, body: bytes) -> None:
    status, _, answer = await _post(upstream, body.replace(b"MODEL", upstream[1].encode()))
    assert status == 400
    assert orjson.loads(answer)["error"]["code"] == 400


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_400_and_names_the_limit(upstream: Upstream, stream: bool) -> None:
    status, kind, body = await _chat(upstream, "word " * 6000, stream=stream)
    assert (status, kind) == (400, "application/json")
    error = orjson.loads(body)["error"]
    assert "maximum context length is 4096 tokens" in error["message"]
    assert error["param"] == "input_tokens"


async def test_a_text_is_completed_in_the_old_form(upstream: Upstream) -> None:
    body = {"model": upstream[1], "prompt": "one two three four", "max_tokens": 3, "temperature": 0}
    status, _, answer = await _post(upstream, orjson.dumps(body), "completions")
    told = orjson.loads(answer)
    assert (status, told["object"], told["choices"][0]["finish_reason"]) == (200, "text_completion", "length")
    assert told["choices"][0]["text"]
    assert told["usage"]["completion_tokens"] == 3


async def _message(upstream: Upstream, text: str = "one two three four", **more: Any) -> tuple[int, str, bytes]:
    body = {"model": upstream[1], "messages": [{"role": "user", "content": text}], "max_tokens": 3, **more}
    return await _post(upstream, orjson.dumps(body), "messages")


async def test_a_message_in_anthropics_form_has_usage_and_a_reason(upstream: Upstream) -> None:
    status, kind, body = await _message(upstream, temperature=0)
    answer = orjson.loads(body)
    assert (status, kind, answer["type"], answer["role"]) == (200, "application/json", "message", "assistant")
    assert answer["content"][0]["type"] == "text"
    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"]["output_tokens"] == 3


async def test_a_streamed_message_has_named_events_and_its_usage_at_the_end(upstream: Upstream) -> None:
    status, kind, body = await _message(upstream, temperature=0, stream=True)
    frames = [frame.split("\n") for frame in body.decode().split("\n\n") if frame]
    events = [orjson.loads(frame[1].removeprefix("data: ")) for frame in frames]
    assert (status, kind) == (200, "text/event-stream")
    assert [frame[0] for frame in frames] == [f"event: {event['type']}" for event in events]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[0]["message"]["role"] == "assistant"
    assert events[2]["delta"]["type"] == "text_delta"
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"
    assert events[-2]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_message_that_is_too_long_is_400_and_names_the_limit(upstream: Upstream, stream: bool) -> None:
    status, kind, body = await _message(upstream, "word " * 6000, stream=stream)
    assert (status, kind) == (400, "application/json")
    assert "maximum context length is 4096 tokens" in orjson.loads(body)["error"]["message"]


@pytest.mark.parametrize("salt", ["", 7, "a/b", "a@b", "a\\b", "a\0", "a" * 129])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_salt_that_is_none_is_400(upstream: Upstream, path: str, salt: object) -> None:
    body = {"model": upstream[1], "prompt": "one", "messages": [{"role": "user", "content": "one"}], "max_tokens": 2}
    del body["prompt" if path == "chat/completions" else "messages"]
    status, _, answer = await _post(upstream, orjson.dumps({**body, "cache_salt": salt}), path)
    assert status == 400
    assert "cache_salt" in orjson.loads(answer)["error"]["message"]
    assert (await _post(upstream, orjson.dumps({**body, "cache_salt": "a" * 128}), path))[0] == 200


async def _hits(upstream: Upstream) -> float:
    """Tokens of prompts that the engine has found so far."""
    address = f"{upstream[0].removesuffix('/v1')}/metrics"
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:prefix_cache_hits_total"))


@pytest.mark.parametrize("upstream", ["exact", pytest.param("vllm", marks=pytest.mark.vllm)], indirect=True)
async def test_what_was_read_under_one_salt_is_found_under_no_other(upstream: Upstream) -> None:
    text, other = f"{uuid.uuid4()} {'a long beginning ' * 200}", f"{uuid.uuid4()} {'a long beginning ' * 200}"
    asked = {"model": upstream[1], "messages": [{"role": "user", "content": text}], "max_tokens": 2, "temperature": 0}

    async def found(path: str, body: dict[str, Any], **more: str) -> float:
        before = await _hits(upstream)
        status, _, answer = await _post(upstream, orjson.dumps({**body, **more}), path)
        assert status == 200, answer
        return await _hits(upstream) - before

    assert await found("chat/completions", asked, cache_salt="one") == 0
    assert await found("chat/completions", asked, cache_salt="two") == 0
    assert await found("chat/completions", asked) == 0
    assert await found("chat/completions", asked, cache_salt="one") >= 256
    assert await found("messages", asked, cache_salt="two") >= 256
    assert await found("messages", asked, cache_salt="three") == 0
    old = {"model": upstream[1], "prompt": other, "max_tokens": 2}
    assert await found("completions", old, cache_salt="one") == 0
    assert await found("completions", old, cache_salt="two") == 0
    assert await found("completions", old, cache_salt="two") >= 256
