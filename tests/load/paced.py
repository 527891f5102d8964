"""A token-exact, paced upstream: it plans when each token leaves, keeps to it, and writes the plan down.

What a load test measures is held against this log. A frame holds several tokens or one, the first frame holds none, and
with `--places` only so many answers are made at once, as in an engine. It speaks chat, completions, the events of
`/v1/query`, ingestion, and vLLM's two counters of tokens.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httptools
import orjson
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """How it answers.

    Attributes:
        ttft_s: at the median; each answer's lies between a third of it and three times it, by its name.
        gap_s: between two tokens.
        frame_tokens: a frame holds from 1 to so many.
        places: answers made at once, the others wait; 0: all.
        early_role: the first frame, which holds no token, leaves at once, and not with the first token.
    """

    seed: int = 0
    ttft_s: float = 0.2
    gap_s: float = 0.01
    frame_tokens: int = 1
    places: int = 0
    early_role: bool = False


@dataclass(slots=True)
class Planned:
    """The truth of one answer; moments are readings of `time.monotonic`.

    Attributes:
        name: the request's `user`.
        frames: when each was to leave, and how many tokens it holds.
        left_s: when each really left; on a busy machine that is later.
        ended: the answer left whole.
    """

    name: str
    received_s: float
    prompt_tokens: int = 0
    frames: list[tuple[float, int]] = field(default_factory=list)
    left_s: list[float] = field(default_factory=list)
    ended: bool = False

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.frames)

    @property
    def late_s(self) -> float:
        """The most that a frame left too late."""
        return max(left_s - at_s for (at_s, _), left_s in zip(self.frames, self.left_s, strict=False))


def planned(pace: Pace, name: str, tokens: int, begin_s: float) -> Iterator[tuple[float, int]]:
    """The frames of an answer that is begun then, the same for the same name."""
    chance = random.Random(f"{pace.seed}-{name}")
    at_s = begin_s + pace.ttft_s * 3 ** chance.uniform(-1, 1)
    while tokens > 0:
        held = min(tokens, chance.randint(1, pace.frame_tokens))
        yield at_s, held
        tokens -= held
        at_s += pace.gap_s * held


class Paced:
    """The server's state. Args: log: takes a line for each answer that has ended, whole or not."""

    def __init__(self, pace: Pace, log: BinaryIO) -> None:
        self.pace = pace
        self.places = asyncio.Semaphore(pace.places) if pace.places else contextlib.nullcontext()
        self.prompt_tokens = 0
        self.generated = 0
        self._log = log
        self._numbers = itertools.count()

    def name(self, body: dict[str, Any]) -> str:
        """What the log calls an answer."""
        return str(body.get("user") or f"unnamed-{next(self._numbers)}")

    def write_down(self, one: Planned) -> None:
        self._log.write(orjson.dumps(asdict(one)) + b"\n")
        self._log.flush()

    def metrics(self) -> bytes:
        lines = []
        for name, value in (("prompt_tokens", self.prompt_tokens), ("generation_tokens", self.generated)):
            lines.append(f'# TYPE vllm:{name}_total counter\nvllm:{name}_total{{model_name="mock"}} {value}\n')
        return "".join(lines).encode()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Paced) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport, but acts as one
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._path, self._pieces = url.decode("latin-1").partition("?")[0], []

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        received_s = time.monotonic()
        data = b"".join(self._pieces)
        if self._path in ("/v1/chat/completions", "/v1/completions", "/v1/query") and data:
            task = asyncio.get_running_loop().create_task(self._answer(self._path, orjson.loads(data), received_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif self._path == "/v1/ingest":
            self._whole(b"202 Accepted", b'{"job_id":"job-1","document_ids":[],"status":"queued"}')
        elif self._path == "/v1/models":
            self._whole(b"200 OK", b'{"object":"list","data":[{"id":"mock","object":"model","root":"mock"}]}')
        elif self._path == "/metrics":
            self._whole(b"200 OK", self._server.metrics())
        else:
            self._whole(b"404 Not Found", b'{"error":{"message":"no such route","code":"not_found"}}')

    async def _answer(self, path: str, body: dict[str, Any], received_s: float) -> None:
        server = self._server
        voice = _Voice(path)
        asked = body.get("messages") or body.get("prompt") or body.get("query")
        one = Planned(server.name(body), received_s, len(str(asked).split()))
        stream = bool(body.get("stream"))
        tokens = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        try:
            if stream and server.pace.early_role:
                self._transport.write(_HEAD + _chunk(voice.role()))
            async with server.places:
                one.frames = list(planned(server.pace, one.name, tokens, time.monotonic()))
                server.prompt_tokens += one.prompt_tokens
                await self._tell(one, voice, stream=stream)
        finally:
            server.write_down(one)

    async def _tell(self, one: Planned, voice: "_Voice", *, stream: bool) -> None:
        begun = self._server.pace.early_role
        for at_s, tokens in one.frames:
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            if stream:
                self._transport.write((b"" if begun else _HEAD + _chunk(voice.role())) + _chunk(voice.token(tokens)))
                begun = True
            self._server.generated += tokens
            one.left_s.append(time.monotonic())
        one.ended = True
        if stream:
            self._transport.write(_chunk(voice.end(one)) + _END)
        else:
            self._whole(b"200 OK", voice.whole(one))

    def _whole(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


class _Voice:
    """Words an answer as its route does."""

    def __init__(self, path: str) -> None:
        self._question = path == "/v1/query"
        self._text = path == "/v1/completions"

    def role(self) -> bytes:
        if self._question:
            return _event("retrieval", {"data": []})
        return self._choice({"role": "assistant", "content": ""}, None)

    def token(self, tokens: int) -> bytes:
        text = " word" * tokens
        return _event("token", {"text": text}) if self._question else self._choice({"content": text}, None)

    def end(self, one: Planned) -> bytes:
        if self._question:
            return _event("usage", _usage(one)) + _event("done", self._done(one))
        usage = orjson.dumps({**_chunk_head(self._text), "choices": [], "usage": _usage(one)})
        return self._choice({}, "length") + b"data: " + usage + b"\n\ndata: [DONE]\n\n"

    def whole(self, one: Planned) -> bytes:
        if self._question:
            return orjson.dumps(self._done(one))
        said = " word" * one.tokens
        choice = {
            "index": 0,
            "finish_reason": "length",
            "message": {"role": "assistant", "content": said},
            "text": said,
        }
        return orjson.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": _usage(one)})

    def _choice(self, delta: dict[str, str], finish: str | None) -> bytes:
        told = {"text": delta.get("content", "")} if self._text else {"delta": delta}
        choice = {"index": 0, **told, "finish_reason": finish}
        return b"data: " + orjson.dumps({**_chunk_head(self._text), "choices": [choice]}) + b"\n\n"

    def _done(self, one: Planned) -> dict[str, Any]:
        citation = {"document_id": "1", "document_version": 1, "filename": "a", "start": 0, "end": 4, "quote": "word"}
        said = " word" * one.tokens
        return {"id": "1", "answer": said, "citations": [citation], "degraded": False, "usage": _usage(one)}


def _chunk_head(text: bool) -> dict[str, Any]:
    kind = "text_completion" if text else "chat.completion.chunk"
    return {"id": "1", "object": kind, "created": 1, "model": "mock"}


def _usage(one: Planned) -> dict[str, int]:
    total = one.prompt_tokens + one.tokens
    return {"prompt_tokens": one.prompt_tokens, "completion_tokens": one.tokens, "total_tokens": total}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(pace: Pace, port: int, log: Path, ready: Callable[[], None]) -> None:
    """Listen on 127.0.0.1 until SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with log.open("ab") as file:
        server = Paced(pace, file)
        listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", port, backlog=4096)
        ready()
        await stop.wait()
        listening.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True, help="takes a line of JSON for each answer")
    for name, default in (("seed", 0), ("frame-tokens", 1), ("places", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ttft-ms", type=float, default=200, help="at the median")
    parser.add_argument("--gap-ms", type=float, default=10, help="between two tokens")
    parser.add_argument("--early-role", action="store_true")
    told = parser.parse_args()
    pace = Pace(told.seed, told.ttft_ms / 1e3, told.gap_ms / 1e3, told.frame_tokens, told.places, told.early_role)
    uvloop.run(serve(pace, told.port, told.log, lambda: print("ready", flush=True)))


if __name__ == "__main__":
    main()
