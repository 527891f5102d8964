"""Mistakes that others made and published in 2025 and 2026, replayed here: would Stoker make them?

Each test carries the identifiers of its advisories in its name or, where many tell of one mistake, in its first lines.
All were looked up in November 2026: most in GitHub's Advisory Database (https://github.com/advisories/GHSA-...), eight
in their projects' issues and files alone. Over the wire: `test_wire.py`. Versions below which a library of ours
has one: `test_supply_chain.py`.
"""

import ast
import functools
import hashlib
import json
import time
import zlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from pydantic import ValidationError
from sqlalchemy import event

from api.answers.templates import check_template, filled
from api.app import create_app
from api.caching.name import name_of
from api.errors import RequestInvalid
from api.fields import CHAT_FIELDS, sort_fields
from api.issuers import Issuer
from api.keytext import new_text
from api.settings import ApiSettings
from core.principal import Principal, Role
from core.reach import ANYWHERE
from inference.settings import EmbeddingSettings, VllmSettings
from retrieval.errors import AddressRefused, DocumentRejected, FetchFailed
from retrieval.expression import Scope, parse_filter
from retrieval.media import HTML, detect
from retrieval.parsers import html
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.xml import read as read_xml
from retrieval.sources.fetcher import Bounds as FetchBounds
from retrieval.sources.fetcher import Fetcher
from retrieval.sources.guard import Guard, is_public
from router.config import load
from router.errors import MediaRefused
from router.media import check_media
from router.router import Call, open_router
from storage.objects import ObjectError, checked_key
from tests.integration.sources.test_guard import serving
from tests.support.database import fresh_sqlite
from tests.support.exact.server import exact_server
from tests.support.gate import Gate, open_gate
from tests.support.process import ROOT

SECRET = "a shared secret of more than thirty-two bytes"
PACKAGES = ("api", "cli", "core", "edge", "inference", "monitoring", "retrieval", "router", "storage")


@pytest.fixture
async def trusting(tmp_path: Path) -> AsyncIterator[Gate]:
    """A worker that trusts an issuer by a shared secret."""
    issuers = [
        {"issuer": "house", "audience": "stoker", "algorithms": "HS256", "secret": SECRET, "tenant": "default"},
    ]
    url = fresh_sqlite(tmp_path / "stoker.db")
    async with open_gate(url, tmp_path / "data", jwt_issuers=issuers) as one:
        yield one


def token(header: dict[str, Any] | None = None, secret: str = SECRET, **claims: Any) -> str:
    said = {"iss": "house", "aud": "stoker", "sub": "ada", "exp": int(time.time()) + 600, **claims}
    return jwt.encode(said, secret, "HS256", header)


@functools.cache
def nodes() -> list[tuple[str, ast.Call | ast.Import | ast.ImportFrom]]:
    """Every call and import in a module that is delivered, with its file."""
    kept = ast.Call | ast.Import | ast.ImportFrom
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    walked = ((file, node) for file in files for node in ast.walk(ast.parse(file.read_text())))
    return [(str(file.relative_to(ROOT)), node) for file, node in walked if isinstance(node, kept)]


def arguments(name: str) -> list[tuple[str, ast.expr]]:
    """The values of all arguments of this name, each with file and line."""
    calls = [(file, node) for file, node in nodes() if isinstance(node, ast.Call)]
    return [(f"{file}:{node.lineno}", one.value) for file, node in calls for one in node.keywords if one.arg == name]


# ------------------------------------------------------------------------------------------------- who is asking


async def test_cve_2026_42208_a_key_is_no_part_of_a_statement(worker: Gate) -> None:
    """LiteLLM, SQL injection in the verification of API keys (GHSA-r75f-5x8p-qvmc)."""
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, _p: Any, _context: Any, _many: Any) -> None:
        statements.append(statement)

    await worker.status("sk-stoker-warm")  # the engine is there
    event.listen(worker.database._engine.sync_engine, "before_cursor_execute", note)
    for end in ("' OR '1'='1", "'; DROP TABLE api_keys; --", "' UNION SELECT * FROM api_keys --", '" OR 1=1 --', "%"):
        assert await worker.status(f"sk-stoker-{end}") == 401
    assert statements, "a key of the right form is looked for"
    assert not [one for one in statements if "DROP" in one or "OR '1'" in one or "UNION SELECT" in one]
    assert await worker.status(worker.admin) == 200


async def test_cve_2026_35030_two_tokens_that_begin_alike_are_two_users(trusting: Gate) -> None:
    """LiteLLM, a cache of identities keyed by the first twenty characters of a token (GHSA-jjhc-v7c2-5hh6)."""
    ada, bob = token(), token(sub="bob")
    assert ada[:60] == bob[:60]
    found = {(await trusting.directory.identities.identify(one)).principal.user_id for one in (ada, bob, ada)}
    assert len(found) == 2
    forged = ada[:-4] + ("AAAA" if not ada.endswith("AAAA") else "BBBB")
    assert await trusting.status(forged) == 401, "though all but its end is known"


