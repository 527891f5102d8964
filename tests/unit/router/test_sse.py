"""The scanner sees the same stream however its bytes are cut."""

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.usage import Usage
from router.sse import MessagesScanner, SseScanner, StreamMalformed

_TEXT = st.text(max_size=20) | st.sampled_from(
    ['"usage"', '"finish_reason":"stop"', "[DONE]", "data: x\n\ndata: y", "é😀"]
)


def _chunk(delta: dict[str, object], reason: str | None = None, **more: object) -> dict[str, object]:
    return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def _event(chunk: dict[str, object], newline: bytes = b"\n") -> bytes:
    return b"data: " + orjson.dumps(chunk) + newline * 2


@st.composite
def _streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Frames that pass, and the usage frame that may not."""
    newline = draw(st.sampled_from([b"\n", b"\r\n"]))
    words = draw(st.lists(_TEXT.filter(bool), min_size=1, max_size=8))
    frames = [_event(_chunk({"role": "assistant", "content": ""}), newline)]
    frames += [_event(_chunk({"content": word}), newline) for word in words]
    if draw(st.booleans()):
        frames.insert(1, b": a comment" + newline * 2)
    frames.append(_event(_chunk({}, "length"), newline))
    usage = _event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": len(words)}}, newline)
    return frames, usage


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


@given(_streams(), st.lists(st.integers(0, 100_000), max_size=40), st.booleans())
def test_any_cutting_gives_the_same_frames_and_usage(
    stream: tuple[list[bytes], bytes], cuts: list[int], keep: bool
) -> None:
    frames, usage = stream
    done = b"data: [DONE]\n\n"
    scanner = SseScanner(keep_usage_chunk=keep)
    out = [scanner.feed(piece) for piece in _cut(b"".join([*frames, usage, done]), cuts)]
    assert b"".join(out) == b"".join([*frames, *([usage] if keep else []), done])
    assert scanner.usage == Usage(3, sum(b'"content"' in frame for frame in frames) - 1)
    assert (scanner.finish_reason, scanner.done, scanner.pending, scanner.model) == ("length", True, 0, "m")


@given(_streams())
def test_byte_by_byte_every_piece_that_comes_out_is_whole_frames(stream: tuple[list[bytes], bytes]) -> None:
    frames, _ = stream
    scanner = SseScanner(keep_usage_chunk=False)
    out = [piece for byte in b"".join(frames) if (piece := scanner.feed(bytes([byte])))]
    assert out == frames


def test_a_role_alone_is_no_first_token() -> None:
    scanner = SseScanner(keep_usage_chunk=False)
    scanner.feed(_event(_chunk({"role": "assistant", "content": ""})))
    assert not scanner.started
    scanner.feed(_event(_chunk({"content": "a"})))
    assert scanner.started


def test_an_error_event_is_taken_out_and_nothing_passes_after_it() -> None:
    scanner = SseScanner(keep_usage_chunk=False)
    good = _event(_chunk({"content": "a"}))
    passed = scanner.feed(good + b'data: {"error":{"message":"boom"}}\n\n' + good)
    assert passed == good
    assert scanner.error == {"message": "boom"}


def test_usage_in_the_last_content_chunk_is_read_and_the_chunk_is_kept() -> None:
    scanner = SseScanner(keep_usage_chunk=False)
    last = _event(_chunk({}, "stop", usage={"prompt_tokens": 1, "completion_tokens": 2}))
    assert scanner.feed(last) == last
    assert scanner.usage == Usage(1, 2)


@pytest.mark.parametrize("data", [b"data: {nope\n\n", b"data: [1]\n\n", b'data: {"choices":[1]}\n\n'])
def test_nonsense_before_the_first_token_is_malformed(data: bytes) -> None:
    scanner = SseScanner(keep_usage_chunk=False)
    assert scanner.feed(data) == b""
    assert isinstance(scanner.malformed, StreamMalformed)


def test_a_torn_frame_in_the_middle_is_malformed_and_what_came_before_passes() -> None:
    scanner, good = SseScanner(keep_usage_chunk=False), _event(_chunk({"content": "a{"}))
    torn = good[: good.rindex(b"}]")] + b"\n\n"
    assert b'"finish_reason":null' in torn
    assert scanner.feed(good * 3 + torn + good) == good * 3
    assert isinstance(scanner.malformed, StreamMalformed)


def test_a_broken_stream_of_anthropics_form_ends_in_an_event_that_its_sdks_raise() -> None:
    name, data = MessagesScanner().broken("it broke", "upstream_error", "stream_broken").decode().strip().split("\n")
    assert name == "event: error"
    assert orjson.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {"type": "api_error", "message": "it broke", "details": {"error_code": "stream_broken"}},
    }
