"""The model in an edge's process, as the router meets it."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from core.clock import SystemClock
from core.reach import HOME
from edge.lane import InProcessLane, configuration
from edge.llm import Wish
from router.call import Call
from router.errors import UpstreamRefused
from router.router import Router


class _Model:
    window = 50

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        return [1] * len(messages[0]["content"])


class _Writing:
    """Says words until it is stopped."""

    def __init__(self, words: Sequence[str], *, fails: bool = False) -> None:
        self._words, self._fails = words, fails
        self.stopped = threading.Event()
        self.going_on = threading.Event()
        self.prompt_tokens, self.completion_tokens, self.cut = 5, 0, False

    def stop(self) -> None:
        self.stopped.set()
        self.going_on.set()

    def __iter__(self) -> Iterator[str]:
        for word in self._words:
            if word == "...":
                self.going_on.wait(30)
            if self.stopped.is_set():
                return
            self.completion_tokens += 1
            yield word
        if self._fails:
            raise RuntimeError("out of memory")


def _router(*writings: _Writing) -> Router:
    waiting = iter(writings)

    def begin(wish: Wish) -> _Writing:
        return next(waiting)

    return Router(configuration("small"), InProcessLane(_Model(), begin), SystemClock())


def _call(text: str = "hello", *, stream: bool = True) -> Call:
    body: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": text}], "max_tokens": 9}
    return Call("chat.completions", "small", body, stream=stream, reach=HOME, request_id="r", tenant="t")


async def _frames(router: Router) -> bytes:
    answer = await router.open(_call())
    assert answer.frames is not None
    found = b"".join([frame async for frame in answer.frames])
    await answer.aclose()
    return found


async def test_its_words_and_counts_pass_the_router() -> None:
    router = _router(_Writing(["The", " pier"]), _Writing(["No"]))
    answer = await router.open(_call())
    assert answer.frames is not None
    text = b"".join([frame async for frame in answer.frames])
    await answer.aclose()
    assert b'"The"' in text
    assert b'" pier"' in text
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)
    whole = await router.open(_call(stream=False))
    assert b'"No"' in whole.body


async def test_one_answer_is_written_after_the_other() -> None:
    first, second = _Writing(["a", "...", "b"]), _Writing(["c"])
    router = _router(first, second)
    one = await router.open(_call())
    other = asyncio.create_task(_frames(router))
    await asyncio.sleep(0)
    assert not other.done()
    first.going_on.set()
    assert one.frames is not None
    assert b'"b"' in b"".join([frame async for frame in one.frames])
    assert b'"c"' in await other


async def test_a_client_that_leaves_ends_the_writing() -> None:
    writing = _Writing(["a", "...", "b"])
    router = _router(writing, _Writing(["c"]))
    answer = await router.open(_call())
    await answer.aclose()
    assert writing.stopped.is_set()
    assert b'"c"' in await _frames(router)  # its turn was given back


async def test_a_failure_is_told_and_the_next_is_answered() -> None:
    router = _router(_Writing(["a"], fails=True), _Writing(["c"]))
    assert b"error" in await _frames(router)
    assert b'"c"' in await _frames(router)


async def test_what_does_not_fit_into_the_window_is_refused() -> None:
    router = _router()
    counted = await router.count_tokens("small", [{"role": "user", "content": "12345"}], reach=HOME)
    assert counted is not None
    assert (counted.tokens, counted.window) == (5, 50)
    with pytest.raises(UpstreamRefused) as refusal:
        await router.open(_call("x" * 50))
    assert refusal.value.too_long
