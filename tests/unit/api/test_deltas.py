"""Reading text out of a stream of events."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers.deltas import StreamBroken, texts

STREAM = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"caf\xc3\xa9 "}}]}\n\n'
    b": a comment\n\n"
    b'data: {"choices":[{"delta":{"content":"au lait"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
    b"data: [DONE]\n\n"
)


async def pieces(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        yield data[at:cut]
        at = cut


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=12))
async def test_the_text_is_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    assert "".join([text async for text in texts(pieces(STREAM, cuts))]) == "café au lait"


async def test_a_stream_that_just_stops_is_broken() -> None:
    with pytest.raises(StreamBroken, match="before the answer did"):
        [text async for text in texts(pieces(STREAM.replace(b"data: [DONE]\n\n", b""), []))]


async def test_an_error_event_is_an_error() -> None:
    with pytest.raises(StreamBroken, match="the engine died"):
        [text async for text in texts(pieces(b'data: {"error":{"message":"the engine died"}}\n\n', []))]


@pytest.mark.parametrize(
    "data", [b"{", b"5", b"null", b'{"choices":[5]}', b'{"choices":[{"delta":7}]}', b'{"error":"x"}']
)
async def test_an_event_of_another_kind_breaks_the_stream_and_nothing_else(data: bytes) -> None:
    with pytest.raises(StreamBroken, match="no chunk of a chat"):
        [text async for text in texts(pieces(b"data: " + data + b"\n\ndata: [DONE]\n\n", []))]


async def test_an_event_without_text_has_none() -> None:
    events = b'data: {"choices":null}\n\ndata: {"choices":[{"delta":{"content":[1]}}]}\n\ndata: [DONE]\n\n'
    assert [text async for text in texts(pieces(events, []))] == []


async def test_a_sign_whose_halves_come_in_two_chunks_is_whole_again() -> None:
    halves = [r"a\ud83d", r"\ude00b\uD83d", "", r"\uDE00", r"\ud83d", "c", r"\ude00"]
    events = "".join(f'data: {{"choices":[{{"index":0,"delta":{{"content":"{half}"}}}}]}}\n\n' for half in halves)
    stream = f"{events}data: [DONE]\n\n".encode()
    assert [text async for text in texts(pieces(stream, []))] == ["a", "😀b", "😀", "\ufffdc", "\ufffd"]


@pytest.mark.parametrize(
    "data", [rb'{"choices":[{"delta":{"content":"\ud83d"', rb'["\ud83d"]', rb'{"choices":["\ud83d"]}']
)
async def test_half_a_sign_makes_no_chunk_of_what_is_none(data: bytes) -> None:
    with pytest.raises(StreamBroken, match="no chunk of a chat"):
        [text async for text in texts(pieces(b"data: " + data + b"\n\ndata: [DONE]\n\n", []))]
