"""Around every request: its id, its record, and the limit on its body. Pure ASGI."""

import re
from secrets import token_hex

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BodyTooLarge
from api.record import SCOPE_KEY
from core.clock import Clock
from monitoring import metrics
from monitoring.record import UNMATCHED, RequestRecord, finish

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RecordMiddleware:
    """Opens a `RequestRecord`, and closes it whatever happens.

    A client's own `x-request-id` is kept if it is 1 to 128 signs of `A-Z a-z 0-9 . _ : -`; every answer carries one.
    """

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope), scope["method"], self._clock.monotonic())
        scope[SCOPE_KEY] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.request_id
            await send(message)

        async def receive_watching() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                record.client_left = True
            return message

        metrics.REQUESTS_RUNNING.inc()
        try:
            await self._app(scope, receive_watching, send_with_id)
        finally:
            metrics.REQUESTS_RUNNING.dec()
            record.route = _template(scope)
            record.status = record.status or 499  # nginx's word for a client that left before the answer
            finish(record, self._clock.monotonic())


class BodyLimitMiddleware:
    """Refuses a body above the limit, by its declared length at once, else as soon as it grows past it."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        read = 0

        async def receive_counting() -> Message:
            nonlocal read
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise self._refusal()
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_bytes:
                raise self._refusal()
            return message

        await self._app(scope, receive_counting, send)

    def _refusal(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._max_bytes:,} bytes; send less at a time")


def _request_id(scope: Scope) -> str:
    sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return sent.decode("ascii") if _REQUEST_ID.fullmatch(sent) else f"req_{token_hex(12)}"


def _template(scope: Scope) -> str:
    """The matched route's template; FastAPI leaves the route, prefix included, in the scope."""
    return getattr(scope.get("route"), "path", UNMATCHED)