async def test_cve_2026_32597_a_token_with_a_critical_extension_is_refused(trusting: Gate) -> None:
    """PyJWT before 2.12.0 took tokens whose `crit` names what nobody understands (GHSA-752w-5fwx-jx9f)."""
    for critical in (["x-evil"], ["exp"], "x-evil", [1]):
        assert await trusting.status(token({"crit": critical, "x-evil": 1})) == 401, critical
    assert await trusting.status(token()) == 200


async def test_cve_2026_48523_and_48526_the_settings_choose_the_algorithm(trusting: Gate) -> None:
    """PyJWT before 2.13.0: a key of a set went past the list of algorithms (GHSA-jq35-7prp-9v3f), and a public key was
    taken for a secret (GHSA-xgmm-8j9v-c9wx)."""
    for algorithm in ("none", "HS512", "RS256", "ES256", "hs256"):
        head, body, signature = token().split(".")
        del head
        named = jwt.utils.base64url_encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).decode()
        assert await trusting.status(f"{named}.{body}.{signature}") == 401, algorithm
    with pytest.raises(ValidationError, match="do not go together"):
        Issuer(issuer="i", audience=["a"], algorithms=["HS256", "RS256"], jwks_url="https://i/jwks", tenant="t")


@pytest.mark.parametrize("scheme", ["file:///etc/keys.json", "ftp://i/jwks", "data:application/json,{}", "//i/jwks"])
def test_cve_2026_48522_keys_come_over_http_alone(scheme: str) -> None:
    """PyJWT before 2.13.0 fetched key sets from files and by FTP (GHSA-993g-76c3-p5m4)."""
    with pytest.raises(ValidationError, match="jwks_url"):
        Issuer(issuer="i", audience=["a"], algorithms=["RS256"], jwks_url=scheme, tenant="t")


async def test_cve_2026_70482_a_token_for_another_client_opens_nothing(trusting: Gate) -> None:
    """Open WebUI took OAuth tokens that were issued to any client (GHSA-rq84-p6rr-vf89)."""
    for audience in ("another", ["another"], [], "", "stoker "):
        assert await trusting.status(token(aud=audience)) == 401, audience


async def test_cve_2026_59822_what_is_no_credential_of_ours_falls_back_to_nothing(worker: Gate) -> None:
    """LiteLLM let MCP calls pass with whatever token, meant for somebody else (GHSA-7488-6r32-c95q)."""
    shown = [
        "Bearer ya29.a0Af",
        "Bearer gho_16C7e42F292c6912E7710c838347Ae178B4a",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer x",
    ]
    shown += ["OAuth abc", "Bearer null", "Bearer undefined", "AWS4-HMAC-SHA256 Credential=x", "Negotiate YII="]
    for value in shown:
        answer = await worker.client.get("/v1/models", headers={"authorization": value})
        assert answer.status_code == 401, value


async def test_ghsa_69x8_hrgq_fjj8_a_hash_is_shown_to_nobody_and_opens_nothing(worker: Gate) -> None:
    """LiteLLM showed the hashes of passwords, and took a hash for the password."""
    made = await worker.key("member")
    digest = hashlib.sha256(made["key"].encode()).hexdigest()
    for path in ("keys", f"keys/{made['id']}", "users", "audit", "tenants"):
        assert digest not in (await worker.call("GET", f"/v1/admin/{path}")).text, path
    for shown in (digest, f"sk-stoker-{digest}", f"sk-stoker-{digest[:32]}"):
        assert await worker.status(shown) == 401
        cookie = {"cookie": f"stoker_session={shown[:43]}"}
        assert (await worker.client.get("/v1/models", headers=cookie)).status_code == 401
    assert await worker.status(made["key"]) == 200


async def test_cve_2025_59425_and_2026_59218_a_wrong_key_costs_what_a_revoked_one_does(worker: Gate) -> None:
    """vLLM compared keys sign by sign (GHSA-wr9h-g72x-mwhm); Open WebUI's sign-in told by its time who is there
    (GHSA-7rw5-9f7q-xj36).

    Keys are never compared: the database finds the digest of one, by the same statement whether there is such a key.
    """
    revoked = await worker.key("member")
    assert (await worker.call("DELETE", f"/v1/admin/keys/{revoked['id']}")).status_code == 200
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        statements.append((statement, parameters))

    event.listen(worker.database._engine.sync_engine, "before_cursor_execute", note)
    costs, answers = [], []
    near = revoked["key"][:-1] + ("a" if revoked["key"][-1] != "a" else "b")
    assert await worker.status(new_text()) == 401, "which reads the changes, too"
    for shown in (revoked["key"], near, new_text()):
        statements.clear()
        answer = await worker.call("GET", "/v1/models", shown)
        answers.append((answer.status_code, answer.json()))
        costs.append([one for one, _ in statements])
        assert not [said for _, said in statements if shown in str(said)], "SQL sees a digest, and no key"
    assert costs[0] == costs[1] == costs[2]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 401


