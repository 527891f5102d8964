"""POST /v1/responses, behind the hot path's door: in one piece or as a stream of OpenAI's events."""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from api.conversations import items as forms
from api.errors import describe_error
from api.hot.exchange import Exchange, Headers
from api.hot.headers import answer_headers, priority_of, rescue_of
from api.identities import Identity
from api.responses.answering import Answering
from api.responses.request import Asked, read
from api.responses.responder import Wishes
from api.responses.shape import shown
from api.responses.writing import ENDS, Event
from api.roles import require
from monitoring.record import RequestRecord

if TYPE_CHECKING:
    from api.state import AppState

_STREAM = b"text/event-stream; charset=utf-8"


async def respond(
    state: "AppState", identity: Identity, exchange: Exchange, record: RequestRecord, body: Mapping[str, Any]
) -> None:
    """Answer. Raises: whatever goes wrong before the first byte; what goes wrong later is an event of the stream."""
    asked, ignored = read(body)
    principal = identity.principal
    if asked.conversation_id is not None:  # it is read, and added to
        require(principal, "POST", "/v1/conversations/{conversation_id}/items")
    if asked.search is not None:
        require(principal, "POST", "/v1/search")
    wishes = Wishes(
        exchange.request_id,
        priority_of(principal.priority, exchange.priority),
        rescue_of(principal.rescue, exchange.rescue),
        lambda: exchange.left,
    )
    exchange.watch()
    async with state.responder.answering(identity, asked, wishes) as answering:
        record.model_group = answering.model
        try:
            headers = answer_headers(answering.answer, ignored, answering.metered)
            if asked.stream:
                await _stream(exchange, answering, asked, record, headers)
            else:
                await _whole(exchange, answering, asked, headers)
        finally:
            answer = answering.answer
            record.deployment, record.fallback = answer.deployment.name, answer.fallback
            record.first_token_s = answer.first_token_s
            record.usage = answering.usage
            if asked.search is not None:
                record.degraded = answering.response.get("degraded_reason") is not None


async def _whole(exchange: Exchange, answering: Answering, asked: Asked, headers: Headers) -> None:
    async for _ in answering.events():
        pass
    await exchange.whole(200, orjson.dumps(shown(answering.response, asked.include)), headers)


async def _stream(
    exchange: Exchange, answering: Answering, asked: Asked, record: RequestRecord, headers: Headers
) -> None:
    exchange.start(200, _STREAM, [*headers, (b"cache-control", b"no-cache")])
    async for events in _told(answering, record):
        if events:
            over = events[-1]["type"] in ENDS
            await exchange.piece(b"".join(_sse(event, asked) for event in events), more=not over)


async def _told(answering: Answering, record: RequestRecord) -> AsyncIterator[list[Event]]:
    """The events; where the answer breaks, those that say so."""
    try:
        async for events in answering.events():
            yield events
    except Exception as error:
        describe_error(error, record)  # for log and record
        yield await answering.failed(error)


def _sse(event: Event, asked: Asked) -> bytes:
    data = event
    if "response" in event:
        data = {**event, "response": shown(event["response"], asked.include)}
    elif "item" in event:
        data = {**event, "item": forms.shown(event["item"], asked.include)}
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
