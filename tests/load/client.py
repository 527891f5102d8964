"""A cheap HTTP/1.1 client for measuring: a fixed number of kept connections, no parsing beyond what is counted."""

import asyncio
import time
from dataclasses import dataclass

_END = b"\r\n0\r\n\r\n"


@dataclass(slots=True)
class Reply:
    """What came back. Times are seconds from the moment the request was written.

    Attributes:
        first_s: until the first frame's byte; for an answer in one piece, until its head.
        frames: of server-sent events; 0 for an answer in one piece.
    """

    status: int
    first_s: float
    total_s: float
    frames: int
    body: bytes


class Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._done: asyncio.Future[Reply] | None = None
        self._buffer = b""
        self._head = -1
        self._started_s = 0.0
        self._first_s = 0.0

    @classmethod
    async def open(cls, port: int) -> "Connection":
        _, protocol = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport, but acts as one

    async def ask(self, request: bytes) -> Reply:
        """Send a whole request and wait for its whole answer. Raises: ConnectionError."""
        self._done = asyncio.get_running_loop().create_future()
        self._buffer, self._head, self._first_s = b"", -1, 0.0
        self._started_s = time.perf_counter()
        self._transport.write(request)
        return await self._done

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._head < 0:
            self._head = self._buffer.find(b"\r\n\r\n")
            if self._head < 0:
                return
            self._length = _header(self._buffer[: self._head], b"content-length")
        body_at = self._head + 4
        if not self._first_s and len(self._buffer) > body_at:
            self._first_s = time.perf_counter() - self._started_s
        if self._length is None:
            if self._buffer.endswith(_END):
                self._finish()
        elif len(self._buffer) >= body_at + self._length:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"closed in the middle of an answer: {self._buffer[-200:]!r}"))

    def close(self) -> None:
        self._transport.close()

    def _finish(self) -> None:
        total_s = time.perf_counter() - self._started_s
        status, body = int(self._buffer[9:12]), self._buffer[self._head + 4 :]
        done, self._done = self._done, None
        assert done is not None
        if not done.done():
            done.set_result(Reply(status, self._first_s, total_s, body.count(b"data: "), body))


def chat(
    port: int,
    key: str,
    model: str,
    *,
    tokens: int,
    stream: bool = False,
    pause_ms: int = 0,
    name: str = "",
    priority: str = "",
    longer: int = 0,
) -> bytes:
    """The bytes of a chat request for `tokens` tokens.

    Args:
        pause_ms: between two tokens of a stream; 0: none.
        name: the request's id, and what the upstream's log calls it.
        priority: asked for by header.
        longer: bytes that are added to its prompt of 66.
    """
    said = "Say the word, and go on saying it until somebody stops you." + ("word " * (longer // 5 + 1))[:longer]
    fields = [
        f'"model":"{model}","max_tokens":{tokens}',
        f'"messages":[{{"role":"user","content":"{said}"}}]',
    ]
    if stream:
        fields.append('"stream":true,"stream_options":{"include_usage":true}')
    if pause_ms:
        fields.append(f'"seed":{pause_ms}')
    named = ""
    if name:
        fields.append(f'"user":"{name}"')
        named = f"x-request-id: {name}\r\n"
    if priority:
        named += f"x-stoker-priority: {priority}\r\n"
    body = ("{" + ",".join(fields) + "}").encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{named}\r\n"
    )
    return head.encode() + body


def _header(head: bytes, name: bytes) -> int | None:
    lower = head.lower()
    at = lower.find(b"\r\n" + name + b":")
    return None if at < 0 else int(lower[at + len(name) + 3 :].split(b"\r\n", 1)[0])