def test_ghsa_cc4f_hjpj_g9p8_no_secret_has_a_default() -> None:
    """Flowise signed its sessions with secrets that stand in its source."""
    for secret in ("", "secret", "a" * 31):
        with pytest.raises(ValidationError):
            Issuer(issuer="i", audience=["a"], algorithms=["HS256"], secret=secret, tenant="t")
    assert len({new_text() for _ in range(100)}) == 100
    held = {name: one.default for name, one in ApiSettings.model_fields.items() if "Secret" in str(one.annotation)}
    assert held
    # An address without a password is no secret; one with a password in the source would be.
    assert not [name for name, value in held.items() if value is not None and "@" in str(value)]


async def test_cve_2025_34351_nothing_switches_authentication_off(worker: Gate) -> None:
    """Ray's token authentication is off unless somebody switches it on (GHSA-gx77-xgc2-4888)."""
    words = ("auth", "anonymous", "insecure", "no_key", "open_access")
    named = [name for name in ApiSettings.model_fields if any(word in name for word in words)]
    assert named in ([], ["socket_auth_s"])  # how long a socket may take to show its key
    for path in ("/v1/models", "/v1/admin/keys", "/status", "/v1/admin/deployments"):
        assert (await worker.client.get(path)).status_code == 401


async def test_cve_2025_64513_no_header_says_who_is_asking(worker: Gate) -> None:
    """Milvus' proxy believed a header in which another part of it says that it is one (GHSA-mhjq-8c7m-3f7p)."""
    names = "sourceid stoker.identity x-stoker-identity x-forwarded-user x-remote-user x-user x-auth-request-user"
    for name in names.split():
        for value in ("admin", "@@milvus-member@@", "QEBtaWx2dXMtbWVtYmVyQEA=", "key_00000000000000000000000000"):
            assert (await worker.client.get("/v1/admin/keys", headers={name: value})).status_code == 401, name


async def test_cve_2026_49468_and_48710_a_host_header_opens_no_route(worker: Gate) -> None:
    """LiteLLM (GHSA-4xpc-pv4p-pm3w), Starlette (GHSA-86qp-5c8j-p5mr): a `Host` with a path made a route look public."""
    for host in ("x/health?", "x/docs#", "x/metrics", "x/health/live;", "localhost:1/openapi.json?a=", "/health", ""):
        for path in ("/v1/admin/keys", "/v1/models", "/status"):
            answer = await worker.client.get(path, headers={"host": host})
            assert answer.status_code in (400, 401), (host, path)
    for name in ("x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-host", "x-forwarded-path"):
        assert (await worker.client.get("/v1/admin/keys", headers={name: "/health"})).status_code == 401


# ---------------------------------------------------------------------------------------------- what they may do


async def test_cve_2026_35029_the_configuration_is_the_administrators(worker: Gate) -> None:
    """LiteLLM let every user change the proxy's configuration (GHSA-53mr-6c8q-9789)."""
    entry = {"model_name": "m", "litellm_params": {"model": "hosted_vllm/m", "api_base": "http://127.0.0.1:9/v1"}}
    for role in ("manager", "member", "reader", "ingest"):
        key = (await worker.key(role))["key"]
        for method, path, body in (
            ("POST", "/v1/admin/deployments", entry),
            ("POST", "/v1/admin/deployments/reload", None),
            ("PATCH", "/v1/admin/deployments/small", {"state": "draining"}),
            ("DELETE", "/v1/admin/deployments/small", None),
            ("PATCH", "/v1/admin/experiments/e", {"state": "stopped"}),
        ):
            answer = await worker.call(method, path, key, **({} if body is None else {"json": body}))
            assert answer.status_code == 403, (role, method, path)


async def test_cve_2026_47102_nobody_raises_their_own_role(worker: Gate) -> None:
    """LiteLLM let users change their own role by the route that changes their name (GHSA-wpfp-gwwc-vwq6)."""
    user = await worker.made("/v1/admin/users", name="eve", role="manager")
    own = await worker.key("manager", user=user["id"])
    for path, body in (
        (f"users/{user['id']}", {"role": "admin"}),
        (f"keys/{own['id']}", {"role": "admin"}),
        (f"keys/{own['id']}", {"name": "x", "role": "admin", "scopes": None}),
    ):
        assert (await worker.call("PATCH", f"/v1/admin/{path}", own["key"], json=body)).status_code == 403, path
    for path in ("keys", "users"):
        body = {"name": "new", "role": "admin"}
        assert (await worker.call("POST", f"/v1/admin/{path}", own["key"], json=body)).status_code == 403, path
    member = await worker.key("member", user=user["id"])
    assert (await worker.call("PATCH", f"/v1/admin/users/{user['id']}", member["key"], json={})).status_code == 403


