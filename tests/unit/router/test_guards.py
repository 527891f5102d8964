"""What guards make of requests and of answers, however the frames of a stream cut a text."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.answer import Answer
from router.call import Call
from router.errors import GuardFailed, GuardRefused
from router.events import data_of, frame, loads
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
    guarded = Guarded(guards, deadline_s=0.2)
    seen = await guarded.asked(asked or call("a"))
    heard = await guarded.hear(seen, cast(Answer, answer))
    if heard.frames is None:
        return seen, [orjson.loads(heard.body)]
    told = b"".join([piece async for piece in heard.frames])
    return seen, [loads(data_of(one)) for one in told.split(b"\n\n") if data_of(one) not in (b"", b"[DONE]")]


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
        last = draw(st.sampled_from(["", "person 1", "person", "a person"]))
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


WORD = Alias("Ada_Byron", "person_1")  # as an id may look


def named(at: str) -> str:
    return f"Ada_Byron/{at}"


def left(body: Any) -> list[str]:
    """Where the name still stands, as `named` says."""
    return re.findall(r"Ada_Byron/([\w.]*)", orjson.dumps(body).decode())


async def test_every_text_of_a_request_is_looked_at_but_at_formal_places() -> None:
    asked, picture = call("x"), "data:image/png;base64,Ada_Byron/picture"
    said = {name: named("no") for name in ("content", "name", "reasoning_content", "reasoning", "refusal")}
    tool = {"type": "tool_use", "id": named("use"), "name": named("tool")}
    field = {name: named("no") for name in ("name", "id", "role", "data", "model")}
    field |= {"type": "base64", "data": named("no"), "url": f"data:a;base64,{named('no')}"}
    source = {"type": "text", "media_type": "text/plain", "data": named("no")}
    asked.body.update({
        "model": named("model"),
        "messages": [
            {"role": "system", "content": named("no")},
            {"role": "assistant", **said},
            {"role": "user", "content": [
                {"type": "text", "text": named("no")},
                {"type": "image_url", "image_url": {"url": picture}},
                {"type": "image_url", "image_url": {"url": f"https://pictures.example/{named('no')}.png"}},
                {"type": "file", "file": {"file_data": picture, "file_id": named("file"), "filename": named("no")}},
                {"type": "file", "file": {"file_data": f"data:text/plain,{named('no')}"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": named("image")}},
                {"type": "document", "source": {"type": "base64", "media_type": "text/plain", "data": named("no")}},
                {"type": "image_url", "image_url": [named("no")]},
                {"type": "image_url", "image_url": {"url": f"data:text/plain;base64,{named('no')}"}},
                {"type": "document", "source": source, "title": named("no"), "context": named("no")},
            ]},
            {"role": "assistant", "tool_calls": [
                {"id": named("id"), "type": "function", "function": {"name": named("f"), "arguments": named("no")}}
            ]},
            {"role": f"a role of many words, {named('no')}", "tool_call_id": f"{named('no')} too", "content": "x"},
            {"role": "tool", "content": [{"type": "tool_result", "content": [{"type": "text", "text": named("no")}]}]},
            {"role": "assistant", "content": [
                {**tool, "input": {**field, named("no"): [named("no"), {"to": [named("no")]}]}}
            ]},
        ],
        "system": [{"type": "text", "text": named("no")}],
        "tools": [{"type": "function", "function": {"name": named("f"), "description": named("no"), "parameters": {
            "type": "object", "properties": {named("no"): {"type": "string"}}
        }}}],
        "user": named("no"),
        "metadata": {named("no"): named("no")},
        "stop": [named("no")],
        "structured_outputs": {"choice": [named("no")]},
        "documents": [{"text": named("no")}, named("no")],
        "prediction": {"type": "content", "content": named("no")},
        "temperature": 0.5,
    })  # fmt: skip
    before = orjson.dumps(asked.body)
    seen, _ = await through([WORD], Streamed(body=b"{}"), asked)
    assert orjson.dumps(asked.body) == before
    assert sorted(left(seen.body)) == sorted(
        ["model", "picture", "picture", "file", "image", "id", "f", "f", "use", "tool"]
    )
    assert orjson.dumps(seen.body).count(b"person_1/no") == before.count(b"Ada_Byron/no")
    assert seen.body["temperature"] == 0.5


async def test_every_text_of_an_answer_is_heard_but_at_formal_places() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "audio": {"id": "person_1", "transcript": "person_1", "data": "person_1"},
        "annotations": [{"type": "url_citation", "url_citation": {"title": "person_1", "url": "person_1"}}],
    }
    body = {"id": "person_1", "choices": [{"index": 0, "message": message}], "citations": ["person_1"]}
    _, [whole] = await through([WORD], Streamed(body=orjson.dumps(body)))
    assert orjson.dumps(whole).count(b"person_1") == 3  # ids, and sound
    assert whole["citations"] == ["Ada_Byron"]
    assert whole["choices"][0]["message"]["audio"]["transcript"] == "Ada_Byron"
    given = frame(orjson.dumps({"choices": [{"index": 0, "delta": {"annotations": message["annotations"]}}]}))
    _, [heard, _] = await through([Hoards(), WORD], Streamed(given, chunk(0, {}, "stop")))
    assert b"person_1" not in orjson.dumps(heard)
    reranked = replace(call("x"), kind="rerank", stream=False)
    found = {"results": [{"index": 0, "document": {"text": "person_1"}}]}
    _, [whole] = await through([WORD], Streamed(body=orjson.dumps(found)), reranked)
    assert whole["results"][0]["document"]["text"] == "Ada_Byron"


def tool(*pieces: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}} for piece in pieces]}


async def test_what_engines_send_oddly_is_heard_like_all_else() -> None:
    none = frame(orjson.dumps({"error": None, "choices": [{"index": 0, "delta": {"content": "person 1"}}]}))
    end = chunk(0, {}, "stop")
    for frames, key, wanted in (
        ((none, end), "content", "Ada Byron"),
        ((chunk(0, {"content": "is person"}, ""), chunk(0, {"content": " 1"}, ""), end), "content", "is Ada Byron"),
        ((chunk(0, tool("is person", " 1 or per")), chunk(0, tool("son 1")), end), "tool", "is Ada Byron or Ada Byron"),
        ((chunk(0, {"content": "is person"}), b"data: [DONE]\n\n"), "content", "is person"),
    ):  # fmt: skip
        _, heard = await through([ALIAS], Streamed(*frames))
        said = ""
        for delta in (choice["delta"] for one in heard for choice in one["choices"]):
            said += delta.get("content", "")
            said += "".join(each["function"]["arguments"] for each in delta.get("tool_calls", ()))
        assert said == wanted, key


async def test_what_is_left_of_a_text_comes_without_what_was_said_beside_it() -> None:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "person"}}
    frames = (chunk(0, {"role": "assistant", "tool_calls": [first]}), chunk(0, {}, "tool_calls"))
    _, heard = await through([ALIAS], Streamed(*frames))
    assert [one["choices"][0]["delta"] for one in heard[1:]] == [tool("person"), {}]
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "is person"}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " 1 and per"}}
    events = (start, delta, {"type": "content_block_stop", "index": 0})
    _, heard = await through([ALIAS], Streamed(*(b"event: x\n" + frame(orjson.dumps(one)) for one in events)))
    assert [one["type"] for one in heard] == ["content_block_start", *["content_block_delta"] * 2, "content_block_stop"]
    texts = [heard[0]["content_block"]["text"], *(one["delta"]["text"] for one in heard[1:3])]
    assert "".join(texts) == "is Ada Byron and per"


async def test_a_guarded_stream_lives_where_another_one_does() -> None:
    """A sign that is torn in two, or no UTF-8, and ids of a guard that breaks before it has heard anything."""
    half = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n'
    _, heard = await through([ALIAS], Streamed(half, chunk(0, {"content": "person 1"}), chunk(0, {}, "stop")))
    assert told(heard) == {(0, "content"): "\ud83dAda Byron"}
    _, heard = await through([ALIAS], Streamed(half.replace(b"\\ud83d", b"\xff person 1"), chunk(0, {}, "stop")))
    assert told(heard) == {(0, "content"): "\ufffd Ada Byron"}


@pytest.mark.parametrize("odd", [b"data: nonsense\n\n", b'data: ["person 1"]\n\n', None])
async def test_what_can_not_be_heard_ends_a_stream_with_an_event(odd: bytes | None) -> None:
    guard = Breaks("listener") if odd is None else ALIAS
    frames = (odd or chunk(0, {"content": "person 1"}), chunk(0, {}, "stop"))
    _, heard = await through([guard], Streamed(*frames))
    assert [one["error"]["code"] for one in heard] == ["guard_failed"]


async def test_others_have_their_turn_while_many_texts_are_looked_at() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    asked = replace(call("x"), kind="embeddings", stream=False)
    asked.body["input"] = ["a"] * 5000
    waiting = asyncio.create_task(others())
    await through([Hoards()], Streamed(body=b"{}"), asked)
    waiting.cancel()
    assert turns > 10


async def test_a_guard_that_lets_nobody_else_run_has_its_deadline_too() -> None:
    class Slow(Hoards):
        async def asked(self, text: str) -> str:
            due_s = asyncio.get_running_loop().time() + 0.3
            while asyncio.get_running_loop().time() < due_s:
                pass
            return text

    with pytest.raises(GuardFailed):
        await through([Slow()], Streamed(body=b"{}"))


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
    _, heard = await through([Forbids("two")], Streamed(b"".join(frames)))  # as one piece, what came before is told
    assert told(heard[:1]) == {(0, "content"): "one "}
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
