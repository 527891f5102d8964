"""A model whose streams are cut as a test has it: words into frames, frames into chunks, chunks into pieces of TCP."""

import asyncio
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import orjson

from tests.support.exact.wire import Connection, Request
from tests.support.network import free_port

T = TypeVar("T", str, bytes)

MODEL = "words"
_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}


@dataclass
class CutServer:
    """The running server.

    Attributes:
        base_url: ends in /v1, as `api_base` does.
        streams: by `x-request-id`, the pieces of one answer.
        connections: that were opened.
    """

    base_url: str
    streams: dict[str, Sequence[bytes]] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)

    async def serve(self, connection: Connection, request: Request) -> None:
        """Answer one request."""
        if request.method != "POST":
            await connection.head(404, "application/json", 2, {})
            await connection.send(b"{}")
            return
        pieces = self.streams.pop(request.headers["x-request-id"])
        await connection.head(200, "text/event-stream", None, {})
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(0.0005 if len(pieces) < 50 else 0)  # or the next piece would go along with it


@contextmanager
def cut_server_in_thread() -> Iterator[CutServer]:
    """Run one in a thread of its own until the block ends."""
    port, loop = free_port(), asyncio.new_event_loop()
    server = CutServer(f"http://127.0.0.1:{port}/v1")
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        listener = await loop.create_server(
            lambda: Connection(server.connections.append, server.serve), "127.0.0.1", port
        )
        ready.set()
        await stop.wait()
        listener.close()
        for connection in server.connections:
            connection.close()
        await asyncio.sleep(0)  # they close in the loop's next turn

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def uncut(text: str) -> list[bytes]:
    """A stream that says all at once."""
    return [_chunk(b"".join(_frames([text], escaped=False))) + _chunk(b"")]


def cut(text: str, dice: random.Random) -> list[bytes]:
    """The same, cut anywhere: between any two UTF-16 units where frames end, and between any two bytes below them."""
    escaped = dice.random() < 0.5  # characters beyond ASCII as JSON writes them, those beyond 16 bits in two halves
    said = _halved(text) if escaped else text
    frames = b"".join(_frames(_parts(said, dice, 12), escaped=escaped))
    chunks = b"".join(_chunk(part) for part in _parts(frames, dice, 6)) + _chunk(b"")
    return _parts(chunks, dice, 8 if dice.random() < 0.9 else 200)


def _frames(parts: Sequence[str], *, escaped: bool) -> Iterator[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": part} for part in parts)]
    for delta in deltas:
        yield _frame([{"index": 0, "delta": delta, "finish_reason": None}], escaped=escaped)
    yield _frame([{"index": 0, "delta": {}, "finish_reason": "stop"}], escaped=escaped)
    usage = {"prompt_tokens": 9, "completion_tokens": len(parts), "total_tokens": 9 + len(parts)}
    yield _frame([], escaped=escaped, usage=usage)
    yield b"data: [DONE]\n\n"


def _frame(choices: list[dict[str, Any]], *, escaped: bool, **more: Any) -> bytes:
    body = {**_HEAD, "choices": choices, **more}
    return b"data: " + (json.dumps(body).encode() if escaped else orjson.dumps(body)) + b"\n\n"


def _parts(whole: T, dice: random.Random, most: int) -> list[T]:
    count = min(dice.randint(0, most), max(len(whole) - 1, 0))
    places = [0, *sorted(dice.sample(range(1, max(len(whole), 1)), count)), len(whole)]
    return [whole[begin:end] for begin, end in pairwise(places)]


def _halved(text: str) -> str:
    units = text.encode("utf-16-le")
    return "".join(chr(units[at] + 256 * units[at + 1]) for at in range(0, len(units), 2))


def _chunk(data: bytes) -> bytes:
    """One chunk of the transfer encoding; of no data: its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)