async def test_cve_2026_27482_and_2025_62593_another_sites_page_changes_nothing(worker: Gate) -> None:
    """Ray's dashboard answered pages of other sites, DELETE included (GHSA-q5fh-2hc8-f6rq, GHSA-q279-jhrf-cc6v).

    The MCP SDK was open to names that change their address (CVE-2025-66416, GHSA-9h52-p55h-vw2f).
    """
    key = await worker.key("manager")
    opened = await worker.client.post("/v1/session", json={"key": key["key"]})
    assert opened.status_code == 201
    token_, victim = opened.json()["csrf_token"], await worker.key("reader")
    path = f"/v1/admin/keys/{victim['id']}"
    for headers in (
        {},
        {"origin": "https://evil.example"},
        {"origin": "https://evil.example", "x-csrf-token": token_},
        {"origin": "null", "x-csrf-token": token_},
        {"origin": "http://evil.example", "host": "gate", "x-csrf-token": token_},
        {"user-agent": "Mozilla/5.0", "sec-fetch-site": "cross-site"},
    ):
        assert (await worker.client.request("DELETE", path, headers=headers)).status_code == 403, headers
    worker.client.cookies.clear()
    assert (await worker.client.request("DELETE", path, headers={"host": "evil.example"})).status_code == 401
    assert await worker.status(victim["key"]) == 200


async def test_cve_2026_55423_after_signing_out_the_cookie_is_worth_nothing(worker: Gate) -> None:
    """Langflow's button signed nobody out (GHSA-7hw8-6q6r-4276)."""
    key = await worker.key("member")
    opened = await worker.client.post("/v1/session", json={"key": key["key"]})
    cookie = {"cookie": f"stoker_session={opened.cookies['stoker_session']}"}
    csrf = {"x-csrf-token": opened.json()["csrf_token"]}
    worker.client.cookies.clear()
    assert (await worker.client.get("/v1/models", headers=cookie)).status_code == 200
    assert (await worker.client.delete("/v1/session", headers=cookie | csrf)).status_code == 204
    worker.client.cookies.clear()
    assert (await worker.client.get("/v1/models", headers=cookie)).status_code == 401


# --------------------------------------------------------------------------------------- what reaches an engine


@pytest.mark.parametrize(
    ("field", "advisory"),
    [
        ("chat_template", "CVE-2025-61620 GHSA-6fvq-23cw-5628"),
        ("chat_template_kwargs", "CVE-2025-62426 GHSA-69j4-grxj-j64p"),
        ("prompt_embeds", "CVE-2025-62164 GHSA-mcmc-2m55-j8jj, CVE-2026-55514 GHSA-33cg-gxv8-3p8g"),
        ("cache_salt", "CVE-2025-46570 GHSA-4qjh-9fv9-r85r"),
        ("media_io_kwargs", "CVE-2026-22778"),
        ("mm_processor_kwargs", "CVE-2026-22773 GHSA-grg2-63fw-f2qr"),
    ],
)
def test_vllm_fields_that_change_the_server_are_refused_and_known_to_no_route(field: str, advisory: str) -> None:
    """vLLM stalls, breaks or tells of others by fields that its documentation names."""
    assert field not in CHAT_FIELDS
    for value in ("{% for x in range(10**9) %}{% endfor %}", {"tokenize": True}, None, ""):
        with pytest.raises(RequestInvalid, match=field):
            sort_fields({"model": "m", field: value}, CHAT_FIELDS)


async def test_cve_2025_46570_nobody_can_time_what_another_tenant_has_asked() -> None:
    """vLLM answered sooner what anybody had asked before (GHSA-4qjh-9fv9-r85r): as `hosted_vllm` is configured, without
    a word more, it finds a prompt for its own tenant alone."""
    secret = {"model": "m", "messages": [{"role": "user", "content": f"The takeover bid is {'very ' * 200}high."}]}
    async with exact_server("m") as engine:
        entry = {"model_name": "m", "litellm_params": {"model": "hosted_vllm/m", "api_base": engine.base_url}}
        async with open_router(load(None, [entry])) as router:
            for tenant in ("victim", "attacker", "", "attacker2", "victim"):
                body = {**secret, "max_tokens": 2, "user": tenant}
                call = Call("chat.completions", "m", body, False, ANYWHERE, "r", tenant=tenant)
                await (await router.open(call)).aclose()
    *others, own = (served.cached_tokens for served in engine.log)
    assert others == [0, 0, 0, 0]
    assert own > 100


