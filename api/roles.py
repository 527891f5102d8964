"""Who may call which route: the one table.

A route that stands nowhere in it answers nobody. A role is what a caller may do at most; a key's scopes may narrow it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from api.errors import NotAllowed, ScopeNotAllowed
from core.principal import Principal, Role


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route asks of its caller.

    Attributes:
        roles: those that may call it.
        scope: the word that a key with scopes must hold; None: no word is asked for.
    """

    roles: frozenset[Role]
    scope: str | None


RANK = {role: place for place, role in enumerate((Role.READER, Role.INGEST, Role.MEMBER, Role.MANAGER, Role.ADMIN))}

_ADMIN = frozenset({Role.ADMIN})
_MANAGE = _ADMIN | {Role.MANAGER}
_USE = _MANAGE | {Role.MEMBER}
_READ = _USE | {Role.READER}
_PUT = _USE | {Role.INGEST}
_ALL = frozenset(Role)

_COLLECTION = "/v1/collections/{name}"
_DOCUMENT = _COLLECTION + "/documents/{document_id}"
_CONVERSATION = "/v1/conversations/{conversation_id}"
_RESPONSE = "/v1/responses/{response_id}"
_FILE = "/v1/files/{file_id}"
_STORE = "/v1/vector_stores/{store_id}"
_BATCH = _STORE + "/file_batches/{batch_id}"
_KEY = "/v1/admin/keys/{key_id}"
_TENANT = "/v1/admin/tenants/{tenant_id}"
_TEAM = "/v1/admin/teams/{team_id}"
_USER = "/v1/admin/users/{user_id}"
_DEPLOYMENT = "/v1/admin/deployments/{name:path}"
_HOOK = "/v1/admin/hooks/{hook_id}"
_WEBHOOK = "/v1/admin/webhooks/{webhook_id}"
_LIMITS = "/v1/admin/limits/{kind}/{subject_id:path}"

