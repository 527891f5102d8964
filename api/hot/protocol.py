"""uvicorn's HTTP protocol with bounds on a request's head, and a cheap way to notice that a client left."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SCOPE_KEY = "stoker.connection"
HEAD_BYTES = 64 * 1024
HEAD_S = 30.0


class Protocol(HttpToolsProtocol):
    """One connection of a client.

    A head (request line and headers) that is larger than `HEAD_BYTES`, or not there `HEAD_S` seconds after its first
    byte or after the connection was opened, closes the connection: slow clients cannot hold places for ever.

    Attributes:
        on_left: called when the connection is lost, if set; whoever sets it takes it away again.
        lost: it is.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_left: Callable[[], None] | None = None
        self.lost = False
        self._head_bytes = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Write what the block sends in one go: each write is a call of the kernel, dearer than all of ours."""
        cycle, transport = self.cycle, self.transport
        cork = cycle.transport = _Cork(transport)  # type: ignore[assignment]  # as far as the cycle uses it
        try:
            yield
        finally:
            cycle.transport = transport
            cork.flush()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_here()
        self.lost = True
        super().connection_lost(exc)
        if self.on_left is not None:
            self.on_left()

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self._in_body:
            self._await_head()  # the next request on a kept connection begins
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HEAD_BYTES:
            self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[SCOPE_KEY] = self  # type: ignore[literal-required]  # for `Exchange`, nobody else

    def on_headers_complete(self) -> None:
        self._head_here()
        self._in_body = True  # what comes may still be read, or thrown away, after an early answer
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        """A handshake is a GET without a body: after anything else the WebSocket's own protocol would wait for ever."""
        bodied = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        return self.scope.get("method") == "GET" and not bodied and super()._should_upgrade()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_S, self._refuse)

    def _head_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self) -> None:
        self._head_here()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n")
            self.transport.close()


class _Cork:
    """Stands for a transport and keeps what is written until it is told to pass it on."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
