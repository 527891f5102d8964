"""HTTP/1.1 by hand: a server's side that can also reset, stall and close where no library would."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One client's connection; requests are answered one after the other.

    Args:
        opened: called with each new connection; may reset it.
        serve: answers one request.

    Attributes:
        pause_s: after each byte; None sends all at once.
        left: called when the client leaves before its answer is whole.
    """

    def __init__(
        self,
        opened: Callable[["Connection"], None],
        serve: Callable[["Connection", Request], Coroutine[Any, Any, None]],
    ) -> None:
        self._opened = opened
        self._serve = serve
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None
        self.pause_s: float | None = None
        self.left: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.left is not None:
            self.left()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer[:1] == b"\x16":
            self.close()  # a TLS handshake
            return
        self._next()

    async def send(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self.pause_s is None:
            self._transport.write(data)
            return
        for at in range(len(data)):
            self._transport.write(data[at : at + 1])
            await asyncio.sleep(self.pause_s)

    async def head(self, status: int, content_type: str, length: int | None, more: Mapping[str, str]) -> None:
        """Send the head; a length of None announces chunks."""
        size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        await self.send(f"HTTP/1.1 {status} -\r\ncontent-type: {content_type}\r\n{size}\r\n{lines}\r\n".encode())

    async def chunk(self, data: bytes) -> None:
        """One chunk; nothing for no data, since an empty chunk ends the answer."""
        if data:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """End an answer in chunks."""
        await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        """An orderly end of the connection, by whatever is written already."""
        self.left = None
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Cut it, so that the client sees a reset."""
        self.left = None
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self._transport.abort()

    def _next(self) -> None:
        """Begin with the next request, if it is whole and none is being answered."""
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0 or self._task is not None:
            return
        first, *lines = self._buffer[:head].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0"))
        if len(self._buffer) < head + 4 + size:
            return
        body, self._buffer = self._buffer[head + 4 : head + 4 + size], self._buffer[head + 4 + size :]
        method, path, _ = first.split(" ", 2)
        self._task = asyncio.create_task(self._serve(self, Request(method, path, headers, body)))
        self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self.left = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.reset()
            raise error
        self._next()
