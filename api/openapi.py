"""How /openapi.json describes the model routes, which FastAPI does not know: their bodies are forwarded, not parsed."""

from typing import Any

from api.fields import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    EMBEDDING_FIELDS,
    MESSAGE_FIELDS,
    OWN_FIELDS,
    RERANK_FIELDS,
    RESPONSE_FIELDS,
)

_MODEL = {"type": "string", "description": "A model group of GET /v1/models."}
_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_TEXT_OR_LIST = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]}


def model_paths() -> dict[str, Any]:
    """The entries of `paths`."""
    return {
        "/v1/chat/completions": _path(
            "Answer a conversation, in one piece or as a stream of server-sent events.",
            "OpenAI",
            {"model": _MODEL, "messages": _MESSAGES},
            CHAT_FIELDS | OWN_FIELDS,
        ),
        "/v1/completions": _path(
            "Continue a text. Engines of your own only.",
            "OpenAI",
            {"model": _MODEL, "prompt": _TEXT_OR_LIST},
            COMPLETION_FIELDS,
        ),
        "/v1/embeddings": _path(
            "Embed one text or a list of texts, in the order they came.",
            "OpenAI",
            {"model": _MODEL, "input": _TEXT_OR_LIST},
            EMBEDDING_FIELDS,
        ),
        "/v1/rerank": _path(
            "Rank documents by a query, the best first. Engines of your own only.",
            "Cohere",
            {
                "model": _MODEL,
                "query": {"type": "string", "minLength": 1},
                "documents": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"anyOf": [{"type": "string"}, {"type": "object"}]},
                },
            },
            RERANK_FIELDS,
        ),
        "/v1/messages": _path(
            "Answer a conversation in Anthropic's form. Engines of your own only.",
            "Anthropic",
            {"model": _MODEL, "messages": _MESSAGES, "max_tokens": {"type": "integer", "minimum": 1}},
            MESSAGE_FIELDS | {"retrieval"},
        ),
        "/v1/responses": _path(
            "Answer, going on from a conversation or an earlier response, with functions and documents.",
            "OpenAI",
            {"model": _MODEL},
            RESPONSE_FIELDS,
        ),
    }


def _path(summary: str, tag: str, required: dict[str, dict[str, Any]], fields: frozenset[str]) -> dict[str, Any]:
    properties = {name: required.get(name, {}) for name in sorted(fields)}
    schema = {"type": "object", "required": sorted(required), "properties": properties}
    return {
        "post": {
            "summary": summary,
            "tags": [tag],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"200": {"description": "The answer, or its stream."}},
        }
    }
