"""The table of roles against the whole application: every route, every role, by real requests."""

import re

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api.app import create_app
from api.hot.routes import ROUTES as HOT
from api.roles import ROUTES, WORDS, Rule
from api.settings import ApiSettings
from core.principal import Role
from tests.support.gate import Gate


def routes_of_the_application() -> set[tuple[str, str]]:
    """Method and template of every route, the documentation's too."""
    found = {
        (method, context.path)
        for context in iter_route_contexts(create_app(ApiSettings()).routes)
        for method in context.methods or ()
        if method != "HEAD"
    }
    return found | {("POST", path) for path in HOT}


def test_every_route_stands_in_the_table_and_every_line_of_it_is_a_route() -> None:
    assert routes_of_the_application() == set(ROUTES)
    assert len(ROUTES) > 50


def test_only_what_tells_no_secret_is_public() -> None:
    public = {template for (_, template), rule in ROUTES.items() if rule is None}
    assert {template for template in public if template.startswith("/v1")} == SIGNING_IN | {SIGNED[1]}


def test_every_route_asks_for_a_scope_but_those_of_the_own_session() -> None:
    assert {(method, template) for method, template, rule in PRIVATE if rule.scope is None} == OWN_SESSION


def test_the_scopes_are_the_documented_ones() -> None:
    expected = {
        "admin",
        "batches",
        "chat",
        "collections:read",
        "collections:write",
        "conversations:read",
        "conversations:write",
        "embeddings",
        "feedback:read",
        "feedback:write",
        "files:read",
        "files:write",
        "ingest",
        "jobs",
        "models",
        "query",
        "search",
        "usage",
    }
    assert expected == WORDS


def path_of(template: str) -> str:
    """A path that the template matches and that names nothing which exists."""
    return re.sub(r"\{[^}]*\}", "none", template.replace("{kind}", "key"))


def says(answer: httpx.Response, code: str, kind: str) -> bool:
    """Whether an error has this code, or, in Anthropic's form, which has none, this type."""
    error = answer.json()["error"]
    return bool(error["type"] == kind and error.get("code", code) == code)


SIGNING_IN = {"/v1/session", "/v1/session/oidc", "/v1/session/oidc/{name}", "/v1/session/oidc/{name}/callback"}
SIGNED = ("POST", "/v1/hooks/ingest")  # which asks for a signature
READS = {"models", "collections:read", "files:read", "search", "query", "usage"}
CONVERSATIONS = {"conversations:read", "conversations:write"}
PUTTING = (
    *("/v1/ingest", "/v1/ingest/batch", "/v1/files"),
    *("/v1/vector_stores/{store_id}/files", "/v1/vector_stores/{store_id}/file_batches"),
)
OWN_SESSION = {("GET", "/v1/session"), ("DELETE", "/v1/session")}
_STORE = "/v1/vector_stores/{store_id}"
_WHOLE = ("/v1/admin/deployments", "/v1/admin/engines", "/v1/admin/experiments", "/v1/admin/sla")
PRIVATE = [(method, template, rule) for (method, template), rule in ROUTES.items() if rule is not None]


@pytest.fixture
async def keys(light_gate: Gate) -> dict[Role, str]:
    return {role: (await light_gate.key(role.value))["key"] for role in Role}


async def test_no_route_answers_without_a_key_unless_it_is_public(light_gate: Gate) -> None:
    for (method, template), rule in ROUTES.items():
        answer = await light_gate.client.request(method, path_of(template))
        if template in ("/docs", "/openapi.json"):
            assert answer.status_code == 200, template
        if (method, template) == SIGNED:
            assert answer.status_code == 401
            assert says(answer, "signature_refused", "authentication_error")
        elif rule is None and (method, template) != ("POST", "/v1/session"):  # which asks for a key itself
            assert answer.status_code not in (401, 403), template
        else:
            assert answer.status_code == 401, (method, template)
            assert says(answer, "invalid_api_key", "authentication_error")


async def test_each_role_reaches_what_the_table_allows_and_nothing_else(
    light_gate: Gate, keys: dict[Role, str]
) -> None:
    reached = 0
    for method, template, rule in PRIVATE:
        for role in Role:
            answer = await light_gate.call(method, path_of(template), keys[role])
            if role in rule.roles:
                reached += 1
                assert answer.status_code not in (401, 403, 404, 405) or _names_nothing(answer.json()), (template, role)
            else:
                assert answer.status_code == 403, (method, template, role)
                assert says(answer, "role_not_allowed", "permission_error")
    assert reached == sum(len(rule.roles) for _, _, rule in PRIVATE)