@pytest.mark.parametrize("n", [9, 10**6, 2**63, 1.5, "2", [1], True and 9])
def test_cve_2026_34756_a_request_asks_for_at_most_eight_answers(n: Any) -> None:
    """vLLM made as many answers at once as `n` says (GHSA-3mwp-wvh9-7528)."""
    with pytest.raises(RequestInvalid, match="n must be"):
        sort_fields({"n": n}, CHAT_FIELDS)


def _shaped(**fields: Any) -> dict[str, Any]:
    return {"structured_outputs": fields}


def _called(schema: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}


def _formed(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


def _property(**said: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "string", **said}}}


@pytest.mark.parametrize(
    ("advisory", "body", "where"),
    [
        ("CVE-2025-48944", _called(_property(pattern="[")), "tools[0].function.parameters.properties.a.pattern"),
        ("CVE-2025-48944", _called(_property(type="str")), "tools[0].function.parameters.properties.a.type"),
        ("CVE-2025-48944", _called(_property(type={"a": 1})), "tools[0].function.parameters.properties.a.type"),
        ("CVE-2025-48942", _shaped(json="hello"), "structured_outputs.json"),
        ("CVE-2025-48942", _shaped(json={"properties": {"a": {"type": "stsring"}}}), "structured_outputs.json.prop"),
        ("CVE-2025-48942", _formed({"type": "nope"}), "response_format.json_schema.schema.type"),
        ("CVE-2025-48943", _shaped(regex="foo**"), "structured_outputs.regex"),
        ("CVE-2025-48943", _shaped(regex=r"[.*+{"), "structured_outputs.regex"),
        ("CVE-2025-57809 GHSA-5cmr-4px5-23pc", _formed({"$ref": "#"}), "response_format.json_schema.schema"),
        ("CVE-2025-58446 GHSA-9q5r-wfvf-rr7f", _formed({"enum": ["word" * 9] * 9999}), "response_format.json_schema"),
        ("CVE-2025-58446 GHSA-9q5r-wfvf-rr7f", _shaped(grammar='root ::= "a"' + ' | "a"' * 20_000), "structured"),
        (
            "CVE-2026-25048 GHSA-7rgv-gqhr-fxg3",
            _shaped(grammar="root ::= " + "(" * 30_000 + "a"),
            "structured_outputs.g",
        ),
        (
            "CVE-2026-55574 GHSA-rwxx-mrjm-wc2m",
            _shaped(regex="((a{1,500}){1,500}){1,500}b"),
            "structured_outputs.regex",
        ),
    ],
)
async def test_what_an_engine_broke_of_is_refused_at_every_door_and_named(
    worker: Gate, advisory: str, body: dict[str, Any], where: str
) -> None:
    """vLLM's engine, or xgrammar in it, ended for everybody by one request's schema, expression or grammar."""
    said = [{"role": "user", "content": "Go on."}]
    doors = [("/v1/chat/completions", {"messages": said})]
    if "tools" not in body:
        doors.append(("/v1/completions", {"prompt": "Go on."}))
    for path, asked in doors:
        answer = await worker.call("POST", path, json={"model": "small", "max_tokens": 2, **asked, **body})
        assert answer.status_code == 400, (advisory, path)
        error = answer.json()["error"]
        assert error["param"].startswith(where), (advisory, path)
        assert error["code"] == "invalid_request"


async def test_cve_2025_48944_and_48942_in_other_forms_too(worker: Gate) -> None:
    """The same in Anthropic's form, and in responses."""
    bad = _property(pattern="(")
    shape = {"format": {"type": "json_schema", "name": "a", "schema": bad}}
    for path, body, where in (
        ("/v1/messages", {"tools": [{"name": "f", "input_schema": bad}]}, "tools[0].input_schema."),
        ("/v1/messages", {"output_config": shape}, "output_config.format.schema."),
        ("/v1/responses", {"input": "a", "tools": [{"type": "function", "name": "f", "parameters": bad}]}, "tools[0]."),
        ("/v1/responses", {"input": "a", "text": shape}, "text.format.schema."),
    ):
        more = {} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
        answer = await worker.call("POST", path, json={"model": "small", **more, **body})
        assert answer.status_code == 400, path
        assert f"{where}" in answer.text
        assert "properties.a.pattern: this is no regular expression" in answer.text


