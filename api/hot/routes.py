"""The model routes: what each takes, and in whose form it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.errors import RequestInvalid
from api.fields import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    EMBEDDING_FIELDS,
    MESSAGE_FIELDS,
    OWN_FIELDS,
    RERANK_FIELDS,
    RESPONSE_FIELDS,
)
from router.call import Operation


@dataclass(frozen=True, slots=True)
class HotRoute:
    """One route.

    Attributes:
        path: as clients name it; the label of its metrics and of its ledger lines.
        fields: that reach an upstream.
        check: looks at what must be there. Raises: RequestInvalid.
        anthropic: errors take Anthropic's form.
        composed: the answer is no upstream's own, but made of one by `api.responses`, which reads the body too.
        own: those of `OWN_FIELDS` that it takes; with one of them `api.chat` answers.
    """

    path: str
    kind: Operation
    fields: frozenset[str]
    check: Callable[[Mapping[str, Any]], None]
    anthropic: bool = False
    composed: bool = False
    own: frozenset[str] = frozenset()


def _messages(body: Mapping[str, Any]) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestInvalid("messages must be a list with at least one message", "messages")


def _prompt(body: Mapping[str, Any]) -> None:
    if not body.get("prompt"):
        raise RequestInvalid("prompt must be a text, a list of texts, or token ids", "prompt")


def _input(body: Mapping[str, Any]) -> None:
    if not body.get("input"):
        raise RequestInvalid("input must be a text or a list of texts, none of them missing", "input")


def _documents(body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("query"), str) or not body["query"]:
        raise RequestInvalid("query must be a text", "query")
    if not isinstance(body.get("documents"), list) or not body["documents"]:
        raise RequestInvalid("documents must be a list with at least one text", "documents")


def _anything(body: Mapping[str, Any]) -> None:
    """Whoever answers looks."""


def _anthropic(body: Mapping[str, Any]) -> None:
    _messages(body)
    max_tokens = body.get("max_tokens")
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise RequestInvalid("max_tokens is missing: Anthropic's form asks for a whole number from 1", "max_tokens")


ROUTES: Mapping[str, HotRoute] = {
    route.path: route
    for route in (
        HotRoute("/v1/chat/completions", "chat.completions", CHAT_FIELDS, _messages, own=OWN_FIELDS),
        HotRoute("/v1/completions", "completions", COMPLETION_FIELDS, _prompt),
        HotRoute("/v1/embeddings", "embeddings", EMBEDDING_FIELDS, _input),
        HotRoute("/v1/rerank", "rerank", RERANK_FIELDS, _documents),
        HotRoute(
            "/v1/messages",
            "messages",
            MESSAGE_FIELDS,
            _anthropic,
            anthropic=True,
            own=frozenset({"retrieval"}),
        ),
        HotRoute("/v1/responses", "chat.completions", RESPONSE_FIELDS, _anything, composed=True),
    )
}
