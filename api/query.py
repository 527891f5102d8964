"""POST /v1/query: an answer from documents, in one piece or as it is made."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from api.answers.asked import QueryRequest
from api.answers.doors import kept, last, note, rate_headers
from api.answers.events import Done, Event
from api.answers.showing import as_sse, shown, told
from api.auto.settling import settled_question
from api.conversations.items import user_message
from api.conversations.talk import Talk, open_talk
from api.errors import RequestInvalid, describe
from api.identities import Identity
from api.identity import Identified
from api.leaving import while_there
from api.record import record_of
from api.roles import require
from api.state import AppState, State
from monitoring.logs import logger
from monitoring.record import RequestRecord

routes = APIRouter(prefix="/v1/query", tags=["Documents"])
_log = logger(__name__)


@routes.post("", response_model=None)
async def query(asked: QueryRequest, request: Request, state: State, identity: Identified) -> Response:
    """Answer from a collection's documents; every citation's quote stands in its document as it says."""
    record = record_of(request)
    events = await answered(asked, state, identity, record.request_id)
    first = await anext(events)  # what is wrong with the question itself is known by now, and keeps its status
    if asked.stream:
        return StreamingResponse(
            _streamed(first, events, record, asked.conversation_id),
            headers={**rate_headers(first), "cache-control": "no-cache"},
            media_type="text/event-stream",
        )
    done = await while_there(request, last(events))
    if done is None:
        return Response(status_code=499)  # nobody hears it
    note(record, done)
    return JSONResponse(shown(done, asked.conversation_id), headers={**rate_headers(first), "x-cache": done.cache})


async def answered(
    asked: QueryRequest, state: AppState, identity: Identity, request_id: str
) -> AsyncGenerator[Event, None]:
    """What happens while a question is answered, whichever way it came.

    Raises: RequestInvalid, ScopeNotAllowed, ConversationNotFound, ConversationFull; the events raise
        what `Answerer.answer` does.
    """
    talk = await _talk(asked, state, identity)
    question = asked.question(request_id, talk.turns if talk else asked.turns)
    asker = talk.identity if talk else identity
    question = await settled_question(state, asker.principal, question)
    events = state.answerer.answer(asker, question)
    return kept(events, [user_message(asked.query)], talk)


async def _talk(asked: QueryRequest, state: AppState, identity: Identity) -> Talk | None:
    """The conversation that the question belongs to.

    Raises: RequestInvalid, ScopeNotAllowed, ConversationNotFound, ConversationFull.
    """
    if asked.conversation_id is None:
        return None
    if asked.messages:
        raise RequestInvalid("messages and conversation_id exclude each other: a conversation has its own", "messages")
    require(identity.principal, "POST", "/v1/conversations/{conversation_id}/items")
    return await open_talk(state.conversations, identity, asked.conversation_id)


async def _streamed(
    first: Event, events: AsyncGenerator[Event, None], record: RequestRecord, conversation_id: str | None
) -> AsyncIterator[bytes]:
    try:
        async with aclosing(events):
            for name, data in told(first, conversation_id):
                yield as_sse(name, data)
            async for event in events:
                if isinstance(event, Done):
                    note(record, event)
                for name, data in told(event, conversation_id):
                    yield as_sse(name, data)
    except Exception as error:
        _log.error("an answer broke off", request_id=record.request_id, exc_info=error)
        body = describe(error)[1]
        record.error_code = body["error"].get("code")
        yield as_sse("error", body)