INSIDE = (
    *(
        "http://127.0.0.1:8081/health",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "file:///etc/passwd",
    ),
    *(
        "http://localhost/",
        "//127.0.0.1/",
        "ftp://10.0.0.1/x",
        "HTTP://2130706433/",
        "gopher://127.0.0.1:6379/_FLUSHALL",
    ),
    *("http://allowed.example@127.0.0.1/", "http://allowed.example\\@127.0.0.1/", "http://127.0.0.1#@allowed.example/"),
    *("http://allowed.example:80@127.0.0.1/", "http://allowed.example%2f@127.0.0.1", "http:\\\\allowed.example\\x"),
    *("http://allowed.example.evil.test/", "http://evil.test/allowed.example", " http://allowed.example/"),
)


@pytest.mark.parametrize("address", INSIDE)
def test_cve_2025_6242_and_2026_24779_no_medium_in_a_chat_is_fetched(address: str) -> None:
    """vLLM fetched what `image_url` names from within, also by two readings of one address (GHSA-3f6c-7fw2-ppm4,
    GHSA-qh4c-xf7m-gxfc); a film by its address overran its memory (CVE-2026-22778)."""
    parts: list[dict[str, Any]] = [
        {"type": f"{kind}_url", f"{kind}_url": value}
        for kind in ("image", "video", "audio")
        for value in ({"url": address}, address)
    ]
    parts += [{"image_url": {"url": address}}, {"type": "image", "source": {"type": "url", "url": address}}]
    parts += [{"type": "document", "source": {"type": "url", "url": address}}, {"type": "file", "file_url": address}]
    parts += [{"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": address}}]}]
    for part in parts:
        with pytest.raises(MediaRefused, match="data: URL"):
            check_media({"messages": [{"role": "user", "content": [part]}]}, frozenset({"allowed.example"}))
    with pytest.raises(MediaRefused):
        check_media({"documents": [{"image_url": address}], "query": "q"}, frozenset())


def test_cve_2025_62372_and_62164_tensors_are_no_media() -> None:
    """vLLM unpacks tensors that callers send (GHSA-pmqf-x6x8-p7qw, GHSA-mcmc-2m55-j8jj)."""
    for kind in ("image", "audio"):
        part = {"type": f"{kind}_embeds", f"{kind}_embeds": "gASVAAAA"}
        with pytest.raises(MediaRefused, match="is not taken"):
            check_media({"messages": [{"role": "user", "content": [part]}]}, frozenset())


def test_media_that_come_along_and_hosts_that_are_opened_pass() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    opened = {"type": "image_url", "image_url": {"url": "https://Allowed.example:8443/a.png?b=c#d"}}
    told = {"type": "tool_use", "id": "t", "name": "fetch", "input": {"url": "http://127.0.0.1/"}}
    said = {"type": "text", "text": "http://127.0.0.1/"}
    messages = [{"role": "user", "content": [picture, opened, told, said]}, {"role": "user", "content": "http://[::1]"}]
    check_media({"messages": messages, "documents": ["http://10.0.0.1"]}, frozenset({"allowed.example"}))


def test_cve_2025_47277_32444_and_30202_parts_listen_on_this_machine_alone() -> None:
    """vLLM's own parts spoke pickle on all interfaces (of its Mooncake transfer, GHSA-x3m8-f7g5-qhm7 tells the same);
    SGLang's do (CVE-2026-7301, GHSA-gwv6-pq6m-p3rq)."""
    assert ApiSettings.model_fields["host"].default == "127.0.0.1"
    for settings in (EmbeddingSettings, VllmSettings):
        assert settings.model_fields["host"].default == "127.0.0.1"
    plan = (ROOT / "cli" / "plan.py").read_text()
    assert '_HOST = "127.0.0.1"' in plan
    assert plan.count('"--host", _HOST') >= 4
    assert "bind {_HOST}" in plan
    assert "requirepass" in plan


# ------------------------------------------------------------------------------------------- what is run or read


_RUNS = {"eval", "exec", "compile", "__import__"}
_UNPACKS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle"}


def test_cve_2025_3248_2026_0770_and_40217_nothing_that_is_sent_is_run() -> None:
    """Langflow ran code that it was to validate (GHSA-rvqx-wpfh-mfx7, GHSA-g22f-v6f7-2hrh), LiteLLM that of a guardrail
    (GHSA-wxxx-gvqv-xp7p), Flowise what its configuration says (CVE-2025-55346, GHSA-hmgh-466j-fx4c)."""
    called = [
        f"{file}:{node.lineno}"
        for file, node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _RUNS
    ]
    assert called == []
    assert [place for place, value in arguments("shell") if _is(value, True)] == []


