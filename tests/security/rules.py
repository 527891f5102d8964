"""What each route names: things in its path, its query and its body. A route that stands in no rule fails a test.

A name such as `collection` is a key of `Furnished.ids`.
"""

from collections.abc import Callable, Mapping
from typing import Any

Ids = Mapping[str, str]
Body = Callable[[Ids], dict[str, Any]]

_ADMIN = "/v1/admin"
_COLLECTION = "/v1/collections/{name}"
_DOCUMENT = _COLLECTION + "/documents/{document_id}"
_CONVERSATION = "/v1/conversations/{conversation_id}"
_RESPONSE = "/v1/responses/{response_id}"
_STORE = "/v1/vector_stores/{store_id}"
_FILE_BATCH = _STORE + "/file_batches/{batch_id}"
_LIMITS = _ADMIN + "/limits/{kind}/{subject_id:path}"

# By the beginning of a template: what its parameters name. The longest beginning counts.
PATHS: Mapping[str, Mapping[str, str]] = {
    _COLLECTION: {"name": "collection"},
    _DOCUMENT: {"name": "collection", "document_id": "document"},
    "/v1/jobs/{job_id}": {"job_id": "job"},
    _CONVERSATION: {"conversation_id": "conversation"},
    _CONVERSATION + "/items/{item_id}": {"conversation_id": "conversation", "item_id": "item"},
    _RESPONSE: {"response_id": "response"},
    "/v1/files/{file_id}": {"file_id": "file"},
    _STORE: {"store_id": "store"},
    _STORE + "/files/{file_id}": {"store_id": "store", "file_id": "file"},
    _FILE_BATCH: {"store_id": "store", "batch_id": "file batch"},
    "/v1/batches/{batch_id}": {"batch_id": "batch"},
    "/v1/usage/requests/{request_id}": {"request_id": "request"},
    _ADMIN + "/keys/{key_id}": {"key_id": "key"},
    _ADMIN + "/tenants/{tenant_id}": {"tenant_id": "tenant"},
    _ADMIN + "/teams/{team_id}": {"team_id": "team"},
    _ADMIN + "/users/{user_id}": {"user_id": "user"},
    _ADMIN + "/hooks/{hook_id}": {"hook_id": "hook"},
    _ADMIN + "/webhooks/{webhook_id}": {"webhook_id": "webhook"},
    _ADMIN + "/webhooks/{webhook_id}/deliveries/{delivery_id}": {"webhook_id": "webhook", "delivery_id": "delivery"},
    _LIMITS: {"kind": "kind", "subject_id:path": "subject"},
}

# Templates whose parameters name nothing of any tenant's: what is public, and what belongs to the house, which asks for
# the role admin (`tests/integration/identity/test_roles.py`).
NOBODYS = {
    "/v1/models/{model_id:path}",
    "/console/{path:path}",
    "/v1/session/oidc/{name}",
    "/v1/session/oidc/{name}/callback",
    _ADMIN + "/deployments/{name:path}",
    _ADMIN + "/experiments/{name}",
}

# Whose: everybody else in the same tenant is kept out as well.
PERSONAL = {"conversation", "item", "response", "batch"}

KINDS = ("key", "user", "team", "tenant")


def named_in(template: str) -> Mapping[str, str] | None:
    """What the parameters of a template name; None: there is no rule for it."""
    if "{" not in template or template in NOBODYS:
        return {}
    fitting = [known for known in PATHS if template == known or template.startswith(known + "/")]
    rule = PATHS[max(fitting, key=len)] if fitting else {}
    return rule if all("{" + name + "}" in template for name in rule) and template.count("{") == len(rule) else None


def _nothing(_: Ids) -> dict[str, Any]:
    return {}


_CHAT = {"model": "mock", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 3}
_SAID = {"type": "message", "role": "user", "content": "mine"}
_SEARCHING = {"model": "mock", "input": "Go on.", "max_output_tokens": 3}

