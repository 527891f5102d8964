"""Streams that break in the middle: another deployment goes on, and the client gets one whole answer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from core.reach import ANYWHERE
from core.usage import Usage
from router.deployment import Deadlines
from router.router import Answer, Call, Router, open_router
from tests.integration.router.calls import DEADLINES, HURRIED, config, native
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.server import ExactServer, exact_server
from tests.support.network import free_port

TEXT = "sing a song of sixpence"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@asynccontextmanager
async def two(other: str = "m", **more: Any) -> AsyncIterator[tuple[ExactServer, ExactServer, Router]]:
    """Two servers of one group, and their router; the second serves the model `other`."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(exact_server("m"))
        second = await stack.enter_async_context(exact_server(other))
        members = native(second, "second", **more), native(first, "first", **more)
        yield first, second, await stack.enter_async_context(open_router(config(*members)))


def story(**more: Any) -> Call:
    body = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 40, "stream": True, "temperature": 0}
    body |= {"stream_options": {"include_usage": True}, "model": "g", **more}
    rescue = body.pop("rescue", True)
    return Call("chat.completions", "g", body, True, ANYWHERE, "req_1", tenant="t", rescue=rescue)


class Told:
    """A stream as its client reads it."""

    def __init__(self, raw: bytes, answer: Answer) -> None:
        self.raw, self.answer = raw, answer
        frames = [frame.removeprefix("data: ") for frame in raw.decode().split("\n\n") if frame]
        self.done = frames[-1] == "[DONE]"
        self.chunks = [orjson.loads(frame) for frame in frames if frame != "[DONE]"]
        self.choices = [choice for chunk in self.chunks for choice in chunk.get("choices", ())]
        texts = (choice.get("delta", {}).get("content") or choice.get("text") for choice in self.choices)
        self.text = "".join(text or "" for text in texts)
        self.calls = [call for choice in self.choices for call in choice.get("delta", {}).get("tool_calls") or ()]
        self.reasons = [choice["finish_reason"] for choice in self.choices if choice["finish_reason"]]
        self.usage = [chunk["usage"] for chunk in self.chunks if chunk.get("usage")]
        self.error = self.chunks[-1].get("error")
        self.raw_arguments = "".join(call["function"].get("arguments") or "" for call in self.calls)

    @property
    def rescued(self) -> list[dict[str, Any]]:
        return list(self.chunks[-1].get("stoker", {}).get("rescued", ()))


async def tell(router: Router, call: Call) -> Told:
    answer = await router.open(call)
    assert answer.frames is not None
    try:
        return Told(b"".join([piece async for piece in answer.frames]), answer)
    finally:
        await answer.aclose()


async def uninterrupted(router: Router, call: Call) -> Told:
    told = await tell(router, call)
    assert told.done
    assert not told.rescued
    return told


def is_whole(told: Told, right: Told) -> None:
    assert told.done, told.raw[-300:]
    assert told.text == right.text
    assert told.reasons == right.reasons
    assert told.usage == right.usage
    assert len({chunk["id"] for chunk in told.chunks}) == 1
    assert len({chunk["created"] for chunk in told.chunks}) == 1
    assert [choice["delta"]["role"] for choice in told.choices if "role" in choice["delta"]] == ["assistant"]
    assert b'token_ids":[' not in told.raw


def fails(first: ExactServer, second: ExactServer, *failures: Failure | None) -> None:
    """The next requests fail so, whoever gets them."""
    first.plan = second.plan = deque(failures)


def how(told: Told) -> list[tuple[int, str]]:
    """After how many tokens, and in what way, others went on."""
    return [(one["after_tokens"], one["how"]) for one in told.rescued]


@pytest.mark.parametrize("at", [1, 2, 7, 39])
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.END, Fault.ERROR_MID, Fault.GARBAGE_MID, Fault.STALL_MID])
async def test_another_goes_on_by_token_ids(fault: Fault, at: int) -> None:
    silent = fault is Fault.STALL_MID
    async with two(deadlines=HURRIED if silent else DEADLINES) as (first, second, router):
        right = await uninterrupted(router, story())
        fails(first, second, Failure(fault, at))
        told = await tell(router, story())
        is_whole(told, right)
        assert len(told.rescued) == 1
        ((after, way),) = how(told)
        assert way == "token_ids"
        assert after == at or (fault is Fault.CUT and after < at), "a reset takes with it what was not read yet"
        assert {told.rescued[0]["from"], told.rescued[0]["to"]} == {"first", "second"}
        assert told.answer.deployment.name == told.rescued[0]["to"]
        assert told.answer.usage == Usage.from_openai(right.usage[0])


