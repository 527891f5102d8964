"""One request and its answer over ASGI: the head read once, the body within bounds, a client that leaves noticed."""

import asyncio
import re
from collections.abc import MutableMapping
from contextlib import nullcontext
from typing import Any

from starlette.types import Receive, Scope, Send

from api.errors import BodyTooLarge
from api.hot.protocol import SCOPE_KEY, Protocol
from core.ids import unique_hex

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

Headers = list[tuple[bytes, bytes]]


class Exchange:
    """Made for one request.

    Attributes:
        request_id: the client's own where it is 1 to 128 signs of `A-Z a-z 0-9 . _ : -`, else a new one.
        authorization, api_key, origin, priority, rescue, traceparent: those headers; empty where they are missing.
        reach: every header of that name.
        scope: the request's, for what is seldom needed of it.
        left: the client is gone.
        expired: the error of the deadline that passed.
        status: that was sent; 0 before.
    """

    __slots__ = (
        "_connection",
        "_declared",
        "_extra",
        "_head",
        "_loop",
        "_receive",
        "_send",
        "_task",
        "_timer",
        "_watcher",
        "api_key",
        "authorization",
        "expired",
        "left",
        "origin",
        "priority",
        "reach",
        "request_id",
        "rescue",
        "scope",
        "status",
        "traceparent",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.authorization = self.api_key = self.origin = self.priority = self.rescue = self.traceparent = ""
        self.reach: tuple[str, ...] = ()
        self._declared = 0
        self.request_id = ""
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.authorization = value.decode("latin-1")
            elif name == b"x-api-key":
                self.api_key = value.decode("latin-1")
            elif name == b"content-length":
                self._declared = int(value) if value.isdigit() else 0
            elif name == b"origin":
                self.origin = value.decode("latin-1")
            elif name == b"x-stoker-priority":
                self.priority = value.decode("latin-1")
            elif name == b"x-stoker-reach":
                self.reach += (value.decode("latin-1"),)
            elif name == b"traceparent":
                self.traceparent = value.decode("latin-1")
            elif name == b"x-stoker-rescue":
                self.rescue = value.decode("latin-1")
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.request_id = value.decode("ascii")
        self.request_id = self.request_id or f"req_{unique_hex()}"
        self._extra: Headers = [(b"x-request-id", self.request_id.encode("ascii"))]
        task = asyncio.current_task()
        assert task is not None  # ASGI servers run applications in tasks
        self._task = task
        self._loop = task.get_loop()
        self._connection: Protocol | None = scope.get(SCOPE_KEY)
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.expired: Exception | None = None
        self.left = False
        self._head: MutableMapping[str, Any] | None = None
        self.status = 0

    def add_headers(self, headers: Headers) -> None:
        """Send these too, whatever the answer will be."""
        self._extra += headers

    def guard(self, seconds: float, error: Exception) -> None:
        """Give what follows, until the next `guard`, a deadline: at it the answering task is cancelled.

        `expired` then holds the error.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._expire, error)

    async def body(self, max_bytes: int) -> bytes:
        """Read the whole body.

        Raises:
            BodyTooLarge: at once by its declared length, else as soon as it grows past the limit.
            ClientLeft: the client left in the middle of it.
        """
        if self._declared > max_bytes:
            raise _too_large(max_bytes)
        parts, read = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.left = True
                raise ClientLeft
            parts.append(message.get("body", b""))
            read += len(parts[-1])
            if read > max_bytes:
                raise _too_large(max_bytes)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def watch(self) -> None:
        """From here on the answering task is cancelled when the client leaves, too, or has left already."""
        if self._connection is not None:
            self._connection.on_left = self._leave
            if self._connection.lost:  # between its body and now
                self._leave()
        else:
            self._watcher = asyncio.create_task(self._await_disconnect())

    def unwatch(self) -> None:
        """End deadline and watch."""
        if self._timer is not None:
            self._timer.cancel()
        self._let_leave()

    def _let_leave(self) -> None:
        if self._connection is not None and self._connection.on_left == self._leave:
            self._connection.on_left = None  # after the last piece the connection may have its next request already
        if self._watcher is not None:
            self._watcher.cancel()

    async def _await_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self.left = True
        self._task.cancel()

    def _expire(self, error: Exception) -> None:
        self.expired = error
        self._task.cancel()

    def start(self, status: int, media_type: bytes, headers: Headers, length: int | None = None) -> None:
        """Have status and headers go with the first piece; without `length` the body has no announced end."""
        own: Headers = [(b"content-type", media_type)]
        if length is not None:
            own.append((b"content-length", b"%d" % length))
        self._head = {"type": "http.response.start", "status": status, "headers": [*own, *headers, *self._extra]}

    async def piece(self, body: bytes, *, more: bool = True) -> None:
        """Send a part of the body; with the last one the client may leave."""
        if not more:
            self._let_leave()  # the deadline stays: who reads no further holds nobody for ever
        message = {"type": "http.response.body", "body": body, "more_body": more}
        if self._head is None:
            await self._send(message)
        else:
            head, self._head = self._head, None
            self.status = head["status"]
            with self._connection.corked() if self._connection is not None else nullcontext():
                await self._send(head)
                await self._send(message)
        if not more:
            self.unwatch()

    async def whole(self, status: int, body: bytes, headers: Headers) -> None:
        """Send a JSON answer in one piece."""
        self.start(status, b"application/json", headers, len(body))
        await self.piece(body, more=False)


class ClientLeft(Exception):
    """Nobody is there to be answered."""


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes:,} bytes; send less at a time")
