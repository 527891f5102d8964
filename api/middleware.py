"""Around every request but the model routes': its id, its record, the limit on its body. Pure ASGI."""

import re

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BodyTooLarge, RequestInvalid, describe_error
from api.record import SCOPE_KEY
from core.clock import Clock
from core.ids import unique_hex
from monitoring import metrics, tracing
from monitoring.record import UNMATCHED, RequestRecord, finish

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UPLOADS = ("/v1/ingest", "/v1/files")
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
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"  # what a client invents makes no series
        record = RequestRecord(_request_id(scope), method, self._clock.monotonic())
        record.span = tracing.begin(method, parent=_header(scope, b"traceparent").decode("latin-1"))
        scope[SCOPE_KEY] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = record.request_id
                headers["x-content-type-options"] = "nosniff"  # no document's text is a script, whatever asks for it
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


class UnexpectedMiddleware:
    """Answers what nobody expected: inside of record and CORS, so that the answer has an id, and pages may read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # which PostgreSQL takes for no text
            await answer(RequestInvalid("an address holds no zero byte"), scope, receive, send)
            return
        begun = False

        async def send_noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except Exception as error:
            if begun:
                raise
            await answer(error, scope, receive, send)


class BodyLimitMiddleware:
    """Refuses a body above the limit, by its declared length at once, else as soon as it grows past it.

    Args:
        max_bytes: of a body that is read as one JSON value.
        max_upload_bytes: of a body below `/v1/ingest` or `/v1/files`.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_json_bytes = max_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _header(scope, b"content-length")
        max_bytes = self._max_upload_bytes if scope["path"].startswith(_UPLOADS) else self._max_json_bytes
        refusal = BodyTooLarge(f"the body is larger than {max_bytes:,} bytes; send less at a time")
        if declared.isdigit() and int(declared) > max_bytes:
            await answer(refusal, scope, receive, send)
            return
        read = 0

        async def receive_counting() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > max_bytes:
                raise refusal
            return message

        async def send_unless_too_large(message: Message) -> None:
            # FastAPI turns whatever goes wrong while it reads a body into a 400 of its own.
            if read <= max_bytes:
                await send(message)
            elif message["type"] == "http.response.start":
                await answer(refusal, scope, receive, send)

        await self._app(scope, receive_counting, send_unless_too_large)


async def answer(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that goes no further."""
    status, body, headers = describe_error(error, scope[SCOPE_KEY])
    await JSONResponse(body, status, headers)(scope, receive, send)


def _request_id(scope: Scope) -> str:
    sent = _header(scope, b"x-request-id")
    return sent.decode("ascii") if _REQUEST_ID.fullmatch(sent) else f"req_{unique_hex()}"


def _header(scope: Scope, wanted: bytes) -> bytes:
    """Of its first; empty: there is none."""
    found: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return found


def _template(scope: Scope) -> str:
    """The matched route's template; FastAPI leaves the route, prefix included, in the scope."""
    return getattr(scope.get("route"), "path", UNMATCHED)
