"""`retrieval` in chat completions and messages: the answers of `/v1/query`, in the form of either API."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.integration.doors.conftest import (
    ASKED,
    CHAT,
    CLOSED,
    MESSAGES,
    OF_2024,
    OF_2025,
    OF_ANY,
    SOURCED,
    UNSOURCED,
    answered,
    ask,
    begin,
    name,
    talk,
)
from tests.integration.hot.conftest import await_lines, events, new_key
from tests.integration.querywork.test_gateway import House
from tests.support.openai_server import Fault
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

BOTH = pytest.mark.parametrize("path", [CHAT, MESSAGES])


def text_of(answer: dict[str, Any]) -> str:
    """What an answer in either form says."""
    if "choices" in answer:
        return str(answer["choices"][0]["message"]["content"])
    return "".join(block["text"] for block in answer["content"])


def quotes_of(answer: dict[str, Any]) -> list[str]:
    if "choices" in answer:
        return [one["quote"] for one in answer["choices"][0]["message"]["citations"]]
    return [one["cited_text"] for block in answer["content"] for one in block["citations"] or ()]


def of_query(house: House, **fields: Any) -> dict[str, Any]:
    """The same question to `/v1/query`."""
    body = {"query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64, "model": "words", **fields}
    found: dict[str, Any] = house.client.post("/v1/query", json=body, headers={"x-request-id": name()}).json()
    return found


@pytest.mark.parametrize("grounding", ["strict", "mark", "off"])
def test_a_chat_is_answered_as_the_same_question_is(house: House, grounding: str) -> None:
    said = SOURCED + UNSOURCED
    house.says["said"] = said
    query = of_query(house, grounding=grounding)
    retrieval = {"grounding": grounding}
    completion = answered(house, says=said, retrieval=retrieval)
    message = completion["choices"][0]["message"]
    assert (message["content"], message["citations"]) == (query["answer"], query["citations"])
    assert completion["usage"] == query["usage"]
    assert (completion["degraded"], completion["model"]) == (query["degraded"], "words")
    assert message.get("unsupported") == query.get("unsupported")
    assert len(message["citations"]) == (0 if grounding == "off" else 1)
    other = answered(house, MESSAGES, says=said, retrieval=retrieval)
    assert text_of(other).rstrip() == query["answer"]
    assert quotes_of(other) == [one["quote"] for one in query["citations"]]
    assert other["usage"]["input_tokens"] == query["usage"]["prompt_tokens"]


def test_every_citation_stands_in_its_document(house: House) -> None:
    message = answered(house)["choices"][0]["message"]
    (citation,), (annotation,) = message["citations"], message["annotations"]
    content = house.client.get(annotation["url_citation"]["url"]).text
    assert content[citation["start"] : citation["end"]] == citation["quote"]
    (block,) = answered(house, MESSAGES)["content"]
    (cited,) = block["citations"]
    assert content[cited["start_char_index"] : cited["end_char_index"]] == cited["cited_text"]
    assert "nine" in cited["cited_text"]


@BOTH
def test_a_stream_says_what_the_whole_answer_says(house: House, path: str) -> None:
    whole = answered(house, path, says=SOURCED + UNSOURCED)
    answer = ask(house, path, says=SOURCED + UNSOURCED, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    if path == CHAT:
        *chunks, last, usage, end = told
        said = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
        assert last["choices"][0]["delta"]["citations"] == whole["choices"][0]["message"]["citations"]
        assert (usage["usage"], end) == (whole["usage"], "[DONE]")
    else:
        deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
        said = "".join(delta.get("text", "") for delta in deltas)
        cited = [delta["citation"]["cited_text"] for delta in deltas if delta["type"] == "citations_delta"]
        assert cited == quotes_of(whole)
        assert told[-2]["usage"] == whole["usage"]
    assert said.rstrip() == text_of(whole)


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut_says_so(house: House, path: str, stream: bool) -> None:
    def ending(bound: int) -> str:
        answer = ask(house, path, says=f"{SOURCED} {SOURCED}", max_tokens=bound, stream=stream)
        told = [one for one in events(answer.text) if one != "[DONE]"] if stream else [answer.json()]
        if path == CHAT:
            return next(end for one in told for choice in one["choices"] if (end := choice["finish_reason"]))
        ends = [one["delta"] if stream else one for one in told if not stream or one["type"] == "message_delta"]
        return str(ends[-1]["stop_reason"])

    whole, cut = ("stop", "length") if path == CHAT else ("end_turn", "max_tokens")
    assert [ending(64), ending(12), ending(2)] == [whole, cut, whole]  # of two words nothing is told, so it quotes
    query = [of_query(house, max_tokens=bound)["finish_reason"] for bound in (64, 4)]
    assert query == ["stop", "stop"]


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_headers_say_what_the_callers_limits_leave(house: House, path: str, stream: bool) -> None:
    key = new_key(house.client, limits={"rpm": 30, "tpm": 1_000_000})["key"]
    left = [int(ask(house, path, key=key, stream=stream).headers["x-ratelimit-remaining-requests"]) for _ in range(2)]
    assert left[0] in (28, 29)
    assert left[1] < left[0]
    asked = {"query": ASKED, "collection": "fares", "stream": stream}
    answer = house.client.post("/v1/query", json=asked, headers={"authorization": f"Bearer {key}"})
    assert int(answer.headers["x-ratelimit-remaining-requests"]) < left[1]


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_nobody_reads_another_tenants_documents_through_a_chat(
    house: House, stranger: str, path: str, stream: bool
) -> None:
    seen = house.server.requests
    answer = ask(house, path, key=stranger, stream=stream)
    assert answer.status_code == 404, answer.text
    assert "nine" not in answer.text
    assert house.server.requests == seen, "no model was asked"


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_nor_what_he_may_not_read_in_his_own(house: House, path: str, stream: bool) -> None:
    asked = "What will the winter fare of the ferry be?"
    only, every = {"filter": OF_2025}, {"filter": OF_ANY}
    ann = ask(house, path, says=CLOSED, key=house.members["ann"], asked=asked, stream=stream, retrieval=only)
    assert "twenty" in ann.text
    for wanted in (only, every):
        bob = ask(house, path, says=CLOSED, key=house.members["bob"], asked=asked, stream=stream, retrieval=wanted)
        assert bob.status_code == 200, bob.text
        assert "twenty" not in bob.text
        assert "twenty" not in json.dumps(house.chats(bob.headers["x-request-id"]))


@BOTH
def test_what_the_system_says_and_how_to_search_reach_model_and_index(house: House, path: str) -> None:
    system = {"system": "Be brief."} if path == MESSAGES else {}
    messages = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello."}]
    if path == CHAT:
        messages.insert(0, {"role": "system", "content": "Be brief."})
    messages.append({"role": "user", "content": ASKED})
    wanted = {"filter": {"type": "eq", "key": "year", "value": 2022}, "mode": "lexical", "top_k": 3, "grounding": "off"}
    answer = ask(house, path, messages=messages, retrieval=wanted, temperature=0.25, **system)
    assert answer.status_code == 200, answer.text
    (sent,) = house.chats(answer.headers["x-request-id"]).values()
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "seven" in sent["messages"][1]["content"]
    assert not {"eight", "nine"} & set(sent["messages"][1]["content"].split())
    assert (sent["temperature"], sent["max_tokens"]) == (0.25, 64)


def test_a_search_by_a_wish_that_the_collection_cannot_fulfil_is_the_same_error(house: House) -> None:
    wish = {"filter": {"type": "like", "key": "year", "value": 1}}
    answer = ask(house, retrieval=wish)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "filter_invalid")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {}}]}, "tools"),
        (CHAT, {"n": 2}, "n"),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (CHAT, {"logprobs": True}, "logprobs"),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        (CHAT, {"retrieval": {"top_k": 0}}, "retrieval.top_k"),
        (MESSAGES, {"retrieval": {"colection": "x"}}, "retrieval.colection"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_model_is_asked(
    house: House, path: str, fields: dict[str, Any], param: str
) -> None:
    seen = house.server.requests
    answer = ask(house, path, **fields)
    assert answer.status_code == 400, answer.text
    assert param in answer.json()["error"]["message"]
    assert house.server.requests == seen


def test_routes_that_cannot_answer_from_documents_say_so(house: House) -> None:
    own = {"retrieval": {"collection": "fares"}}
    for path, body in (
        ("/v1/completions", {"model": "words", "prompt": "a"}),
        ("/v1/embeddings", {"model": "words", "input": "a"}),
        ("/v1/responses", {"model": "words", "input": "a"}),
    ):
        answer = house.client.post(path, json={**body, **own})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "retrieval"), path
    assert ask(house, MESSAGES, conversation_id="conv_1").status_code == 400


def test_a_chat_without_a_wish_for_documents_is_forwarded_as_ever(house: House) -> None:
    messages = [{"role": "user", "content": "one two"}]
    answer = house.client.post(CHAT, json={"model": "words", "messages": messages, "retrieval": None})
    assert answer.json()["choices"][0]["message"]["content"] == "one two"
    assert "retrieval" not in house.server.bodies[-1]


def test_what_changes_nothing_is_named(house: House) -> None:
    answer = ask(house, seed=7, unknown=1)
    assert answer.headers["x-stoker-ignored"] == "seed, unknown"
    assert answer.headers["x-stoker-deployment"]


def test_a_key_needs_the_scopes_of_both(house: House) -> None:
    for scopes, status in ((["chat"], 403), (["query"], 403), (["chat", "query"], 200)):
        key = new_key(house.client, scopes=scopes)["key"]
        assert ask(house, key=key).status_code == status, scopes


@BOTH
def test_it_is_billed_and_limited_as_a_chat(house: House, path: str) -> None:
    made = new_key(house.client, limits={"rpm": 1, "burst": 1})
    answer = ask(house, path, key=made["key"])
    assert answer.status_code == 200, answer.text
    (line,) = await_lines(house.gate, 1, key_id=made["id"])
    usage = answer.json()["usage"]
    names = ("prompt_tokens", "completion_tokens") if path == CHAT else ("input_tokens", "output_tokens")
    prompt, completion = (usage[one] for one in names)
    assert (line["route"], line["outcome"]) == (path, "ok")
    assert (line["tokens_in"], line["tokens_out"]) == (prompt, completion)
    assert line["nano_usd"] == 1000 * prompt + 2000 * completion
    refused = ask(house, path, key=made["key"])
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


@BOTH
def test_a_client_that_leaves_stops_the_model_and_pays_for_what_it_made(house: House, path: str) -> None:
    made = new_key(house.client)
    house.says["said"] = "word " * 60
    house.server.pause_s, cancelled = 0.05, house.server.cancelled
    body = {"model": "words", "messages": [{"role": "user", "content": ASKED}], "max_tokens": 60, "stream": True}
    body["retrieval"] = {"collection": "fares", "grounding": "off"}
    headers = {"authorization": f"Bearer {made['key']}", "x-request-id": name()}
    with house.client.stream("POST", path, json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            if '"content":"word' in line or '"text":"word' in line:
                break
    limit_s = time.monotonic() + 10
    while house.server.cancelled == cancelled:
        assert time.monotonic() < limit_s, "the upstream goes on"
        time.sleep(0.02)
    (line_,) = await_lines(house.gate, 1, key_id=made["id"])
    assert 0 < line_["tokens_out"] < 60


def test_a_client_that_leaves_a_whole_answer_stops_the_model_too(house: House) -> None:
    """`/v1/query` in one piece: the model wrote on to the end for nobody, and was paid."""
    made = new_key(house.client)
    house.says["said"] = "word " * 60
    house.server.pause_s, cancelled = 0.2, house.server.cancelled
    body = {"query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64, "model": "words"}
    headers = {"authorization": f"Bearer {made['key']}", "x-request-id": name()}
    with pytest.raises(httpx.ReadTimeout):
        house.client.post("/v1/query", json={**body, "grounding": "off"}, headers=headers, timeout=3)
    until(lambda: house.server.cancelled > cancelled, "the upstream is cut off")
    (line,) = await_lines(house.gate, 1, key_id=made["id"])
    assert (line["outcome"], line["status"]) == ("client_left", 499)
    assert 0 < line["tokens_out"] < 60


@BOTH
def test_without_a_model_the_best_passage_is_quoted(house: House, path: str) -> None:
    house.server.fault = Fault.ERROR_500
    answer = answered(house, path)
    assert answer["degraded"] is True
    assert "no model answered" in answer["degraded_reason"]
    assert "nine" in text_of(answer)
    assert quotes_of(answer)


@pytest.mark.parametrize("stream", [False, True])
def test_question_and_answer_are_kept_in_their_conversation(house: House, stream: bool) -> None:
    ann = house.members["ann"]
    conversation = begin(house, ann)
    orders = [{"role": "system", "content": "Be brief."}]
    for _ in range(2):
        messages = [*orders, {"role": "user", "content": ASKED}]
        answer = ask(house, key=ann, conversation_id=conversation, messages=messages, stream=stream)
        assert answer.status_code == 200, answer.text
        assert conversation in answer.text
    assert talk(house, conversation, ann) == [("user", ASKED), ("assistant", SOURCED)] * 2
    stolen = ask(house, key=house.members["bob"], conversation_id=conversation, stream=stream)
    assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "conversation_not_found")
    asks_only = new_key(house.client, scopes=["chat", "query"])["key"]
    assert ask(house, key=asks_only, conversation_id=begin(house)).status_code == 403


@pytest.mark.parametrize("stream", [False, True])
def test_what_came_to_no_answer_leaves_nothing_in_the_conversation(house: House, stream: bool) -> None:
    conversation = begin(house)
    refused = ask(house, conversation_id=conversation, stream=stream, retrieval={"collection": "nowhere"})
    assert refused.status_code == 404
    assert talk(house, conversation) == []


def test_an_answer_that_cannot_be_kept_is_no_whole_answer(house: House) -> None:
    conversation = begin(house)
    house.says["said"] = SOURCED + " word" * 20
    house.server.pause_s = 0.05
    body = {"model": "words", "messages": [{"role": "user", "content": ASKED}], "max_tokens": 40, "stream": True}
    body |= {"retrieval": {"collection": "fares", "grounding": "off"}, "conversation_id": conversation}
    with house.client.stream("POST", CHAT, json=body, headers={"x-request-id": name()}) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if "winter" in line)
        httpx.delete(
            f"{house.gate.url}/v1/conversations/{conversation}", headers={"authorization": f"Bearer {house.gate.key}"}
        ).raise_for_status()
        rest = "\n".join(lines)
    assert "conversation_not_found" in rest
    assert "[DONE]" not in rest
    assert '"finish_reason":"stop"' not in rest
