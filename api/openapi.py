"""Descriptions of bodies that are forwarded rather than parsed, for /openapi.json."""

from typing import Any

from api.fields import CHAT_FIELDS, EMBEDDING_FIELDS


def _body(required: dict[str, dict[str, Any]], fields: frozenset[str]) -> dict[str, Any]:
    properties = {name: required.get(name, {}) for name in sorted(fields)}
    schema = {"type": "object", "required": sorted(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


CHAT_BODY = _body(
    {
        "model": {"type": "string", "description": "A model group of GET /v1/models."},
        "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
    },
    CHAT_FIELDS,
)
EMBEDDING_BODY = _body(
    {
        "model": {"type": "string", "description": "An embedding model of GET /v1/models."},
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    },
    EMBEDDING_FIELDS,
)
