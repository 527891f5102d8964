"""One line of a batch, sent through the same door as a client's request: limits, policy, ledger and metrics are those
of the batch's key, as it is now.
"""

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.applications import Starlette

from api.answers.cached import answering
from api.errors import RequestInvalid, describe
from api.hot.door import HotDoor
from api.identities import Identity
from api.identity import SCOPE_KEY
from api.state import AppState
from core.priority import Priority

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/responses")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        body: JSON, read.
        retry_after_s: seconds after which it makes sense to ask again; None: nobody said so.
    """

    status: int
    body: Any
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str | None:
        """Of the error."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        return error.get("code") if isinstance(error, dict) else None


class Sender:
    """Sends lines from within the gateway; one for each worker."""

    def __init__(self, state: AppState) -> None:
        """Takes the worker's own state, with the billing of batches in place of the usual one."""
        room = Starlette()
        billing = state.line_metering
        answerer = answering(
            state.retrieval, state.router, billing, state.settings, state.clock, state.recipes, state.cache
        )
        responder = state.responder.billed_by(billing)
        room.state.stoker = replace(state, metering=billing, answerer=answerer, responder=responder)
        self._door = HotDoor(room, state.settings)

    async def send(self, identity: Identity, endpoint: str, body: str, request_id: str) -> Reply:
        """Send one line and wait for its answer. Cancelling it cancels the upstream.

        Raises: nothing that a client would not see as an answer.
        """
        if orjson.loads(body).get("stream") is True:
            refusal = RequestInvalid("stream is not possible in a batch: leave it out", "stream")
            status, shown, _ = describe(refusal)
            return Reply(status, shown)
        call = _Call(endpoint, body.encode(), identity, request_id)
        # A task of its own: the door cancels the task in which it answers when a deadline passes.
        await asyncio.create_task(self._door(call.scope, call.receive, call.send))
        return call.reply()


class _Call:
    """ASGI's three parts of a request that comes from no socket."""

    def __init__(self, path: str, body: bytes, identity: Identity, request_id: str) -> None:
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode("ascii")),
                (b"x-stoker-priority", Priority.BATCH.value.encode()),
            ],
            SCOPE_KEY: identity,
        }
        self._body: bytes | None = body
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []

    async def receive(self) -> MutableMapping[str, Any]:
        body, self._body = self._body, None
        if body is None:
            await asyncio.Event().wait()  # nobody leaves; whoever waits here is cancelled with the answer
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], dict(message["headers"])
        else:
            self._parts.append(message.get("body", b""))

    def reply(self) -> Reply:
        seconds = self._headers.get(b"retry-after")
        return Reply(self._status, orjson.loads(b"".join(self._parts)), None if seconds is None else float(seconds))
