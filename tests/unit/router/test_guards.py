"""What guards make of requests and of answers, however the frames of a stream cut a text."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.answer import Answer
from router.call import Call
from router.errors import GuardRefused
from router.events import data_of, frame
from router.guards import Guard, Guarded, load
from tests.support.guards import Alias, Breaks, Forbids, Hoards
from tests.unit.router.test_trail import call

ALIAS = Alias("Ada Byron", "person 1")


class Streamed:
    """An answer that consists of these frames."""

    def __init__(self, *frames: bytes, body: bytes = b"") -> None:
        self.body = body
        self.frames: AsyncIterator[bytes] | None = self._given(frames) if frames else None

    async def _given(self, frames: Sequence[bytes]) -> AsyncIterator[bytes]:
        for each in frames:
            yield each

    def cut(self, error: Exception, code: str) -> bytes:
        return frame(orjson.dumps({"error": {"message": str(error), "code": code}}))


async def through(guards: Sequence[Guard], answer: Streamed, asked: Call | None = None) -> tuple[Call, list[Any]]:
    """What the model was asked, and what the caller hears: frames, or the one body."""
    seen: list[Call] = []

    async def open_(one: Call) -> Answer:
        seen.append(one)
        return cast(Answer, answer)

    heard = await Guarded(guards, deadline_s=0.2).open(asked or call("a"), open_)
    if heard.frames is None:
        return seen[0], [orjson.loads(heard.body)]
    told = b"".join([piece async for piece in heard.frames])
    return seen[0], [orjson.loads(data_of(one)) for one in told.split(b"\n\n") if data_of(one) not in (b"", b"[DONE]")]


def chunk(index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": {"content": ["Ada"]}}
    return frame(orjson.dumps({"id": "c1", "object": "chat.completion.chunk", "choices": [choice]}))


def told(frames: Sequence[Any]) -> dict[Any, str]:
    """The texts of a stream by choice and field, in the order in which they came; none after a choice's end."""
    texts: dict[Any, str] = defaultdict(str)
    over = set()
    for event in frames:
        for choice in event["choices"]:
            assert choice["index"] not in over
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                texts[choice["index"], name] += delta.get(name, "")
            for tool in delta.get("tool_calls", ()):
                texts[choice["index"], "tool", tool["index"]] += tool["function"].get("arguments", "")
            if choice["finish_reason"] is not None:
                over.add(choice["index"])
            assert "logprobs" not in choice
    return {key: text for key, text in texts.items() if text}


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], dict[Any, str]]:
    """Frames of one or two choices that take turns, cut anywhere, and what each text is without guards."""
    texts: dict[Any, str] = {}
    waiting: list[list[bytes]] = []
    for index in range(draw(st.integers(1, 2))):
        frames = [chunk(index, {"role": "assistant", "content": ""})]
        for field in draw(st.permutations(["content", "reasoning_content", "tool"])):
            parts = draw(
                st.lists(st.sampled_from(["person", " 1", "person 1", "per", "son ", "1", "é", " "]), max_size=6)
            )
            key = (index, "tool", 0) if field == "tool" else (index, field)
            if parts:
                texts[key] = "".join(parts)
            for part in parts:
                delta = (
                    {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
                    if field == "tool"
                    else {field: part}
                )
                frames.append(chunk(index, delta))
        last = draw(st.sampled_from(["", "person 1", "person"]))
        if last:
            texts[index, "content"] = texts.get((index, "content"), "") + last
        frames.append(chunk(index, {"content": last} if last else {}, "stop"))
        waiting.append(frames)
    mixed = []
    while any(waiting):
        mixed.append(draw(st.sampled_from([one for one in waiting if one])).pop(0))
    together = draw(st.integers(1, 3))
    pieces = [b"".join(mixed[at : at + together]) for at in range(0, len(mixed), together)]
    return [*pieces, b": comment\n\n", b"data: [DONE]\n\n"], texts


@given(streams())
async def test_texts_are_whole_and_in_order_however_they_are_cut(made: tuple[list[bytes], dict[Any, str]]) -> None:
    frames, texts = made
    for guards in ([ALIAS], [Hoards()], [Hoards(), ALIAS]):
        _, heard = await through(guards, Streamed(*frames))
        wanted = {
            key: text.replace("person 1", "Ada Byron") if ALIAS in guards else text for key, text in texts.items()
        }
        assert told(heard) == wanted


async def test_anthropics_blocks_are_heard_too() -> None:
    events = [
        {"type": "message_start", "message": {"role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ask per"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "son 1, person"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "[1]"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    frames = [f"event: {one['type']}\n".encode() + frame(orjson.dumps(one)) for one in events]
    _, heard = await through([ALIAS], Streamed(*frames))
    assert "".join(one["delta"].get("text", "") for one in heard if "delta" in one) == "Ask Ada Byron, person"
    kinds = [one["type"] for one in heard]
    assert kinds.index("content_block_stop") > max(at for at, one in enumerate(heard) if one.get("index") == 0) - 1
    assert [one for one in kinds if one != "content_block_delta"] == [
        one["type"] for one in events if one["type"] != "content_block_delta"
    ]
    body = {
        "content": [
            {"type": "text", "text": "person 1"},
            {"type": "tool_use", "input": {"to": ["x", {"a": "person 1"}]}},
        ]
    }
    _, [whole] = await through([ALIAS], Streamed(body=orjson.dumps(body)))
    assert b"person" not in orjson.dumps(whole)


async def test_every_text_of_a_request_is_looked_at_and_nothing_else() -> None:
    asked, made = call("x"), '{"a": "Ada Byron"}'
    asked.body.update({
        "messages": [
            {"role": "system", "content": "Ada Byron"},
            {"role": "user", "content": [{"type": "text", "text": "Ada Byron"}, {"image_url": {"url": "Ada Byron"}}]},
            {"role": "assistant", "tool_calls": [{"id": "Ada Byron", "function": {"name": "f", "arguments": made}}]},
            {"role": "tool", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "Ada Byron"}]}]},
            {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"who": "Ada Byron"}}]},
        ],
        "system": [{"type": "text", "text": "Ada Byron"}],
        "model": "Ada Byron",
        "temperature": 0.5,
    })  # fmt: skip
    before = orjson.dumps(asked.body)
    seen, _ = await through([ALIAS], Streamed(body=b"{}"), asked)
    assert orjson.dumps(asked.body) == before
    assert orjson.dumps(seen.body).count(b"person 1") == 6
    assert orjson.dumps(seen.body).count(b"Ada Byron") == 3  # model, address, id
    assert seen.body["temperature"] == 0.5


