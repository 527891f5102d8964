"""Messages as items and back: what a conversation keeps of a chat is what was said in it."""

from typing import Any

import orjson
import pytest

from api.answers.deltas import StreamBroken
from api.chat.items import answer_items, items_of, message_of_body, message_of_frames
from api.errors import RequestInvalid
from api.responses.messages import messages as chat_of

CALL = {"id": "call_1", "type": "function", "function": {"name": "fare", "arguments": '{"season": "winter"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the fare?"},
    {"role": "assistant", "content": "I look it up.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "nine"},
    {"role": "assistant", "content": "Nine crowns."},
    {"role": "user", "content": [{"type": "text", "text": "And this?"}, IMAGE]},
]


def test_what_was_said_comes_back_as_it_was_and_what_the_system_said_is_not_kept() -> None:
    orders = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}]
    assert chat_of(None, items_of([*orders, *CHAT])) == CHAT


def test_a_picture_given_as_an_address_alone_is_kept() -> None:
    (item,) = items_of([{"role": "user", "content": [{"type": "image_url", "image_url": "https://example.com/a.png"}]}])
    assert item["content"][0]["image_url"] == "https://example.com/a.png"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Hello.", "messages[0]"),
        ({"role": "narrator", "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": "x" * 300_000}, "messages[0]"),
        ({"role": "tool", "content": "9"}, "messages[0].call_id"),
        ({"role": "tool", "tool_call_id": "call_1", "content": None}, "messages[0].output"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "content": None, "tool_calls": "c"}, "messages[0].tool_calls"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_place(message: Any, param: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        items_of([message])
    assert str(refused.value.param).startswith(param)


def stream(*deltas: dict[str, Any]) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks += [{"choices": [], "usage": {"prompt_tokens": 1}}]
    frames = [b"data: " + orjson.dumps(one) + b"\n\n" for one in chunks]
    return b"".join([b": a comment\n\n", *frames, b"data: [DONE]\n\n"])


def test_a_stream_says_what_the_same_answer_in_one_piece_says() -> None:
    whole = {"role": "assistant", "content": "I look it up.", "refusal": "", "tool_calls": [CALL]}
    body = orjson.dumps({"choices": [{"index": 0, "message": whole}]})
    frames = stream(
        {"role": "assistant", "content": ""},
        {"content": "I look"},
        {"content": " it up."},
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "fare"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"season": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"winter"}'}}]},
    )
    streamed, at_once = answer_items(message_of_frames(frames)), answer_items(message_of_body(body))
    assert chat_of(None, streamed) == chat_of(None, at_once) == [CHAT[1]]


def test_a_refusal_is_kept_and_an_answer_without_a_word_too() -> None:
    (refused,) = answer_items(message_of_frames(stream({"refusal": "I may"}, {"refusal": " not."})))
    assert refused["content"] == [{"type": "refusal", "refusal": "I may not."}]
    (empty,) = answer_items(message_of_body(b'{"choices": [{"message": {"role": "assistant", "content": null}}]}'))
    assert (empty["role"], empty["content"][0]["text"]) == ("assistant", "")


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}'])
def test_an_answer_that_is_no_chats_is_not_kept(body: bytes) -> None:
    with pytest.raises(StreamBroken):
        message_of_body(body)


@pytest.mark.parametrize("data", [b"<html>", b"7", b'{"choices": [7]}'])
def test_a_stream_that_is_no_chats_is_not_kept(data: bytes) -> None:
    with pytest.raises(StreamBroken):
        message_of_frames(b"data: " + data + b"\n\n")
