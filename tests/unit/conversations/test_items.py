"""Items as they are taken and kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conversations.items import MAX_ITEM_BYTES, read_item, read_items, shown, text_of
from api.conversations.metadata import read_metadata
from api.errors import RequestInvalid

TEXT = {"type": "input_text", "text": "Hello."}


def kept(raw: object) -> dict[str, Any]:
    item = read_item(raw, "input[0]")
    assert item.pop("id")
    return item


@pytest.mark.parametrize("raw", [{"role": "user", "content": "Hello."}, {"role": "user", "content": [TEXT]}])
def test_an_easy_message_is_kept_as_a_whole_one(raw: dict[str, Any]) -> None:
    for given_ in (raw, {**raw, "type": "message"}, {**raw, "id": "msg_theirs", "status": "completed"}):
        assert kept(given_) == {"type": "message", "role": "user", "status": "completed", "content": [TEXT]}


def test_what_a_model_said_is_output_whatever_it_is_sent_as() -> None:
    said = {"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}
    for content in ("Hi.", [{"type": "output_text", "text": "Hi."}], [{"type": "input_text", "text": "Hi."}]):
        assert kept({"role": "assistant", "content": content})["content"] == [said]


def test_a_call_what_it_gave_and_reasoning_are_kept() -> None:
    call = kept({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc_theirs"})
    assert (call["call_id"], call["name"], call["arguments"], call["status"]) == ("c1", "f", "{}", "completed")
    assert kept({"type": "function_call_output", "call_id": "c1", "output": "7"})["output"] == "7"
    assert kept({"type": "function_call_output", "call_id": "c1", "output": [TEXT]})["output"] == [TEXT]
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}]}
    assert kept(thought)["summary"] == thought["summary"]


def test_every_item_gets_an_id_of_its_own() -> None:
    same = {"id": "msg_1", "role": "user", "content": "Hello."}
    assert len({item["id"] for item in read_items([same] * 20, "items", 20)}) == 20


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("Hello.", "must be an object"),
        ({}, "type must be one of"),
        ({"type": "computer_call"}, "type must be one of"),
        ({"type": ["message"]}, "type must be one of"),
        ({"id": "msg_1"}, "send the item itself"),
        ({"type": "item_reference", "id": "msg_1"}, "send the item itself"),
        ({"role": "robot", "content": "x"}, "role must be one of"),
        ({"role": "user", "content": []}, "content must be a text or a list of parts"),
        ({"role": "user", "content": 5}, "content must be a text or a list of parts"),
        ({"role": "user", "content": ["x"]}, "must be an object such as"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "text must be a text"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}, "file_search"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}, "address or a data URL"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "send input_text or input_image"),
        ({"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}, "is not taken"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "call_id must be a text"),
        ({"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}, "1 to 200 characters"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, "arguments must be a text"),
        ({"type": "function_call_output", "call_id": "c", "output": 7}, "output must be a text"),
        ({"type": "file_search_call", "queries": "q"}, "queries must be a list"),
        ({"type": "reasoning", "summary": ["x"]}, "summary must be a list"),
        ({"role": "user", "content": "\ud800"}, "no text in UTF-8"),
        ({"role": "user", "content": "x" * MAX_ITEM_BYTES}, "send it in parts"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_what_would_do(raw: object, says: str) -> None:
    with pytest.raises(RequestInvalid, match=says) as caught:
        read_items([raw], "items")
    assert str(caught.value.param).startswith("items[0]")


def test_no_more_items_than_a_request_takes() -> None:
    with pytest.raises(RequestInvalid, match="at most 20"):
        read_items([{"role": "user", "content": "x"}] * 21, "items", 20)
    with pytest.raises(RequestInvalid, match="must be a list"):
        read_items({"role": "user"}, "items")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(["type", "role", "content", "call_id", "name", "arguments", "output", "summary", "text"])
KINDS = st.sampled_from(["message", "function_call", "function_call_output", "file_search_call", "reasoning", "user"])


@given(st.dictionaries(NAMES, JSON | KINDS, max_size=8))
def test_anything_else_is_refused_and_never_an_error_of_ours(raw: dict[str, Any]) -> None:
    try:
        item = read_item(raw, "input[0]")
    except RequestInvalid:
        return
    again = read_item(item, "input[0]")
    assert {**again, "id": ""} == {**item, "id": ""}, "what is kept is taken again as it is"


def test_the_text_of_a_message_is_that_of_its_parts() -> None:
    parts = [TEXT, {"type": "input_image", "image_url": "data:x"}, {**TEXT, "text": "And?"}]
    assert text_of(read_item({"role": "user", "content": parts}, "")) == "Hello.\nAnd?"


def test_what_a_search_found_is_shown_to_those_who_ask() -> None:
    found = read_item({"type": "file_search_call", "queries": ["q"], "results": [{"text": "t"}]}, "")
    assert shown(found)["results"] is None
    assert shown(found, ["file_search_call.results"])["results"] == [{"text": "t"}]


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {str(at): "x" for at in range(17)},
        {"x" * 65: "y"},
        {"": "y"},
        {"x": "y" * 513},
        {"x": 1},
        {"x": "\0"},
        {"\ud800": "y"},
    ],
    ids=range(8),
)
def test_metadata_is_16_short_texts_by_name(raw: object) -> None:
    with pytest.raises(RequestInvalid):
        read_metadata(raw)
    assert read_metadata(None) == {}
    assert len(read_metadata({str(at): "x" * 512 for at in range(16)})) == 16
