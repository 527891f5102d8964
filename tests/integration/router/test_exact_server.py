"""The provider whose answers can be told in advance: whatever is cut can be continued exactly, in both ways."""

import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.exact import model as exact
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.server import ExactServer, exact_server

PROMPTS = ["Tell me of the sea.", "über die Straße 猫", "a 🦊 and a § walk", "", " the the the", "x"]


@pytest.fixture
async def server() -> AsyncIterator[ExactServer]:
    async with exact_server() as server:
        yield server


async def _stream(server: ExactServer, path: str, **body: Any) -> list[dict[str, Any]]:
    """The chunks of a stream that came whole."""
    asked = {"model": server.model, "stream": True, "return_token_ids": True, **body}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.base_url}/{path}", json=asked) as response,
    ):
        text = (await response.read()).decode()
        assert response.status == 200, text
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [orjson.loads(frame.removeprefix("data: ")) for frame in frames]


def _said(chunks: list[dict[str, Any]]) -> tuple[list[int], str, str]:
    """Token ids, text and finish reason of a stream."""
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    ids = [token for choice in choices for token in choice.get("token_ids") or []]
    text = "".join(choice["text"] if "text" in choice else choice["delta"].get("content", "") for choice in choices)
    return ids, text, choices[-1]["finish_reason"]


@pytest.mark.parametrize("seed", range(12))
async def test_an_answer_cut_anywhere_goes_on_exactly_from_its_token_ids_and_from_its_text(
    server: ExactServer, seed: int
) -> None:
    rng = random.Random(seed)
    limit = rng.choice([20, 40, 4000])
    messages = [{"role": "user", "content": f"{rng.choice(PROMPTS)} {rng.random()}"}]
    chunks = await _stream(server, "chat/completions", messages=messages, max_tokens=limit)
    prompt = chunks[0]["prompt_token_ids"]
    ids, text, reason = _said(chunks)
    assert (ids, text, reason) == _told(exact.read_chat({"messages": messages, "max_tokens": limit}))
    cut = rng.randrange(1, len(ids))
    left = limit - cut
    by_ids = await _stream(server, "completions", prompt=prompt + ids[:cut], max_tokens=left)
    assert _said(by_ids)[0] == ids[cut:]
    sent = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[1 : 1 + cut])
    assert (sent + _said(by_ids)[1], _said(by_ids)[2]) == (text, reason)
    grown = [*messages, {"role": "assistant", "content": sent}]
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    left = limit - len(exact.encode(sent))  # a character that the cut left unfinished is made again
    by_text = await _stream(server, "chat/completions", messages=grown, max_tokens=left, **flags)
    assert (sent + _said(by_text)[1], _said(by_text)[2]) == (text, reason)
    assert by_text[0]["prompt_token_ids"] == prompt + exact.encode(sent)


@given(st.text(max_size=60), st.integers(1, 60))
def test_text_and_its_continuation_have_the_tokens_of_the_whole(prompt: str, tokens: int) -> None:
    asked = exact.read_completion({"prompt": prompt, "max_tokens": tokens})
    told = exact.answer("exact", asked)
    whole = [token for token in told.tokens if token != exact.EOS]
    unfinished = _unfinished(whole)
    assert exact.encode(told.text) == whole[: len(whole) - unfinished]


@given(st.text(max_size=60))
def test_text_survives_its_tokens(text: str) -> None:
    decoder = exact.Decoder()
    assert "".join(decoder.feed(token) for token in exact.encode(text)) == text


def test_answers_have_characters_of_several_tokens_and_ends_of_both_kinds() -> None:
    told = [
        exact.answer("exact", exact.read_chat({"messages": [{"role": "user", "content": str(at)}], "max_tokens": 48}))
        for at in range(100)
    ]
    assert sum("🦊" in each.text for each in told) > 10
    assert {each.reason for each in told} == {"stop", "length"}
    assert len({each.text for each in told}) == 100
    assert all(each.tokens[-1] == exact.EOS for each in told if each.reason == "stop")


async def test_another_model_says_something_else() -> None:
    asked = exact.read_chat({"messages": [{"role": "user", "content": "hello"}]})
    assert exact.answer("exact", asked).text != exact.answer("other", asked).text


async def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(server: ExactServer) -> None:
    messages = [{"role": "user", "content": "Tell me of the sea."}]
    _, text, _ = _said(await _stream(server, "chat/completions", messages=messages, max_tokens=20))
    word = " ".join(text.split(" ")[6:8])
    _, cut, reason = _said(await _stream(server, "chat/completions", messages=messages, max_tokens=20, stop=word))
    assert (cut, reason) == (text[: text.index(word)], "stop")


@pytest.mark.parametrize("kind", ["tool", "json"])
async def test_calls_and_json_come_in_fragments_and_are_valid(server: ExactServer, kind: str) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    more = {"tools": [tool]} if kind == "tool" else {"response_format": {"type": "json_object"}}
    chunks = await _stream(server, "chat/completions", messages=[{"role": "user", "content": "x"}], **more)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:]]
    if kind == "tool":
        calls = [delta["tool_calls"][0] for delta in deltas]
        assert calls[0]["id"]
        assert calls[0]["function"]["name"] == "look_up"
        assert not any("id" in call for call in calls[1:])
        text = "".join(call["function"]["arguments"] for call in calls)
    else:
        text = "".join(delta["content"] for delta in deltas)
    assert set(orjson.loads(text)) == {"place", "reason", "other", "days"}
    assert len(deltas) > 10
    assert chunks[-1]["choices"][0]["finish_reason"] == ("tool_calls" if kind == "tool" else "stop")


async def test_its_log_tells_what_it_sent_before_a_cut(server: ExactServer) -> None:
    server.plan.append(Failure(Fault.CUT, at=5))
    with pytest.raises(aiohttp.ClientError):
        await _stream(server, "chat/completions", messages=[{"role": "user", "content": "x"}], user="me")
    (served,) = server.log
    assert (served.name, served.sent, served.ended, served.failed) == ("me", 5, False, Fault.CUT)


async def test_its_metrics_count_tokens(server: ExactServer) -> None:
    await _stream(server, "chat/completions", messages=[{"role": "user", "content": "x"}], max_tokens=7)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}/metrics") as metrics,
        session.get(f"http://127.0.0.1:{server.port}/health") as health,
    ):
        assert 'vllm:generation_tokens_total{model_name="exact",engine="0"} 7' in await metrics.text()
        assert health.status == 200


def _told(asked: exact.Asked) -> tuple[list[int], str, str]:
    told = exact.answer("exact", asked)
    return list(told.tokens), told.text, told.reason


def _unfinished(tokens: list[int]) -> int:
    """Tokens at the end that make no whole character yet."""
    decoder, pending = exact.Decoder(), 0
    for token in tokens:
        pending = 0 if decoder.feed(token) else pending + 1
    return pending
