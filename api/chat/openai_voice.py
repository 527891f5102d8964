"""An answer from documents as a chat completion of OpenAI's.

What the form has no place for stands beside it: `citations`, as `/v1/query` has them, and `unsupported` in the message;
`degraded` and `timings_ms` in the completion. `annotations` are OpenAI's citations of addresses, here those of the
documents' texts in this gateway.
"""

from typing import Any
from urllib.parse import quote

import orjson

from api.answers.events import Citation, Done, Event, Retrieved, Token
from api.answers.showing import shown_citation
from api.chat.told import Piece, Told
from core.ids import new_id
from router.events import DONE, frame


class OpenAIVoice:
    """Tells one answer.

    Args:
        model: that was asked for.
        collection: whose documents answer.
        root: where clients reach this gateway; empty: nobody has said.
        created: seconds since the epoch.
        shows_usage: a stream ends with a chunk that holds the usage.
        extra: fields that the completion carries too.
    """

    def __init__(
        self, model: str, collection: str, root: str, created: int, *, shows_usage: bool, extra: dict[str, Any]
    ) -> None:
        self._model = model
        self._place = f"{root}/v1/collections/{quote(collection, safe='')}/documents"
        self._created = created
        self._shows_usage = shows_usage
        self._extra = extra
        self._id = new_id("chatcmpl")
        self._told = Told()

    def tell(self, event: Event) -> bytes:
        self._told.hear(event)
        match event:
            case Retrieved():
                return self._chunk({"role": "assistant", "content": ""})
            case Token(text):
                return self._chunk({"content": text})
            case Done():
                self._model = event.fallback or event.model or self._model
                return self._end(event)
        return b""

    def whole(self, done: Done) -> dict[str, Any]:
        message = {"role": "assistant", "content": done.answer, "refusal": None, **self._sources(done)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(done)}
        return {
            **self._head("chat.completion"),
            "model": done.fallback or done.model or self._model,
            "choices": [choice],
            "usage": done.whole_usage.as_openai(),
            **self._beside(done),
        }

    def broken(self, _status: int, error: dict[str, Any]) -> bytes:
        return frame(orjson.dumps({"error": error}))

    def _end(self, done: Done) -> bytes:
        parts = [self._chunk(self._sources(done), _finish_reason(done), **self._beside(done))]
        if self._shows_usage:
            usage = {**self._head("chat.completion.chunk"), "choices": [], "usage": done.whole_usage.as_openai()}
            parts.append(frame(orjson.dumps(usage)))
        return b"".join([*parts, frame(DONE)])

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **beside: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return frame(orjson.dumps({**self._head("chat.completion.chunk"), "choices": [choice], **beside}))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _sources(self, done: Done) -> dict[str, Any]:
        annotations = [self._annotation(piece, one) for piece in self._told.pieces for one in piece.citations]
        sources: dict[str, Any] = {
            "annotations": annotations,
            "citations": [shown_citation(citation) for citation in done.citations],
        }
        if done.unsupported:
            sources["unsupported"] = [{"start": start, "end": end} for start, end in done.unsupported]
        return sources

    def _annotation(self, piece: Piece, citation: Citation) -> dict[str, Any]:
        address = f"{self._place}/{citation.document_id}/content?version={citation.document_version}"
        cited = {"start_index": piece.start, "end_index": piece.end, "title": citation.filename, "url": address}
        return {"type": "url_citation", "url_citation": cited}

    def _beside(self, done: Done) -> dict[str, Any]:
        beside = {**self._extra, "degraded": done.degraded_reason is not None, "timings_ms": done.timings_ms}
        if done.degraded_reason is not None:
            beside["degraded_reason"] = done.degraded_reason
        return beside


def _finish_reason(done: Done) -> str:
    return "length" if done.cut else "stop"