def test_cve_2025_10164_2026_3059_41486_and_57516_nothing_that_is_sent_is_unpickled() -> None:
    """SGLang (GHSA-9w53-xr52-mwgj, GHSA-rgq9-fqf5-fv58), Ray (GHSA-mw35-8rx3-xf9r, GHSA-hhrp-gw25-jr43): pickles from
    the network; LangChain: objects by their names (CVE-2026-44843, GHSA-pjwx-r37v-7724)."""
    imported = [
        (file, name)
        for file, node in nodes()
        for name in (_imported(node) if not isinstance(node, ast.Call) else [])
        if name.partition(".")[0] in _UNPACKS
    ]
    assert imported == []
    loads = [
        f"{file}:{node.lineno}"
        for file, node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("yaml.load", "yaml.unsafe_load", "torch.load")
    ]
    assert loads == []
    assert [place for place, value in arguments("allow_pickle") if not _is(value, False)] == []


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]


def test_cve_2025_66448_no_models_own_code_is_trusted() -> None:
    """vLLM ran code that a model's configuration names, though it was told not to (GHSA-8fr4-5q9j-m8gm)."""
    assert [place for place, value in arguments("trust_remote_code") if not _is(value, False)] == []
    flags = (ROOT / "inference" / "vllm_flags.py").read_text()
    field = VllmSettings.model_fields.get("trust_remote_code")
    assert "trust-remote-code" not in flags or (field is not None and field.default is False)


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    "template",
    [
        "{sources.__class__.__mro__} {question}",
        "{sources[0]} {question}",
        "{sources!r} {question}",
        "{question:{sources}}",
        "{0.__init__.__globals__} {sources} {question}",
        "{sources} {question} {secret}",
        "{}{sources}{question}",
    ],
)
def test_cve_2025_65106_and_2026_40087_a_template_reaches_into_nothing(template: str) -> None:
    """LangChain's templates reached into objects (GHSA-6qv9-48xg-fc7f, GHSA-926x-3r5x-gfhw)."""
    with pytest.raises(RequestInvalid):
        check_template(template, "prompt")


def test_cve_2026_42203_a_template_is_no_program() -> None:
    """LiteLLM filled prompts with a templating language that runs what it reads (GHSA-xqmj-j6mv-4862)."""
    template = "{{{{7*7}}}} {{% for x in y %}} ${{7*7}} {sources} {question}"
    shown = filled(check_template(template, "prompt"), {"sources": "{question.__class__}", "question": "{{1+1}}"})
    assert shown == "{{7*7}} {% for x in y %} ${7*7} {question.__class__} {{1+1}}"


def test_cve_2026_42271_no_request_names_a_command() -> None:
    """LiteLLM started the program that a request about an MCP server names (GHSA-v4p8-mg3p-g94g)."""
    schema = create_app(ApiSettings()).openapi()
    named = {name for one in schema["components"]["schemas"].values() for name in one.get("properties", {})}
    assert len(named) > 60
    assert named & {"command", "args", "env", "argv", "shell", "exec", "script", "code", "executable"} == set()


XXE = b"""<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>"""
LAUGHS = b"""<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;&b;&b;&b;</r>"""


class _Heard:
    def __init__(self) -> None:
        self.said = ""

    def start(self, name: str, attributes: dict[str, str], /) -> None: ...

    def end(self, name: str, /) -> None: ...

    def text(self, text: str, /) -> None:
        self.said += text


@pytest.mark.parametrize("data", [XXE, LAUGHS], ids=["a file", "a billion"])
def test_cve_2026_41066_an_entity_reads_no_file_and_grows_to_nothing(data: bytes) -> None:
    """lxml before 6.1.0 read local files for an entity, unless told not to (GHSA-vfmq-68hx-4jfw)."""
    heard = _Heard()
    with pytest.raises(DocumentRejected, match="entities"):
        read_xml([data], heard, depth=50, with_doctype=True)
    assert heard.said == ""
    page = html.parse(b"<html><body><p>fare</p>" + data + b"</body></html>", Bounds()).text
    assert "root:" not in page
    assert len(page) < 1000


def test_cve_2026_30821_a_file_is_what_it_holds_and_not_what_it_is_called() -> None:
    """Flowise took any file whose sender calls it harmless (GHSA-j8g8-j7fc-43v6)."""
    assert detect("a.txt", "text/plain", b"%PDF-1.7\n") == "application/pdf"
    assert detect("a.pdf", "application/pdf", b"PK\x03\x04" + bytes(60)) != "application/pdf"
    assert detect("a.txt", "text/plain", b"<!doctype html><script>") in (HTML, "text/plain")


@pytest.mark.parametrize(
    "key", ["../x", "a/../b", "/etc/passwd", "a//b", "a/.", "a/..", "a\\..\\b", "a\x00b", "", "a/"]
)
def test_cve_2026_33309_and_32981_no_key_of_the_store_leads_out_of_its_folder(key: str) -> None:
    """Langflow wrote (GHSA-g2j9-7rj2-gm6c) and Ray read (GHSA-j3mh-qmjj-xp83) outside of the folder meant; LangChain,
    too (CVE-2026-34070, GHSA-qh6h-p6c9-ff54)."""
    with pytest.raises(ObjectError):
        checked_key(key)


