"""POST /v1/query: an answer from documents, in one piece or as it is made."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.answers.doors import kept, last, note, rate_headers, shown_citation
from api.answers.events import Cited, Done, Event, Retrieved, Token
from api.answers.question import Grounding, QueryWork, Question, Turn, WantedWork
from api.auto.settling import settled_question
from api.conversations.items import user_message
from api.conversations.talk import Talk, open_talk
from api.errors import RequestInvalid, describe
from api.identities import Identity
from api.identity import Identified
from api.record import record_of
from api.roles import require
from api.search import shown_passage
from api.state import AppState, State
from core.ids import new_id
from monitoring.logs import logger
from monitoring.record import RequestRecord
from retrieval.query import Mode

routes = APIRouter(prefix="/v1/query", tags=["Documents"])
_log = logger(__name__)


class EarlierTurn(BaseModel):
    """What was said earlier in the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant"]
    content: str = Field(max_length=20_000)


class QueryWorkRequest(BaseModel):
    """What a model is to do with the question before it is searched."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rewrite: bool | None = None
    multi_query: int = Field(0, ge=0, le=4)
    hyde: bool = False
    self_query: bool = False


class QueryRequest(BaseModel):
    """A question to one collection."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=20_000)
    collection: str = Field(min_length=1, max_length=200)
    model: str | None = None
    top_k: int = Field(10, ge=1, le=100)
    filter: dict[str, Any] | None = None
    stream: bool = False
    temperature: float = Field(0.0, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    use_cache: Literal[True, False, "exact"] = True
    grounding: Grounding | None = None
    conversation_id: str | None = None
    messages: list[EarlierTurn] = Field(default_factory=list, max_length=20)
    query_work: QueryWorkRequest = Field(default_factory=QueryWorkRequest)
    mode: Mode | None = None
    rerank: bool | None = None
    rerank_top_n: int | None = Field(None, ge=1, le=100)


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
    done = await last(events)
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
    question = Question(
        text=asked.query,
        collection=asked.collection,
        model=asked.model,
        top_k=asked.top_k,
        filter=asked.filter,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        request_id=request_id,
        grounding=asked.grounding,
        turns=talk.turns if talk else tuple(Turn(turn.role, turn.content) for turn in asked.messages),
        work=WantedWork(**asked.query_work.model_dump()),
        mode=asked.mode,
        rerank=asked.rerank,
        rerank_top_n=asked.rerank_top_n,
        use_cache=asked.use_cache,
    )
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
                yield _sse(name, data)
            async for event in events:
                if isinstance(event, Done):
                    note(record, event)
                for name, data in told(event, conversation_id):
                    yield _sse(name, data)
    except Exception as error:
        _log.error("an answer broke off", request_id=record.request_id, exc_info=error)
        body = describe(error)[1]
        record.error_code = body["error"].get("code")
        yield _sse("error", body)


def told(event: Event, conversation_id: str | None) -> list[tuple[str, dict[str, Any]]]:
    """An event as clients hear of it: what each part of it is called, and what it says."""
    match event:
        case Retrieved(result, work):
            passages = [shown_passage(passage) for passage in result.passages]
            found = {"data": passages, "collection_version": result.collection_version}
            return [("retrieval", {**found, **_shown_work(work)})]
        case Token(text, supported):
            return [("token", {"text": text} if supported is not False else {"text": text, "supported": False})]
        case Cited(citation):
            return [("citation", shown_citation(citation))]
        case Done():
            return [("usage", event.whole_usage.as_openai()), ("done", shown(event, conversation_id))]


def _sse(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def shown(done: Done, conversation_id: str | None = None) -> dict[str, Any]:
    """The answer as clients see it."""
    answer: dict[str, Any] = {
        "id": new_id("answer"),
        "object": "answer",
        "answer": done.answer,
        "citations": [shown_citation(citation) for citation in done.citations],
        "degraded": done.degraded_reason is not None,
        "model": done.model,
        "cache": done.cache,
        "finish_reason": "length" if done.cut else "stop",
        "usage": done.whole_usage.as_openai(),
        "timings_ms": done.timings_ms,
        "prompt_version": done.prompt_version,
        **_shown_work(done.work),
    }
    if done.stale_s is not None:
        answer["stale_s"] = round(done.stale_s, 1)
    if done.unsupported:
        answer["unsupported"] = [{"start": start, "end": end} for start, end in done.unsupported]
    if conversation_id is not None:
        answer["conversation_id"] = conversation_id
    if done.degraded_reason is not None:
        answer["degraded_reason"] = done.degraded_reason
    return answer


def _shown_work(work: QueryWork | None) -> dict[str, Any]:
    """What was searched in place of the question; nothing where nothing was asked for."""
    if work is None:
        return {}
    shown = {
        "question": work.question,
        "queries": list(work.queries),
        "hypothetical": work.hypothetical,
        "filter": work.filter,
        "failed": dict(work.failed),
    }
    return {"query_work": shown}
