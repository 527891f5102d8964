"""An answer as clients see it, in one piece or as the events of a stream."""

from typing import Any

import orjson

from api.answers.events import Citation, Cited, Done, Event, Retrieved, Token
from api.answers.question import QueryWork
from api.search_form import shown_passage
from core.ids import new_id


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


def as_sse(name: str, data: dict[str, Any]) -> bytes:
    """An event on its way."""
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


def shown_citation(citation: Citation) -> dict[str, Any]:
    """A citation as clients see it."""
    return {
        "document_id": citation.document_id,
        "document_version": citation.document_version,
        "filename": citation.filename,
        "page": citation.page,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
    }


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