async def test_without_ids_the_text_so_far_is_the_beginning() -> None:
    """Where a character takes several tokens, frames are fewer: the sum of the usage is right, its parts are not."""
    async with two() as (first, second, router):
        first.gives_ids = second.gives_ids = False
        right = await uninterrupted(router, story(max_tokens=500))
        assert right.reasons == ["stop"]
        fails(first, second, Failure(Fault.CUT, 9))
        told = await tell(router, story(max_tokens=500))
        sums = [one.usage[0]["total_tokens"] for one in (told, right)]
        assert (told.text, told.reasons, told.done, sums[0]) == (right.text, right.reasons, True, sums[1])
        assert sum("role" in choice["delta"] for choice in told.choices) == 1
        assert how(told)[0][1] == "prefill"


async def test_where_nothing_else_is_taken_the_whole_is_asked_for_again() -> None:
    async with two() as (first, second, router):
        first.takes_ids = second.takes_ids = first.gives_ids = second.gives_ids = False
        right = await uninterrupted(router, story())
        fails(first, second, Failure(Fault.CUT, 9), Failure(Fault.NO_PREFILL))
        told = await tell(router, story())
        is_whole(told, right)
        assert how(told)[0][1] == "replay"


@pytest.mark.parametrize("shape", [{"tools": TOOLS}, {"response_format": {"type": "json_object"}}])
@pytest.mark.parametrize("at", [1, 4])
async def test_tool_calls_and_json_are_asked_for_again(shape: dict[str, Any], at: int) -> None:
    async with two() as (first, second, router):
        right = await uninterrupted(router, story(**shape))
        fails(first, second, Failure(Fault.CUT, at))
        told = await tell(router, story(**shape))
        is_whole(told, right)
        assert how(told) == [(at, "replay")]
        assert [sum("id" in call for call in one.calls) for one in (told, right)] == [len(right.calls) > 0] * 2
        assert told.raw_arguments == right.raw_arguments


async def test_what_is_passed_over_when_it_is_said_anew_is_not_counted_again() -> None:
    async with two() as (first, second, router):
        right = await uninterrupted(router, story(tools=TOOLS))
        fails(first, second, Failure(Fault.CUT, 5), Failure(Fault.CUT, 9))
        told = await tell(router, story(tools=TOOLS))
        is_whole(told, right)
        assert how(told) == [(5, "replay"), (9, "replay")]


async def test_what_is_said_anew_and_differently_is_an_error_and_no_mixture() -> None:
    """The other deployment is another model, whose answer differs from the first token on."""
    async with two(other="n") as (first, second, router):
        answers = {(await uninterrupted(router, story(tools=TOOLS))).raw_arguments for _ in range(2)}
        assert len(answers) == 2
        fails(first, second, Failure(Fault.CUT, 12))
        told = await tell(router, story(tools=TOOLS))
        assert told.error is not None
        assert not told.done
        assert any(answer.startswith(told.raw_arguments) for answer in answers)


async def test_a_stream_may_break_more_than_once_but_not_for_ever() -> None:
    async with two() as (first, second, router):
        right = await uninterrupted(router, story())
        fails(first, second, Failure(Fault.END, 5), Failure(Fault.END, 6))
        told = await tell(router, story())
        is_whole(told, right)
        assert [way for _, way in how(told)] == ["token_ids", "token_ids"]
        fails(first, second, *[Failure(Fault.END, 2)] * 9)
        told = await tell(router, story())
        assert told.error is not None
        assert right.text.startswith(told.text)
        assert not told.done


@pytest.mark.parametrize("off", ["request", "deployment"])
async def test_it_can_be_switched_off(off: str) -> None:
    async with two(**({"rescue": False} if off == "deployment" else {})) as (first, second, router):
        fails(first, second, Failure(Fault.CUT, 5))
        told = await tell(router, story(rescue=off != "request"))
        assert told.error is not None
        assert told.error == {
            "message": told.error["message"], "type": "upstream_error", "param": None, "code": "stream_broken",
        }  # fmt: skip
        assert not told.done
        assert all("return_token_ids" not in served.body for served in [*first.log, *second.log])


