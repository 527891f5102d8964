"""`Idempotency-Key`: a request that is sent again is answered as it was, and done once.

Of those that come with the same key by the same caller to the same path one is done; the others wait for it. What came
of it is told again for a day, to the same body only; of an answer that is not to be stored, that it was given. What may
go better the next time is forgotten at once: 401, 403, 408, 429, 5xx, and what broke off.

Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import asyncio
import base64
import hashlib
import time
from typing import Any

import orjson
from starlette.datastructures import Headers, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.admission.headers import RATE_HEADERS
from api.caching.cache import Flight, Hit
from api.caching.name import Name
from api.errors import (
    ApiError,
    BodyTooLarge,
    BodyTooSlow,
    IdempotencyKeyReused,
    IdempotencyUnavailable,
    RequestInvalid,
    describe_error,
)
from api.identity import identify
from api.settings import ApiSettings
from api.state import AppState
from core.dependency import DependencyError
from core.ids import unique_hex
from core.principal import Principal
from monitoring.record import UNMATCHED, RequestRecord, finish

KEPT_S = 86_400.0
_HEADER = b"idempotency-key"
_LONGEST_KEY = 255
_LONGEST_UNREAD = 65_536  # bytes of a body that its route did not read
_NOT_KEPT = frozenset({401, 403, 408, 425, 429, 499})
_OWN_HEADERS = frozenset({"x-request-id", "request-id", "date", "connection", *RATE_HEADERS})


class IdempotencyDoor:
    """In front of all other doors; requests without the header pass by."""

    def __init__(self, app: ASGIApp, state_of: State, settings: ApiSettings) -> None:
        self._app = app
        self._state_of = state_of
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            for name, value in scope["headers"]:
                if name == _HEADER:
                    await self._once(value.decode("latin-1"), scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _once(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        state: AppState = self._state_of.stoker
        headers = Headers(scope=scope)
        try:
            identity = await identify(state, headers.get("authorization", ""), headers.get("x-api-key", ""), scope)
        except (ApiError, DependencyError):
            await self._app(scope, receive, send)  # it says so in the form that the route's clients know
            return
        record = RequestRecord(f"req_{unique_hex()}", "POST", time.monotonic())
        record.route = UNMATCHED
        record.tenant_id, record.key_id = identity.principal.tenant_id, identity.principal.key_id
        try:
            if not key or len(key) > _LONGEST_KEY:
                raise RequestInvalid(f"Idempotency-Key has 1 to {_LONGEST_KEY} characters")
            found = await state.idempotency.look(_name(identity.principal, _address(scope), key, headers))
            if found is None:
                raise IdempotencyUnavailable("whether this was done before cannot be told now; try again in a second")
            if isinstance(found, Hit):
                kept = orjson.loads(found.body)
                async with asyncio.timeout(self._settings.body_deadline_s):
                    await self._compare(kept, receive)
        except TimeoutError:
            await self._refuse(BodyTooSlow("the body was not there in time; send it faster"), record, send)
            return
        except (ApiError, DependencyError) as error:
            await self._refuse(error, record, send)
            return
        if isinstance(found, Hit):
            kept["headers"].append(["idempotency-replayed", "true"])
            await _tell(kept, base64.b85decode(kept["body"]), record, send)
            return
        most_bytes, patience_s = state.idempotency.bounds.entry_bytes, self._settings.body_deadline_s
        await _Watched(found, most_bytes, patience_s, scope, receive, send).run(self._app)

    async def _refuse(self, error: Exception, record: RequestRecord, send: Send) -> None:
        status, body, extra = describe_error(error, record)
        answer = {"status": status, "headers": [["content-type", "application/json"], *extra.items()]}
        await _tell(answer, orjson.dumps(body), record, send)

    async def _compare(self, kept: dict[str, Any], receive: Receive) -> None:
        """Read the body, and let only the same one through. Raises: IdempotencyKeyReused, BodyTooLarge."""
        digest, read, more = hashlib.sha256(), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return  # nobody reads the answer
            piece = message.get("body", b"")
            digest.update(piece)
            read += len(piece)
            more = message.get("more_body", False)
            if read > self._settings.max_body_bytes:
                raise BodyTooLarge(f"the body is larger than {self._settings.max_body_bytes:,} bytes")
        if digest.hexdigest() != kept["digest"]:
            raise IdempotencyKeyReused(
                "this Idempotency-Key came with another body before; send the same one, or a new key", "Idempotency-Key"
            )


class _Watched:
    """One request that is done: its body is hashed and its answer copied as they pass."""

    def __init__(
        self, flight: Flight, most_bytes: int, patience_s: float, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._flight = flight
        self._most_bytes = most_bytes * 7 // 10  # as text it takes a quarter more, and there are headers
        self._patience_s = patience_s
        self._scope = scope
        self._receive = receive
        self._send = send
        self._digest = hashlib.sha256()
        self._read = not _has_body(scope)
        self._status = 0
        self._headers: list[list[str]] = []
        self._body = bytearray()

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        finally:
            self._flight.leave()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._digest.update(message.get("body", b""))
            self._read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in message["headers"]
                if name.decode("latin-1").lower() not in _OWN_HEADERS
            ]
        elif message["type"] == "http.response.body":
            if len(self._body) <= self._most_bytes:
                self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._end()
        await self._send(message)

    async def _rest(self) -> None:
        """Read what the route left of the body: many need none, and still the same body is to come with the key."""
        try:
            async with asyncio.timeout(self._patience_s):
                left = _LONGEST_UNREAD
                while not self._read and left > 0:
                    message = await self.receive()
                    if message["type"] != "http.request":
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return

    async def _end(self) -> None:
        if not self._read and self._status < 400:
            await self._rest()
        if not self._read or self._status in _NOT_KEPT or self._status >= 500:
            return
        kept = {"digest": self._digest.hexdigest(), "status": self._status, "headers": self._headers}
        body = bytes(self._body)
        untold = _SECRET if _is_secret(self._headers) else _TOO_LONG if len(body) > self._most_bytes else None
        if untold is not None:  # it was done, and must not be done again
            kept |= {"status": 409, "headers": [["content-type", "application/json"]]}
            body = orjson.dumps({"error": untold})
        kept["body"] = base64.b85encode(body).decode()
        self._flight.keep(orjson.dumps(kept).decode(), KEPT_S)


_TOO_LONG = {
    "message": "this was done, and its answer was too long to be kept: look for what came of it, or send a new key",
    "type": "invalid_request_error",
    "param": "Idempotency-Key",
    "code": "idempotent_answer_too_long",
}
_SECRET = {
    "message": "this was done, and its answer held a secret, which is told once: look for what came of it, and rotate "
    "a key whose text is lost",
    "type": "invalid_request_error",
    "param": "Idempotency-Key",
    "code": "idempotent_answer_secret",
}


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in scope["headers"]
    )


def _is_secret(headers: list[list[str]]) -> bool:
    """Whether an answer is not to be stored anywhere."""
    return any(
        name.lower() == "set-cookie" or (name.lower() == "cache-control" and "no-store" in value.lower())
        for name, value in headers
    )


def _address(scope: Scope) -> str:
    """Where a request goes: what its query names (such as a tenant) is part of what it asks for."""
    query: bytes = scope["query_string"]
    return f"{scope['path']}?{query.decode('latin-1')}"


def _name(principal: Principal, address: str, key: str, headers: Headers) -> Name:
    caller = [principal.key_id, principal.user_id, address, headers.get("origin", ""), key]
    digest = hashlib.sha256(orjson.dumps(caller)).hexdigest()
    return Name(principal.tenant_id, "idempotency", digest, ())


async def _tell(answer: dict[str, Any], body: bytes, record: RequestRecord, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer["headers"]]
    headers.append((b"x-request-id", record.request_id.encode()))
    record.status = answer["status"]
    await send({"type": "http.response.start", "status": answer["status"], "headers": headers})
    await send({"type": "http.response.body", "body": body})
    finish(record, time.monotonic())
