"""What FastAPI does not know of /openapi.json: model routes, answers, errors, and who may call."""

from collections.abc import Mapping
from typing import Any

from api.answer_forms import STREAMED, described
from api.fields import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    EMBEDDING_FIELDS,
    MESSAGE_FIELDS,
    OWN_FIELDS,
    RERANK_FIELDS,
    RESPONSE_FIELDS,
)
from api.login.guard import COOKIE
from api.roles import ROUTES

_ERROR = {
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {"type": "string"},
        "type": {"type": "string"},
        "param": {"type": ["string", "null"], "description": "The field at fault."},
        "code": {"type": ["string", "integer", "null"]},
    },
}
_SCHEMAS = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _ERROR}},
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {"type": {"const": "error"}, "error": _ERROR},
    },
}
_RETRY = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
_REFUSED = "The request, its caller, or a limit does not allow it."
_FAILED = "A part or a model could not answer."
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JSON Web Token."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Of POST /v1/session."},
}
# Who makes something, and what of the answer names it in the paths below; `id`, where nothing is said.
_MAKERS = {
    "/v1/collections": "name",
    "/v1/ingest": "job_id",
    **dict.fromkeys(("/v1/conversations", "/v1/files", "/v1/vector_stores", "/v1/batches", "/v1/responses"), "id"),
    **{f"/v1/admin/{kind}": "id" for kind in ("keys", "tenants", "teams", "users", "hooks", "webhooks", "deployments")},
}
_FOUND_AT = {"/v1/ingest": "/v1/jobs"}
_UNTRUE = ("HTTPValidationError", "ValidationError")  # FastAPI's own answer to malformed requests, which is not ours
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


def complete(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The description with the model routes, forms of answers and errors, and what each operation asks of its caller.

    Returns: a copy; each operation names its refusals as `4XX` and `5XX`, and public ones have no `security`.
    """
    public = {(method.lower(), path.replace(":path", "")) for (method, path), rule in ROUTES.items() if rule is None}
    paths = {
        path: {method: _completed(method, path, one, public) for method, one in methods.items()}
        for path, methods in {**model_paths(), **schema["paths"]}.items()
    }
    answers, forms = described()
    for (method, path), answer in answers.items():
        kinds = {"application/json": {"schema": answer}}
        if (method, path) in STREAMED:
            kinds["text/event-stream"] = {"schema": {"type": "string"}}
        _say(paths[path][method], kinds)
    for maker, named in _MAKERS.items():
        _link(paths, maker, named)
    components = dict(schema["components"])
    components["schemas"] = {
        **{name: one for name, one in components["schemas"].items() if name not in _UNTRUE},
        **forms,
        **_SCHEMAS,
    }
    components["responses"] = {
        f"{form}{name}": {
            "description": text,
            "headers": _RETRY,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{form}Error"}}},
        }
        for form in ("", "Anthropic")
        for name, text in (("Refused", _REFUSED), ("Failed", _FAILED))
    }
    components["securitySchemes"] = _SCHEMES
    security: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
    return {**schema, "paths": paths, "components": components, "security": security}


def _link(paths: dict[str, Any], maker: str, named: str) -> None:
    """Say of what a maker's answer names which operations take it."""
    below = f"{_FOUND_AT.get(maker, maker)}/{{"
    links = {}
    for path, methods in paths.items():
        if path.startswith(below):
            parameter = path.removeprefix(below).partition("}")[0]
            for operation in methods.values():
                name = operation["operationId"]
                links[name] = {"operationId": name, "parameters": {parameter: f"$response.body#/{named}"}}
    made = paths[maker]["post"]["responses"]
    status = _success(made)
    made[status] = {**made[status], "links": links}


def _say(operation: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Describe what an operation answers where it succeeds, by media type."""
    made = operation["responses"]
    status = _success(made)
    made[status] = {**made[status], "content": kinds}


def _success(responses: Mapping[str, Any]) -> str:
    return next(status for status in ("200", "201", "202") if status in responses)


def _completed(method: str, path: str, operation: Mapping[str, Any], public: set[tuple[str, str]]) -> dict[str, Any]:
    form = "Anthropic" if path == "/v1/messages" else ""
    responses = {
        **{status: one for status, one in operation["responses"].items() if status != "422"},
        "4XX": {"$ref": f"#/components/responses/{form}Refused"},
        "5XX": {"$ref": f"#/components/responses/{form}Failed"},
    }
    open_to_all: dict[str, Any] = {"security": []} if (method, path) in public else {}
    return {**operation, "responses": responses, **open_to_all}


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