@pytest.mark.parametrize("where", [0, -1])
async def test_ids_are_shown_to_those_who_ask(where: int) -> None:
    """Also where the stream broke within a character, whose first tokens the client has seen without any text."""
    async with two() as (first, second, router):
        right = await uninterrupted(router, story(return_token_ids=True))
        within = [at for at, choice in enumerate(right.choices[1:], 1) if not choice["delta"]["content"]]
        assert within, "the answer holds a character of several tokens"
        fails(first, second, Failure(Fault.END, within[where]))
        told = await tell(router, story(return_token_ids=True))
        ids = [[token for choice in one.choices for token in choice.get("token_ids") or ()] for one in (told, right)]
        assert how(told)[0][1] == "token_ids"
        assert ids[0] == ids[1]
        assert told.text == right.text


async def test_a_text_completion_goes_on_too() -> None:
    async with two() as (first, second, router):
        body = {
            "prompt": "tell me of ships",
            "max_tokens": 30,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        call = Call("completions", "g", {**body, "model": "g"}, True, ANYWHERE, "req_1", tenant="t")
        right = await uninterrupted(router, call)
        fails(first, second, Failure(Fault.CUT, 9))
        told = await tell(router, call)
        assert (told.text, told.reasons, told.usage, told.done) == (right.text, right.reasons, right.usage, True)
        assert how(told) == [(9, "token_ids")]


async def test_a_break_after_the_last_token_only_lacks_the_end() -> None:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    begin = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    all_of_it = {"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop", "token_ids": [7, 8]}
    chunks = [{**head, "choices": [begin], "prompt_token_ids": [1, 2, 3]}, {**head, "choices": [all_of_it]}]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for chunk in chunks:
                frame = b"data: " + orjson.dumps(chunk) + b"\n\n"
                writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
            await asyncio.sleep(0.1)
        finally:  # who looks for metrics may be here when the test ends
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", free_port())
    port = server.sockets[0].getsockname()[1]
    only = replace(native(ExactServer("m"), "only"), api_base=f"http://127.0.0.1:{port}/v1")
    async with server, open_router(config(only)) as router:
        told = await tell(router, story())
    assert (told.text, told.reasons, told.done, told.error) == ("Yes.", ["stop"], True, None)
    assert told.usage == [{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}]


@pytest.mark.parametrize("alone", [False, True])
async def test_a_stream_whose_engine_is_seen_to_stand_still_goes_on_elsewhere_if_there_is_one(alone: bool) -> None:
    async with two() as (first, second, router):
        right = await uninterrupted(router, story())
        first.pause_s = second.pause_s = 0.01
        answer = await router.open(story())
        assert answer.frames is not None
        pieces = []
        async for piece in answer.frames:
            pieces.append(piece)
            if len(pieces) == 5:
                members = sorted(router.members(), key=lambda one: one.deployment.name == answer.deployment.name)
                for member in members if alone else members[-1:]:
                    member.health.eject("wedged")
        told = Told(b"".join(pieces), answer)
        is_whole(told, right)
        assert len(told.rescued) == (0 if alone else 1)
        await asyncio.sleep(0.05)  # the server closes what was given up


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_stays_where_it_is_once_it_has_asked_all_others(stream: bool) -> None:
    """Engines that are seen to stand still in turn must not make it run out of engines: each may go on any moment."""
    async with two(deadlines=Deadlines()) as (first, second, router):
        first.pause_s = second.pause_s = 0.3
        call = replace(story(), body=story().body | {"stream": stream, "max_tokens": 2}, stream=stream)
        opening = asyncio.create_task(router.open(call))
        had = None
        for _ in range(2):
            await asyncio.sleep(0.1)
            (has,) = (member for member in router.members() if member.health.in_flight)
            assert has is not had
            if had is not None:
                had.health.readmit()
            has.health.eject("wedged")
            had = has
        (answer,) = await asyncio.gather(opening, return_exceptions=True)
        assert isinstance(answer, Answer), answer
        assert had is not None
        assert answer.deployment == had.deployment
        await answer.aclose()


async def test_a_stream_that_nobody_may_go_on_with_stays_with_its_engine() -> None:
    async with two() as (first, second, router):
        first.pause_s = second.pause_s = 0.01
        answer = await router.open(story(rescue=False))
        assert answer.frames is not None
        pieces = []
        async for piece in answer.frames:
            pieces.append(piece)
            if len(pieces) == 5:
                for member in router.members():
                    if member.deployment == answer.deployment:
                        member.health.eject("wedged")
        assert Told(b"".join(pieces), answer).done
