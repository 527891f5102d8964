"""Chunks of a chat as OpenAI's events of a response."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers.deltas import StreamBroken, chunks
from api.responses.request import read
from api.responses.shape import begun, usage_of
from api.responses.writing import Event, Writer
from core.usage import Usage

USAGE = usage_of(Usage(5, 7, 3), 2)


def writer() -> Writer:
    asked, _ = read({"model": "m", "input": "Hello."})
    return Writer(begun(asked, "resp_1", "m", 1_000_000))


def says(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason, **more}]}


def call(at: int, arguments: str, name: str = "", call_id: str = "") -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return says({"tool_calls": [{"index": at, "function": function, **({"id": call_id} if call_id else {})}]})


def written(said: Sequence[dict[str, Any]]) -> list[Event]:
    """All events of an answer."""
    one = writer()
    events = one.begin()
    for chunk in said:
        events += one.add(chunk)
    return [*events, *one.close(), one.end(USAGE, 1_000_001)]


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


WORDS = [says({"role": "assistant", "content": ""}), says({"content": "Hello"}), says({"content": " there."})]
TEXT = ["output_item.added", "content_part.added", "output_text.delta", "output_text.delta"]
TEXT_DONE = ["output_text.done", "content_part.done", "output_item.done"]


def test_a_text_is_told_in_openais_order() -> None:
    events = written([*WORDS, says(reason="stop")])
    assert kinds(events) == ["created", "in_progress", *TEXT, *TEXT_DONE, "completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    assert events[2]["item"]["content"] == []
    assert events[2]["item"]["status"] == "in_progress"
    assert [event["delta"] for event in events if event["type"].endswith("text.delta")] == ["Hello", " there."]
    final = events[-1]["response"]
    (message,) = final["output"]
    assert message == events[-2]["item"]
    assert message["content"] == [{"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}]
    assert (final["status"], final["completed_at"], final["usage"]) == ("completed", 1_000_001, USAGE)
    assert {event["item_id"] for event in events if "item_id" in event} == {message["id"]}


@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_what_a_limit_has_cut_is_incomplete(reason: str, why: str) -> None:
    events = written([*WORDS, says(reason=reason)])
    assert kinds(events)[-2:] == ["output_item.done", "incomplete"]
    final = events[-1]["response"]
    assert (final["status"], final["incomplete_details"], final["completed_at"]) == (
        "incomplete",
        {"reason": why},
        None,
    )
    assert final["output"][0]["status"] == "incomplete"


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    events = written([says({"role": "assistant", "content": ""}), says(reason="stop")])
    assert kinds(events)[2:] == ["output_item.added", "content_part.added", *TEXT_DONE, "completed"]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_a_call_of_a_function_is_an_item_with_its_arguments() -> None:
    events = written([call(0, "", "find", "call_7"), call(0, '{"a"'), call(0, ":1}"), says(reason="tool_calls")])
    deltas = ["function_call_arguments.delta"] * 2
    assert kinds(events)[2:-1] == [
        "output_item.added",
        *deltas,
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert (events[2]["item"]["name"], events[2]["item"]["arguments"]) == ("find", "")
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["arguments"]) == ("function_call", "call_7", '{"a":1}')
    assert (item["status"], events[-1]["response"]["status"]) == ("completed", "completed")
    assert events[-3]["name"] == "find"


def test_calls_that_are_written_in_turns_keep_their_own_arguments() -> None:
    said = [call(0, "{", "one", "a"), call(1, "[", "two", "b"), call(0, "}"), call(1, "]"), says(reason="tool_calls")]
    first, second = written(said)[-1]["response"]["output"]
    assert (first["name"], first["arguments"], second["name"], second["arguments"]) == ("one", "{}", "two", "[]")


def test_reasoning_text_and_calls_are_items_in_their_order() -> None:
    said = [
        says({"reasoning_content": "Hm"}),
        says({"reasoning": "m."}),
        *WORDS,
        call(0, "{}", "f", "c"),
        says(reason="tool_calls"),
    ]
    events = written(said)
    thought, message, called = events[-1]["response"]["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hmm."}]
    assert thought["summary"] == []
    assert message["content"][0]["text"] == "Hello there."
    assert called["name"] == "f"
    assert kinds(events)[2:9] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert [event["output_index"] for event in events if event["type"].endswith("item.done")] == [0, 1, 2]


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = written([says({"content": "Well."}), says({"refusal": "No."}), says(reason="stop")])
    (message,) = events[-1]["response"]["output"]
    assert message["content"] == [
        {"type": "output_text", "text": "Well.", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "No."},
    ]
    assert [event["content_index"] for event in events if event["type"] == "response.content_part.added"] == [0, 1]


def test_an_annotation_belongs_to_the_text_that_is_being_said() -> None:
    one = writer()
    assert one.annotate({"type": "file_citation"}) == []
    for chunk in WORDS:
        one.add(chunk)
    (event,) = one.annotate({"type": "file_citation", "index": 5})
    assert (event["annotation_index"], event["output_index"], event["content_index"]) == (0, 0, 0)
    one.close()
    (message,) = one.end(USAGE, 1)["response"]["output"]
    assert message["content"][0]["annotations"] == [{"type": "file_citation", "index": 5}]


def test_a_search_comes_before_the_message() -> None:
    one = writer()
    found = {"id": "fs_1", "type": "file_search_call", "queries": ["q"], "status": "completed", "results": []}
    assert kinds(one.searched(found)) == [
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
    ]
    one.add(WORDS[1])
    one.close()
    assert [item["type"] for item in one.end(USAGE, 1)["response"]["output"]] == ["file_search_call", "message"]


def test_what_breaks_is_an_error_and_a_failed_response_with_what_was_said() -> None:
    one = writer()
    for chunk in [*WORDS, call(0, '{"a', "f", "c")]:
        one.add(chunk)
    error, failed = one.fail("upstream_failed", "it broke", USAGE)
    assert (error["type"], error["code"], error["message"]) == ("error", "upstream_failed", "it broke")
    response = failed["response"]
    assert (response["status"], response["error"]) == ("failed", {"code": "server_error", "message": "it broke"})
    message, called = response["output"]
    assert (message["status"], message["content"][0]["text"]) == ("completed", "Hello there.")
    assert (called["status"], called["arguments"]) == ("incomplete", '{"a')


def test_logprobs_go_with_their_text() -> None:
    token = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}
    events = written([says({"content": "Hi"}, logprobs={"content": [token]}), says(reason="stop")])
    delta = next(event for event in events if event["type"] == "response.output_text.delta")
    assert delta["logprobs"] == [token]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [token]


def test_tokens_of_reasoning_are_the_upstreams_own_figure_where_it_tells_one() -> None:
    one = writer()
    one.add(says({"reasoning": "Hm."}))
    assert one.reasoning_tokens == 1
    one.add({"choices": [], "usage": {"completion_tokens_details": {"reasoning_tokens": 42}}})
    assert one.reasoning_tokens == 42


@pytest.mark.parametrize(
    "chunk", [{"choices": [5]}, {"choices": [{"delta": 7}]}, {"choices": [{"delta": {"tool_calls": [1]}}]}]
)
def test_what_is_no_chunk_breaks_the_stream_and_nothing_else(chunk: dict[str, Any]) -> None:
    with pytest.raises(StreamBroken, match="no chunk of a chat"):
        writer().add(chunk)


STREAM = (
    b"".join(
        b"data: " + orjson.dumps(chunk) + b"\n\n"
        for chunk in [
            says({"role": "assistant", "content": ""}),
            says({"reasoning": "Hmm, caf\u00e9."}),
            says({"content": "au "}),
            says({"content": "lait \U0001f98a"}),
            call(0, '{"a', "find", "call_1"),
            call(0, '":"\u00e9"}'),
            says(reason="tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
        ]
    )
    + b": a comment\n\ndata: [DONE]\n\n"
)


async def pieces(data: bytes, cuts: Sequence[int]) -> AsyncIterator[bytes]:
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        yield data[at:cut]
        at = cut


async def told(data: bytes, cuts: Sequence[int]) -> list[Event]:
    """The events, with their ids counted, since each writer makes new ones."""
    said = [chunk async for chunk in chunks(pieces(data, cuts))]
    raw = orjson.dumps(written(said)).decode()
    ids: dict[str, str] = {}
    for event in orjson.loads(raw):
        if "item" in event:
            ids.setdefault(event["item"]["id"], f"item_{len(ids)}")
    for old, new in ids.items():
        raw = raw.replace(old, new)
    found: list[Event] = orjson.loads(raw)
    return found


async def test_every_single_cut_gives_the_same_events() -> None:
    whole = await told(STREAM, [])
    for cut in range(len(STREAM)):
        assert await told(STREAM, [cut]) == whole


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=12), st.booleans())
async def test_the_events_are_the_same_however_the_bytes_are_cut(cuts: list[int], wide: bool) -> None:
    data = STREAM.replace(b"\n\n", b"\r\n\r\n") if wide else STREAM
    assert await told(data, cuts) == await told(STREAM, [])