# --------------------------------------------------------------------------------- what is fetched, found, kept


@pytest.mark.parametrize(
    "ip",
    [
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:5",
        "2002:7f00:1::",
        "::ffff:169.254.169.254",
        "::7f00:1",
    ],
)
def test_cve_2026_70485_an_address_that_carries_another_is_not_public(ip: str) -> None:
    """Open WebUI reached the clouds' metadata by NAT64 (GHSA-8x5v-cpv7-8jjp)."""
    assert not is_public(ip_address(ip))


async def test_cve_2026_45401_and_45338_no_redirect_leads_inside() -> None:
    """Open WebUI checked an address and followed where it leads (GHSA-rh5x-h6pp-cjj6, GHSA-24c9-2m8q-qhmh)."""
    arrived: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        arrived.append(request.path)
        raise web.HTTPFound(f"http://127.0.0.1:{inner}/secret" if request.path == "/" else "/elsewhere")

    async with serving(handler) as (_, outer), serving(handler) as (_, inner):
        guard = Guard([f"127.0.0.1:{outer}"], [80, 443])
        fetcher = Fetcher(guard, FetchBounds(2, 2, 4, 1000, 3), "test")
        with pytest.raises(AddressRefused):
            await fetcher.get(guard.read(f"http://127.0.0.1:{outer}/"))
    assert arrived == ["/"]


async def test_cve_2025_66418_and_2026_44432_what_is_packed_many_times_is_not_unpacked() -> None:
    """urllib3 unpacked as often as a server says (GHSA-gm62-xv2j-4w53), more than it was to (GHSA-mf9v-mfxr-j63j)."""
    bomb = zlib.compress(b"a" * 10_000_000)

    async def handler(request: web.Request) -> web.Response:
        said = ", ".join(["deflate"] * 50) if request.path == "/chain" else "deflate"
        return web.Response(body=bomb, headers={"content-encoding": said, "content-type": "text/plain"})

    async with serving(handler) as (_, port):
        guard = Guard([f"127.0.0.1:{port}"], [80, 443])
        fetcher = Fetcher(guard, FetchBounds(2, 2, 4, 100_000, 3), "test")
        for path in ("/chain", "/bomb"):
            with pytest.raises(FetchFailed):
                await fetcher.get(guard.read(f"http://127.0.0.1:{port}{path}"))


@pytest.mark.parametrize(
    "value",
    [
        *('" or tenant_id != "', '\\" or 1 == 1 or "', "x' OR '1'='1", "') or (1==1", "a\nb", "%"),
        '"]) or true or (acl in ["',
    ],
)
def test_cve_2025_1793_and_2026_54019_a_filters_value_stays_a_value(value: str) -> None:
    """llama_index put values into SQL as they came (GHSA-v3c8-3pr6-gr7p), Open WebUI into Milvus' expressions, past the
    reader's rights (GHSA-p5cp-r7rg-qpxc)."""
    hostile, harmless = (
        Scope("ten_a", "col_a", ["everyone"], parse_filter({"type": "eq", "key": "name", "value": said})).expression
        for said in (value, "a")
    )
    assert _outside_of_quotes(hostile) == _outside_of_quotes(harmless)


def _outside_of_quotes(expression: str) -> str:
    outside, quoted, signs = "", False, iter(expression)
    for sign in signs:
        if quoted and sign == "\\":
            next(signs)
        elif sign == '"':
            quoted = not quoted
        elif not quoted:
            outside += sign
    assert not quoted
    return outside


def test_cve_2025_6211_and_46722_what_differs_is_named_differently() -> None:
    """llama_index and vLLM took two things for one, by a hash of what they have in common (GHSA-5hq9-5r78-2gjh,
    GHSA-c65p-x677-fgj6)."""
    ann = Principal("ten_a", "key_a", Role.MEMBER, user_id="user_a")
    others = [
        Principal("ten_b", "key_a", Role.MEMBER, user_id="user_a"),
        Principal("ten_a", "k", Role.MEMBER, user_id="u"),
    ]
    asked = {"model": "m", "text": "a", "more": "b"}
    like = [
        {"model": "m", "text": "ab", "more": ""},
        {"model": "ma", "text": "", "more": "b"},
        {"text": "a", "model": "m"},
    ]
    names = [name_of(ann, "chat", one).digest for one in (asked, *like)]
    names += [name_of(one, "chat", asked).digest for one in others]
    assert len(set(names)) == len(names)
    assert len(names[0]) == 64
