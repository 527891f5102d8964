"""A fast upstream for measuring: speaks just enough of OpenAI's chat and costs a few microseconds a request.

A request's `max_tokens` is the number of tokens, one to a frame; `seed` is the pause between frames in milliseconds.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

MODEL = "mock"
PROMPT_TOKENS = 9

_HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",'
_FIRST = (
    b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
)
_TOKEN = b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
_LAST = b"data: " + _HEAD + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
_STREAM_HEADERS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


class MockUpstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, log: "list[Spent]", open_: set[asyncio.Transport]) -> None:
        self._log = log
        self._open = open_
        self._buffer = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport, but acts as one
        self._open.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self._transport)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = _content_length(self._buffer[:head])
            if len(self._buffer) < head + 4 + length:
                return
            body, self._buffer = self._buffer[head + 4 : head + 4 + length], self._buffer[head + 4 + length :]
            if body:
                self._answer(orjson.loads(body))
            else:
                self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    def _answer(self, body: dict[str, Any]) -> None:
        tokens = int(body.get("max_tokens") or body.get("max_completion_tokens") or 1)
        spent = Spent(str(body.get("user", "")))
        self._log.append(spent)
        spent.tokens_in = PROMPT_TOKENS
        if not body.get("stream"):
            spent.tokens_out, spent.ended = tokens, True
            self._transport.write(_whole(tokens))
        elif pause_ms := body.get("seed"):
            task = asyncio.create_task(self._paced(tokens, pause_ms / 1000, spent))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            frames = [_chunk(_FIRST), *[_chunk(_TOKEN)] * tokens, _chunk(_LAST), _chunk(_usage(tokens)), _END]
            spent.tokens_out, spent.ended = tokens, True
            self._transport.write(_STREAM_HEADERS)
            for frame in frames:  # one write each, as an engine makes them
                self._transport.write(frame)

    async def _paced(self, tokens: int, pause_s: float, spent: "Spent") -> None:
        loop = asyncio.get_running_loop()
        self._transport.write(_STREAM_HEADERS + _chunk(_FIRST))
        at = loop.time()
        try:
            for _ in range(tokens):
                spent.tokens_out += 1
                self._transport.write(_chunk(_TOKEN))
                at += pause_s
                await asyncio.sleep(at - loop.time())
        except asyncio.CancelledError:
            spent.cancelled = True
            raise
        spent.ended = True
        self._transport.write(_chunk(_LAST) + _chunk(_usage(tokens)) + _END)


class Spent:
    """What the upstream's own log says of one request; `name` is what the request's `user` said.

    Attributes:
        tokens_in, tokens_out: read and written so far.
        ended: the answer was given whole.
        cancelled: its client left before that.
    """

    __slots__ = ("cancelled", "ended", "name", "tokens_in", "tokens_out")

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokens_in = 0
        self.tokens_out = 0
        self.ended = False
        self.cancelled = False


@asynccontextmanager
async def serving(port: int, log: list[Spent]) -> AsyncIterator[None]:
    """Listen on 127.0.0.1 until the block ends, and close every connection then."""
    open_: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: MockUpstream(log, open_), "127.0.0.1", port, backlog=2048)
    try:
        yield
    finally:
        server.close()
        for transport in tuple(open_):
            transport.abort()
        await asyncio.sleep(0)


def _whole(tokens: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": " word" * tokens}, "finish_reason": "stop"}
    usage = _counts(tokens)
    body = orjson.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice],
            "usage": usage,
        }
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _usage(tokens: int) -> bytes:
    return b"data: " + _HEAD + b'"choices":[],"usage":' + orjson.dumps(_counts(tokens)) + b"}\n\ndata: [DONE]\n\n"


def _counts(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_END = b"0\r\n\r\n"


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    return int(lower[at + 17 :].split(b"\r\n", 1)[0])
