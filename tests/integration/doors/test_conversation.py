"""`conversation_id` in a chat that no documents answer: what was said before stands before it, and both are kept."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.integration.doors.conftest import CHAT, begin, name, stranger_of, talk
from tests.integration.hot.conftest import await_lines, events, new_key
from tests.integration.querywork.test_gateway import House
from tests.support.openai_server import CONTEXT_TOKENS, Fault

pytestmark = pytest.mark.slow  # a gateway is started

BOTH = pytest.mark.parametrize("stream", [False, True])


def ask(bare: House, conversation: str, text: str, key: str | None = None, **fields: Any) -> httpx.Response:
    """Say this; the model says it again."""
    headers = {"x-request-id": f"{name()}.echo"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    messages = [{"role": "user", "content": text}]
    body = {"model": "words", "messages": messages, "conversation_id": conversation, **fields}
    return bare.client.post(CHAT, json=body, headers=headers)


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json()["choices"][0]["message"]["content"])
    chunks = [one for one in events(answer.text) if one != "[DONE]" and one["choices"]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@BOTH
def test_what_was_said_stands_before_what_is_said_and_is_kept(bare: House, stream: bool) -> None:
    conversation = begin(bare)
    orders = {"role": "system", "content": "Be brief."}
    for said in ("one two", "three four"):
        messages = [orders, {"role": "user", "content": said}]
        assert text_of(ask(bare, conversation, said, messages=messages, stream=stream)) == said
    assert talk(bare, conversation) == [
        ("user", "one two"),
        ("assistant", "one two"),
        ("user", "three four"),
        ("assistant", "three four"),
    ]
    sent = bare.server.bodies[-1]
    assert [message["content"] for message in sent["messages"]] == ["Be brief.", "one two", "one two", "three four"]
    assert sent["messages"][0] == orders, "it is said anew with each request, and not kept"
    assert "conversation_id" not in sent


def test_the_stream_is_the_models_own(bare: House) -> None:
    body = {"model": "words", "messages": [{"role": "user", "content": "one two"}], "stream": True}
    plain = bare.client.post(CHAT, json=body)
    kept = ask(bare, begin(bare), "one two", stream=True)
    assert kept.text == plain.text
    assert {"x-stoker-deployment", "x-request-id"} <= set(kept.headers)


@BOTH
def test_an_answer_that_broke_leaves_nothing(bare: House, stream: bool) -> None:
    conversation = begin(bare)
    bare.server.fault = Fault.CUT_MID_STREAM if stream else Fault.ERROR_500
    answer = ask(bare, conversation, "one two three four", stream=stream)
    assert "[DONE]" not in answer.text
    assert answer.status_code == (200 if stream else 502)
    bare.server.fault = None
    assert talk(bare, conversation) == []


def test_a_client_that_leaves_leaves_nothing_and_stops_the_model(bare: House) -> None:
    made = new_key(bare.client)
    conversation = begin(bare)
    bare.server.pause_s, cancelled = 0.05, bare.server.cancelled
    body = {"model": "words", "messages": [{"role": "user", "content": "word " * 60}], "stream": True}
    body |= {"conversation_id": conversation}
    with bare.client.stream("POST", CHAT, json=body, headers={"authorization": f"Bearer {made['key']}"}) as answer:
        next(line for line in answer.iter_lines() if "word" in line)
    limit_s = time.monotonic() + 10
    while bare.server.cancelled == cancelled:
        assert time.monotonic() < limit_s, "the upstream goes on"
        time.sleep(0.02)
    (line,) = await_lines(bare.gate, 1, key_id=made["id"])
    assert (line["route"], line["outcome"]) == (CHAT, "client_left")
    assert talk(bare, conversation) == []


def test_who_has_the_end_of_an_answer_finds_it_kept(bare: House) -> None:
    conversation = begin(bare)
    body = {"model": "words", "messages": [{"role": "user", "content": "one two"}], "stream": True}
    with bare.client.stream("POST", CHAT, json={**body, "conversation_id": conversation}) as answer:
        for line in answer.iter_lines():
            if "[DONE]" in line:
                headers = {"authorization": f"Bearer {bare.gate.key}"}
                items = httpx.get(f"{bare.gate.url}/v1/conversations/{conversation}/items", headers=headers).json()
                assert len(items["data"]) == 2


def test_a_conversation_that_ends_meanwhile_ends_its_stream_with_an_error(bare: House) -> None:
    conversation = begin(bare)
    bare.server.pause_s = 0.05
    body = {"model": "words", "messages": [{"role": "user", "content": "word " * 20}], "stream": True}
    with bare.client.stream("POST", CHAT, json={**body, "conversation_id": conversation}) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "word" in line)
        headers = {"authorization": f"Bearer {bare.gate.key}"}
        httpx.delete(f"{bare.gate.url}/v1/conversations/{conversation}", headers=headers).raise_for_status()
        rest = "\n".join(lines)
    assert "conversation_not_found" in rest
    assert "[DONE]" not in rest


def test_nobody_goes_on_with_anothers_conversation(bare: House) -> None:
    conversation = begin(bare, bare.members["ann"])
    ask(bare, conversation, "my secret", bare.members["ann"])
    seen = bare.server.requests
    for key in (bare.members["bob"], stranger_of(bare), bare.gate.key):
        answer = ask(bare, conversation, "What did I say?", key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "conversation_not_found")
    chats_only = new_key(bare.client, scopes=["chat"])["key"]
    assert ask(bare, begin(bare), "Hello.", chats_only).status_code == 403
    assert bare.server.requests == seen
    assert len(talk(bare, conversation, bare.members["ann"])) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"conversation_id": 7}, "conversation_id"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_the_model_is_asked(
    bare: House, fields: dict[str, Any], param: str
) -> None:
    seen = bare.server.requests
    answer = ask(bare, begin(bare), "Hello.", **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert bare.server.requests == seen


def test_of_a_long_conversation_the_newest_turns_that_fit_are_sent(bare: House) -> None:
    conversation = begin(bare)
    path = f"/v1/conversations/{conversation}/items"
    for ten in range(4):
        turns = [
            {"role": role, "content": f"turn{10 * ten + one} " + "word " * 250}
            for one in range(10)
            for role in ("user", "assistant")
        ]
        bare.client.post(path, json={"items": turns}).raise_for_status()
    text = text_of(ask(bare, conversation, "and now"))
    assert text == "and now"
    sent = bare.server.bodies[-1]["messages"]
    assert sent[0]["role"] == "user", "a turn is sent whole or not at all"
    assert sent[-2]["content"].startswith("turn39 ")
    assert sum(len(message["content"].split()) for message in sent) <= CONTEXT_TOKENS
    assert len(sent) > 3
    assert len(json.dumps(sent)) < 80_000