def _names_nothing(body: dict[str, dict[str, str]]) -> bool:
    """The route answered: what the path names is not there."""
    return body["error"]["code"].endswith("_not_found")


async def test_each_route_asks_for_its_scope(light_gate: Gate) -> None:
    wide = {word: (await light_gate.key("admin", scopes=[word]))["key"] for word in WORDS}
    for method, template, rule in PRIVATE:
        if rule.scope is None:
            continue
        other = next(word for word in sorted(WORDS) if word != rule.scope)
        held = await light_gate.call(method, path_of(template), wide[rule.scope])
        assert held.status_code not in (401, 403), (method, template)
        refused = await light_gate.call(method, path_of(template), wide[other])
        assert refused.status_code == 403, (method, template)
        assert says(refused, "scope_not_allowed", "permission_error")


async def test_a_wide_scope_holds_its_parts(light_gate: Gate) -> None:
    key = (await light_gate.key(scopes=["collections"]))["key"]
    assert (await light_gate.call("GET", "/v1/collections", key)).status_code != 403
    assert (await light_gate.call("POST", "/v1/collections", key, json={"name": "a"})).status_code != 403
    assert (await light_gate.call("GET", "/v1/models", key)).status_code == 403


@pytest.mark.parametrize(
    ("role", "reached"),
    [
        (Role.READER, READS | CONVERSATIONS | {"feedback:write"}),
        (Role.INGEST, {"ingest", "jobs", "usage", "collections:read", "files:write"}),
        (Role.MEMBER, WORDS - {"admin", "feedback:read"}),
        (Role.MANAGER, WORDS),
    ],
)
def test_what_a_role_is_for(role: Role, reached: set[str]) -> None:
    assert {rule.scope for _, _, rule in PRIVATE if role in rule.roles} - {None} == reached


def test_readers_and_ingesters_change_nothing_else() -> None:
    changing = {
        (role, template)
        for method, template, rule in PRIVATE
        for role in (Role.READER, Role.INGEST)
        if method != "GET" and role in rule.roles
    }
    asking = {(Role.READER, path) for path in ("/v1/search", "/v1/query", f"{_STORE}/search")}
    putting = {(Role.INGEST, path) for path in PUTTING}
    signing_out = {(role, "/v1/session") for role in (Role.READER, Role.INGEST)}
    own = {(Role.READER, template) for _, template, rule in PRIVATE if rule.scope == "conversations:write"}
    rating = {(Role.READER, "/v1/feedback")}
    assert changing == asking | signing_out | own | putting | rating


def test_only_admins_change_tenants_and_deployments_and_see_every_tenants_usage() -> None:
    reserved = {(method, template) for method, template in ROUTES if template.startswith(_WHOLE)}
    reserved |= {("POST", "/v1/admin/tenants"), ("GET", "/v1/admin/usage"), ("GET", "/status")}
    reserved |= {(method, "/v1/admin/tenants/{tenant_id}") for method in ("PATCH", "DELETE")}
    assert {(method, template) for method, template, rule in PRIVATE if rule.roles == {Role.ADMIN}} == reserved


def test_admins_reach_everything_and_the_roles_widen_step_by_step() -> None:
    rules: list[Rule] = [rule for _, _, rule in PRIVATE]
    assert all(Role.ADMIN in rule.roles for rule in rules)
    assert all(Role.MANAGER in rule.roles for rule in rules if Role.MEMBER in rule.roles)
    assert all(Role.MEMBER in rule.roles for rule in rules if rule.roles & {Role.READER, Role.INGEST})


async def test_a_key_that_makes_stores_puts_no_files_into_them(light_gate: Gate) -> None:
    key = (await light_gate.key(scopes=["collections:write"]))["key"]
    refused = await light_gate.call("POST", "/v1/vector_stores", key, json={"name": "a", "file_ids": ["file-none"]})
    assert refused.status_code == 403, refused.text
    assert "ingest" in refused.json()["error"]["message"]
