"""An answer from documents as a message of Anthropic's: a block of text for each sentence, with its citations.

A citation of a passage that has a page is a `page_location`, of any other a `char_location`. What the form has no place
for stands beside it: where exactly the quote stands, and which version of which document it is from.

Source: https://platform.claude.com/docs/en/build-with-claude/citations
"""

from typing import Any

import orjson

from api import anthropic
from api.answers.events import Citation, Cited, Done, Event, Retrieved, Token
from api.chat.told import Told
from core.ids import new_id
from core.usage import Usage


class AnthropicVoice:
    """Tells one answer.

    Args:
        model: that was asked for.
    """

    def __init__(self, model: str, request_id: str) -> None:
        self._model = model
        self._request_id = request_id
        self._id = new_id("msg")
        self._told = Told()

    def tell(self, event: Event) -> bytes:
        began = self._told.hear(event)
        at = len(self._told.pieces) - 1
        match event:
            case Retrieved():
                message = {**self._head(), "content": [], "usage": _usage(Usage()), "stop_reason": None}
                return _event("message_start", message={**message, "stop_sequence": None})
            case Token(text):
                said = _event("content_block_delta", index=at, delta={"type": "text_delta", "text": text})
                return (self._next(at) if began else b"") + said
            case Cited(citation) if at >= 0:
                delta = {"type": "citations_delta", "citation": self._citation(citation)}
                return _event("content_block_delta", index=at, delta=delta)
            case Done():
                return self._end(at, event)
        return b""

    def whole(self, done: Done) -> dict[str, Any]:
        content = [
            {"type": "text", "text": piece.text, "citations": [self._citation(one) for one in piece.citations] or None}
            for piece in self._told.pieces
        ]
        return {
            **self._head(),
            "model": done.fallback or done.model or self._model,
            "content": content,
            **_stop(done),
            "usage": _usage(done.whole_usage),
            **_beside(done),
        }

    def broken(self, status: int, error: dict[str, Any]) -> bytes:
        return b"event: error\ndata: " + orjson.dumps(anthropic.envelope(status, error, self._request_id)) + b"\n\n"

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._model}

    def _next(self, at: int) -> bytes:
        ended = _event("content_block_stop", index=at - 1) if at else b""
        block = {"type": "text", "text": "", "citations": None}
        return ended + _event("content_block_start", index=at, content_block=block)

    def _end(self, at: int, done: Done) -> bytes:
        ended = _event("content_block_stop", index=at) if at >= 0 else b""
        stop = _event("message_delta", delta=_stop(done), usage=_usage(done.whole_usage), **_beside(done))
        return ended + stop + _event("message_stop")

    def _citation(self, citation: Citation) -> dict[str, Any]:
        place, file_id = self._told.documents.get((citation.document_id, citation.document_version), (0, None))
        cited: dict[str, Any] = {
            "cited_text": citation.quote,
            "document_index": place,
            "document_title": citation.filename,
            "file_id": file_id,
            "document_id": citation.document_id,
            "document_version": citation.document_version,
        }
        if citation.page is None:
            where = {"start_char_index": citation.start, "end_char_index": citation.end}
            return {"type": "char_location", **cited, **where}
        pages = {"start_page_number": citation.page, "end_page_number": citation.page + 1}
        return {"type": "page_location", **cited, **pages, "start": citation.start, "end": citation.end}


def _event(name: str, **fields: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **fields}) + b"\n\n"


def _stop(done: Done) -> dict[str, Any]:
    return {"stop_reason": "max_tokens" if done.cut else "end_turn", "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, int]:
    """Anthropic counts apart what the cache held."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _beside(done: Done) -> dict[str, Any]:
    beside: dict[str, Any] = {"degraded": done.degraded_reason is not None}
    if done.degraded_reason is not None:
        beside["degraded_reason"] = done.degraded_reason
    return beside