@pytest.mark.parametrize("body", [{"prompt": [1, 2]}, {"prompt": [[1], [2]]}, {"input": [[7]]}])
async def test_tokens_go_nowhere(body: dict[str, Any]) -> None:
    asked = call("a")
    asked.body.update(body)
    with pytest.raises(GuardRefused, match="as text"):
        await through([ALIAS], Streamed(body=b"{}"), asked)


async def test_a_stream_ends_where_a_guard_refuses_or_breaks() -> None:
    frames = [chunk(0, {"content": text}) for text in ("one ", "two ", "three ")]
    _, heard = await through([Forbids("two")], Streamed(*frames))
    assert told(heard[:1]) == {(0, "content"): "one "}
    assert heard[1:] == [{"error": {"message": "'two' is not spoken of here.", "code": "guard_refused"}}]
    for guard in (Breaks("said"), Breaks("said", hangs=True)):
        _, heard = await through([guard], Streamed(*frames))
        assert [one["error"]["code"] for one in heard] == ["guard_failed"]


@pytest.mark.parametrize(
    ("where", "options", "says"),
    [
        ("no.such:Thing", {}, "no.such:Thing can't be made: No module named 'no'"),
        ("tests.support.guards:Nobody", {}, "has no attribute 'Nobody'"),
        ("tests.support.guards:Alias", {"name": "a"}, "missing 1 required"),
        ("types:SimpleNamespace", {}, "is no guard: it lacks `asked` or `listener`"),
    ],
)
def test_what_is_no_guard_is_told_of(where: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load(where, options)