# None: public.
ROUTES: Mapping[tuple[str, str], Rule | None] = {
    ("GET", "/health"): None,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/metrics"): None,
    ("GET", "/docs"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/"): None,  # the console's page and its files, which hold nothing of anybody
    ("GET", "/console/{path:path}"): None,
    ("POST", "/v1/session"): None,  # asks for a key itself, since it may stand in the body
    ("GET", "/v1/session"): Rule(_ALL, None),
    ("DELETE", "/v1/session"): Rule(_ALL, None),
    ("GET", "/v1/session/oidc"): None,
    ("GET", "/v1/session/oidc/{name}"): None,
    ("GET", "/v1/session/oidc/{name}/callback"): None,
    ("GET", "/status"): Rule(_ADMIN, "admin"),
    ("GET", "/v1/models"): Rule(_READ, "models"),
    ("GET", "/v1/models/{model_id:path}"): Rule(_READ, "models"),
    ("POST", "/v1/chat/completions"): Rule(_USE, "chat"),
    ("POST", "/v1/completions"): Rule(_USE, "chat"),
    ("POST", "/v1/messages"): Rule(_USE, "chat"),
    ("POST", "/v1/responses"): Rule(_USE, "chat"),
    ("GET", _RESPONSE): Rule(_USE, "chat"),
    ("DELETE", _RESPONSE): Rule(_USE, "chat"),
    ("POST", _RESPONSE + "/cancel"): Rule(_USE, "chat"),
    ("GET", _RESPONSE + "/input_items"): Rule(_USE, "chat"),
    ("POST", "/v1/embeddings"): Rule(_USE, "embeddings"),
    ("POST", "/v1/rerank"): Rule(_USE, "embeddings"),
    ("POST", "/v1/collections"): Rule(_USE, "collections:write"),
    ("GET", "/v1/collections"): Rule(_READ, "collections:read"),
    ("GET", _COLLECTION): Rule(_ALL, "collections:read"),  # who puts documents in asks first whether it is there
    ("PATCH", _COLLECTION): Rule(_USE, "collections:write"),
    ("DELETE", _COLLECTION): Rule(_USE, "collections:write"),
    ("GET", _COLLECTION + "/prompts"): Rule(_USE, "collections:read"),
    ("GET", _COLLECTION + "/export"): Rule(_USE, "collections:read"),
    ("POST", _COLLECTION + "/reindex"): Rule(_USE, "collections:write"),
    ("POST", _COLLECTION + "/reindex/retry"): Rule(_USE, "collections:write"),
    ("DELETE", _COLLECTION + "/reindex"): Rule(_USE, "collections:write"),
    # It is searched as by a manager, and says what it found.
    ("PUT", _COLLECTION + "/evaluation"): Rule(_MANAGE, "collections:write"),
    ("GET", _COLLECTION + "/evaluation"): Rule(_MANAGE, "collections:read"),
    ("DELETE", _COLLECTION + "/evaluation"): Rule(_MANAGE, "collections:write"),
    ("GET", _COLLECTION + "/evaluation/results"): Rule(_MANAGE, "collections:read"),
    ("GET", _COLLECTION + "/documents"): Rule(_READ, "collections:read"),
    ("GET", _DOCUMENT): Rule(_READ, "collections:read"),
    ("PATCH", _DOCUMENT): Rule(_USE, "collections:write"),
    ("DELETE", _DOCUMENT): Rule(_USE, "collections:write"),
    ("GET", _DOCUMENT + "/content"): Rule(_READ, "collections:read"),
    ("GET", _DOCUMENT + "/source"): Rule(_READ, "collections:read"),
    ("POST", "/v1/ingest"): Rule(_PUT, "ingest"),
    ("POST", "/v1/ingest/batch"): Rule(_PUT, "ingest"),
    ("POST", "/v1/hooks/ingest"): None,  # asks for a signature itself
    ("GET", "/v1/jobs/{job_id}"): Rule(_PUT, "jobs"),
    ("GET", "/v1/jobs/{job_id}/events"): Rule(_PUT, "jobs"),
    ("POST", "/v1/jobs/{job_id}/retry"): Rule(_USE, "jobs"),
    ("DELETE", "/v1/jobs/{job_id}"): Rule(_USE, "jobs"),
    ("POST", "/v1/search"): Rule(_READ, "search"),
    ("POST", "/v1/evals"): Rule(_USE, "search"),
    ("POST", "/v1/query"): Rule(_READ, "query"),
    ("GET", "/v1/query/ws"): Rule(_READ, "query"),  # a socket is opened by GET
    ("POST", "/v1/conversations"): Rule(_READ, "conversations:write"),
    ("GET", "/v1/conversations"): Rule(_READ, "conversations:read"),
    ("GET", _CONVERSATION): Rule(_READ, "conversations:read"),
    ("POST", _CONVERSATION): Rule(_READ, "conversations:write"),
    ("DELETE", _CONVERSATION): Rule(_READ, "conversations:write"),
    ("GET", _CONVERSATION + "/export"): Rule(_READ, "conversations:read"),
    ("POST", _CONVERSATION + "/items"): Rule(_READ, "conversations:write"),
    ("GET", _CONVERSATION + "/items"): Rule(_READ, "conversations:read"),
    ("GET", _CONVERSATION + "/items/{item_id}"): Rule(_READ, "conversations:read"),
    ("DELETE", _CONVERSATION + "/items/{item_id}"): Rule(_READ, "conversations:write"),
    ("POST", "/v1/files"): Rule(_PUT, "files:write"),
    ("GET", "/v1/files"): Rule(_READ, "files:read"),
    ("GET", _FILE): Rule(_READ, "files:read"),
    ("DELETE", _FILE): Rule(_USE, "files:write"),
    ("GET", _FILE + "/content"): Rule(_READ, "files:read"),
    ("POST", "/v1/vector_stores"): Rule(_USE, "collections:write"),
    ("GET", "/v1/vector_stores"): Rule(_READ, "collections:read"),
    ("GET", _STORE): Rule(_ALL, "collections:read"),
    ("POST", _STORE): Rule(_USE, "collections:write"),
    ("DELETE", _STORE): Rule(_USE, "collections:write"),
    ("POST", _STORE + "/search"): Rule(_READ, "search"),
    ("POST", _STORE + "/files"): Rule(_PUT, "ingest"),
    ("GET", _STORE + "/files"): Rule(_READ, "collections:read"),
    ("GET", _STORE + "/files/{file_id}"): Rule(_ALL, "collections:read"),  # who puts one in asks how far it is
    ("POST", _STORE + "/files/{file_id}"): Rule(_USE, "collections:write"),
    ("DELETE", _STORE + "/files/{file_id}"): Rule(_USE, "collections:write"),
    ("GET", _STORE + "/files/{file_id}/content"): Rule(_READ, "collections:read"),
    ("POST", _STORE + "/file_batches"): Rule(_PUT, "ingest"),
    ("GET", _BATCH): Rule(_ALL, "collections:read"),
    ("POST", _BATCH + "/cancel"): Rule(_USE, "jobs"),
    ("GET", _BATCH + "/files"): Rule(_READ, "collections:read"),
    ("POST", "/v1/batches"): Rule(_USE, "batches"),
    ("GET", "/v1/batches"): Rule(_USE, "batches"),
    ("GET", "/v1/batches/{batch_id}"): Rule(_USE, "batches"),
    ("POST", "/v1/batches/{batch_id}/cancel"): Rule(_USE, "batches"),
    ("POST", "/v1/admin/keys"): Rule(_MANAGE, "admin"),
    ("GET", "/v1/admin/keys"): Rule(_MANAGE, "admin"),
    ("GET", _KEY): Rule(_MANAGE, "admin"),
    ("PATCH", _KEY): Rule(_MANAGE, "admin"),
    ("DELETE", _KEY): Rule(_MANAGE, "admin"),
    ("POST", _KEY + "/rotate"): Rule(_MANAGE, "admin"),
    ("POST", "/v1/admin/tenants"): Rule(_ADMIN, "admin"),
    ("GET", "/v1/admin/tenants"): Rule(_MANAGE, "admin"),
    ("GET", _TENANT): Rule(_MANAGE, "admin"),
    ("PATCH", _TENANT): Rule(_ADMIN, "admin"),
    ("DELETE", _TENANT): Rule(_ADMIN, "admin"),
    ("POST", "/v1/admin/teams"): Rule(_MANAGE, "admin"),
    ("GET", "/v1/admin/teams"): Rule(_MANAGE, "admin"),
    ("GET", _TEAM): Rule(_MANAGE, "admin"),
    ("PATCH", _TEAM): Rule(_MANAGE, "admin"),
    ("POST", "/v1/admin/users"): Rule(_MANAGE, "admin"),
    ("GET", "/v1/admin/users"): Rule(_MANAGE, "admin"),
    ("GET", _USER): Rule(_MANAGE, "admin"),
    ("PATCH", _USER): Rule(_MANAGE, "admin"),
    ("DELETE", _USER): Rule(_MANAGE, "admin"),
    ("GET", _LIMITS): Rule(_MANAGE, "admin"),
    ("PUT", _LIMITS): Rule(_MANAGE, "admin"),
    ("DELETE", _LIMITS): Rule(_MANAGE, "admin"),
    ("GET", "/v1/admin/audit"): Rule(_MANAGE, "admin"),
    ("POST", "/v1/admin/hooks"): Rule(_MANAGE, "admin"),
    ("GET", "/v1/admin/hooks"): Rule(_MANAGE, "admin"),
    ("GET", _HOOK): Rule(_MANAGE, "admin"),
    ("DELETE", _HOOK): Rule(_MANAGE, "admin"),
    ("POST", "/v1/admin/webhooks"): Rule(_MANAGE, "admin"),
    ("GET", "/v1/admin/webhooks"): Rule(_MANAGE, "admin"),
    ("GET", _WEBHOOK): Rule(_MANAGE, "admin"),
    ("DELETE", _WEBHOOK): Rule(_MANAGE, "admin"),
    ("GET", _WEBHOOK + "/deliveries"): Rule(_MANAGE, "admin"),
    ("POST", _WEBHOOK + "/deliveries/{delivery_id}/redeliver"): Rule(_MANAGE, "admin"),
    ("DELETE", "/v1/admin/cache"): Rule(_MANAGE, "admin"),
    ("POST", "/v1/admin/deployments"): Rule(_ADMIN, "admin"),
    ("GET", "/v1/admin/deployments"): Rule(_ADMIN, "admin"),
    ("POST", "/v1/admin/deployments/reload"): Rule(_ADMIN, "admin"),
    ("GET", _DEPLOYMENT): Rule(_ADMIN, "admin"),
    ("PATCH", _DEPLOYMENT): Rule(_ADMIN, "admin"),
    ("DELETE", _DEPLOYMENT): Rule(_ADMIN, "admin"),
    ("GET", "/v1/admin/experiments"): Rule(_ADMIN, "admin"),
    ("GET", "/v1/admin/experiments/{name}"): Rule(_ADMIN, "admin"),
    ("PATCH", "/v1/admin/experiments/{name}"): Rule(_ADMIN, "admin"),
    ("GET", "/v1/admin/engines"): Rule(_ADMIN, "admin"),
    ("POST", "/v1/feedback"): Rule(_READ, "feedback:write"),  # whoever may ask
    ("GET", "/v1/feedback"): Rule(_MANAGE, "feedback:read"),
    ("GET", "/v1/feedback/summary"): Rule(_MANAGE, "feedback:read"),
    ("GET", "/v1/admin/sla"): Rule(_ADMIN, "admin"),
    ("GET", "/v1/usage"): Rule(_ALL, "usage"),
    ("GET", "/v1/usage/limits"): Rule(_ALL, "usage"),
    ("GET", "/v1/usage/requests/{request_id}"): Rule(_ALL, "usage"),
    ("GET", "/v1/admin/usage"): Rule(_ADMIN, "admin"),
}

_PRIVATE = Rule(frozenset(), None)
WORDS = frozenset(rule.scope for rule in ROUTES.values() if rule is not None and rule.scope is not None)
SCOPES = WORDS | {word.partition(":")[0] for word in WORDS}  # `collections` holds `collections:read` and `:write`
TEMPLATES = frozenset(template for (_, template), rule in ROUTES.items() if rule is not None)


def require(principal: Principal, method: str, template: str) -> None:
    """Let the caller pass to a route, named by its template.

    Raises:
        NotAllowed: the role does not reach it.
        ScopeNotAllowed: the role does, the key's scopes don't.
        LookupError: the route stands nowhere in the table; a defect, so nobody passes.
    """
    rule = ROUTES[(method, template)]
    if rule is None:
        return
    if principal.role not in rule.roles:
        allowed = " or ".join(role for role in Role if role in rule.roles)
        raise NotAllowed(f"this needs a key of the role {allowed}; yours has the role {principal.role}")
    if rule.scope is not None and principal.scopes is not None and not holds(principal.scopes, rule.scope):
        raise ScopeNotAllowed(f"this needs the scope {rule.scope}; yours are {', '.join(sorted(principal.scopes))}")


def is_public(method: str, path: str) -> bool:
    """Whether a route without parameters is public; what stands nowhere in the table is not."""
    return ROUTES.get((method, path), _PRIVATE) is None


def holds(scopes: frozenset[str], word: str) -> bool:
    """Whether scopes hold a word: itself, or the part before its colon."""
    return word in scopes or word.partition(":")[0] in scopes