# A body that the route would take from the owner of what its path names, so that nothing but the id is wrong.
SENT: Mapping[tuple[str, str], Body] = {
    ("PATCH", _COLLECTION): lambda _: {"description": "mine"},
    ("POST", _COLLECTION + "/reindex"): lambda _: {"embedding_model": "space", "chunking": {"characters": 500}},
    ("PUT", _COLLECTION + "/evaluation"): lambda _: {
        "queries": [{"id": "q", "text": "mine"}],
        "qrels": [{"query_id": "q", "document": "mine.txt"}],
    },
    ("PATCH", _DOCUMENT): lambda _: {"metadata": {"mine": True}},
    ("POST", _CONVERSATION): lambda _: {"title": "mine"},
    ("POST", _CONVERSATION + "/items"): lambda _: {"items": [_SAID]},
    ("POST", _STORE): lambda _: {"metadata": {"mine": "yes"}},
    ("POST", _STORE + "/search"): lambda _: {"query": "fares"},
    ("POST", _STORE + "/files"): lambda ids: {"file_id": ids["file"]},
    ("POST", _STORE + "/files/{file_id}"): lambda _: {"attributes": {"mine": True}},
    ("POST", _STORE + "/file_batches"): lambda ids: {"file_ids": [ids["file"]]},
    ("PATCH", _ADMIN + "/keys/{key_id}"): lambda _: {"name": "mine"},
    ("PATCH", _ADMIN + "/tenants/{tenant_id}"): lambda _: {"name": "mine"},
    ("PATCH", _ADMIN + "/teams/{team_id}"): lambda _: {"name": "mine"},
    ("PATCH", _ADMIN + "/users/{user_id}"): lambda _: {"name": "mine"},
    ("PUT", _LIMITS): lambda _: {"rpm": 1},
}

# Bodies that name things. Each is sent with another tenant's ids, and with ids of nothing: both are refused alike.
NAMING: Mapping[tuple[str, str], tuple[Body, ...]] = {
    ("POST", "/v1/chat/completions"): (
        lambda ids: {**_CHAT, "retrieval": {"collection": ids["collection"]}},
        lambda ids: {**_CHAT, "retrieval": {"collection": ids["collection's id"]}},
        lambda ids: {**_CHAT, "conversation_id": ids["conversation"]},
    ),
    ("POST", "/v1/messages"): (lambda ids: {**_CHAT, "retrieval": {"collection": ids["collection"]}},),
    ("POST", "/v1/responses"): (
        lambda ids: {**_SEARCHING, "previous_response_id": ids["response"]},
        lambda ids: {**_SEARCHING, "conversation": ids["conversation"]},
        lambda ids: {**_SEARCHING, "conversation": {"id": ids["conversation"]}},
        lambda ids: {**_SEARCHING, "tools": [{"type": "file_search", "vector_store_ids": [ids["store"]]}]},
    ),
    ("POST", "/v1/ingest"): (
        lambda ids: {"collection": ids["collection"], "documents": [{"title": "mine", "content": "mine"}]},
        lambda ids: {"collection": ids["collection's id"], "documents": [{"title": "mine", "content": "mine"}]},
        lambda ids: {"collection": ids["store"], "documents": [{"title": "mine", "content": "mine"}]},
    ),
    ("POST", "/v1/ingest/batch"): (
        lambda ids: {"collection": ids["collection"], "items": [{"title": "mine", "content": "mine"}]},
    ),
    ("POST", "/v1/search"): (
        lambda ids: {"query": "fares", "collection": ids["collection"]},
        lambda ids: {"query": "fares", "collection": ids["collection's id"]},
    ),
    ("POST", "/v1/query"): (
        lambda ids: {"query": "fares", "collection": ids["collection"]},
        lambda ids: {"query": "fares", "collection": ids["collection's id"]},
    ),
    ("POST", "/v1/evals"): (
        lambda ids: {
            "collection": ids["collection"],
            "queries": [{"id": "q", "text": "fares"}],
            "qrels": [{"query_id": "q", "document": "a.txt"}],
        },
    ),
    ("POST", "/v1/vector_stores"): (lambda ids: {"name": "mine", "file_ids": [ids["file"]]},),
    ("POST", "/v1/batches"): (
        lambda ids: {
            "input_file_id": ids["batch file"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
    ),
    ("POST", "/v1/feedback"): (lambda ids: {"request_id": ids["request"], "rating": "down"},),
    ("POST", _ADMIN + "/keys"): (
        lambda ids: {"name": "mine", "tenant": ids["tenant"]},
        lambda ids: {"name": "mine", "tenant": ids["tenant's name"]},
        lambda ids: {"name": "mine", "user": ids["user"]},
        lambda ids: {"name": "mine", "team": ids["team"]},
    ),
    ("POST", _ADMIN + "/teams"): (lambda ids: {"name": "mine", "tenant": ids["tenant"]},),
    ("POST", _ADMIN + "/users"): (
        lambda ids: {"name": "mine", "tenant": ids["tenant"]},
        lambda ids: {"name": "mine", "team": ids["team"]},
    ),
    ("POST", _ADMIN + "/hooks"): (lambda ids: {"name": "mine", "tenant": ids["tenant"]},),
    ("POST", _ADMIN + "/webhooks"): (lambda ids: {"url": "http://127.0.0.1:9/mine", "tenant": ids["tenant"]},),
}

# Within the own store, team or user, with a part that is another's: method, template, the own ids that the path takes.
PARTLY: Mapping[tuple[str, str], tuple[Body, ...]] = {
    ("POST", _STORE + "/files"): (lambda ids: {"file_id": ids["file"]},),
    ("POST", _STORE + "/file_batches"): (
        lambda ids: {"file_ids": [ids["file"]]},
        lambda ids: {"files": [{"file_id": ids["file"]}]},
    ),
    ("PATCH", _ADMIN + "/users/{user_id}"): (lambda ids: {"team": ids["team"]},),
}

# Routes that take a body which names nothing of a tenant's.
NAMELESS: set[tuple[str, str]] = {
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/collections"),
    ("POST", "/v1/conversations"),
    ("POST", "/v1/files"),
    ("POST", "/v1/session"),
    ("POST", "/v1/hooks/ingest"),  # by its hook's signature: tests/integration/sources/test_hooks.py
    ("POST", _ADMIN + "/keys/{key_id}/rotate"),
    ("POST", _ADMIN + "/tenants"),
    ("POST", _ADMIN + "/deployments"),
    ("PATCH", _ADMIN + "/deployments/{name:path}"),
    ("PATCH", _ADMIN + "/experiments/{name}"),
}

# Query parameters that name a tenant's things, and where they stand; every other one is in PLAIN.
QUERIES: Mapping[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("GET", _ADMIN + "/keys"): (("tenant", "tenant"), ("after", "key")),
    ("GET", _ADMIN + "/teams"): (("tenant", "tenant"), ("after", "team")),
    ("GET", _ADMIN + "/users"): (("tenant", "tenant"), ("after", "user")),
    ("GET", _ADMIN + "/hooks"): (("tenant", "tenant"), ("after", "hook")),
    ("GET", _ADMIN + "/webhooks"): (("tenant", "tenant"), ("after", "webhook")),
    ("GET", _ADMIN + "/audit"): (("tenant", "tenant"),),
    ("GET", _ADMIN + "/tenants"): (("after", "tenant"),),
    ("DELETE", _ADMIN + "/cache"): (("tenant", "tenant"), ("collection", "collection"), ("key", "key")),
    ("GET", "/v1/collections"): (("after", "collection's id"),),
    ("GET", "/v1/conversations"): (("after", "conversation"),),
    ("GET", "/v1/files"): (("after", "file"),),
    ("GET", "/v1/vector_stores"): (("after", "store"), ("before", "store")),
    ("GET", "/v1/batches"): (("after", "batch"),),
    ("GET", "/v1/feedback"): (("collection", "collection"),),
}
PLAIN = {
    *("limit", "order", "status", "filename", "version", "readers", "include[]", "stream", "days", "route"),
    *("name", "from", "to", "group_by", "format", "rating", "model", "purpose", "filter", "return_to"),
}
_WITHIN = {"after", "before", "tenant", "hook"}  # behind an id in the path, or looked at below by a test of its own


def query_is_ruled(method: str, template: str, name: str) -> bool:
    """Whether a query parameter stands in some rule."""
    named = {name for name, _ in QUERIES.get((method, template), ())}
    return name in named or name in PLAIN or name in _WITHIN
