"""How the console's files are served, and what must never stand in them."""

import gzip
import re
from collections import defaultdict
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from api.app import create_app
from api.console.assets import FOLDER, read_assets
from api.console.refusal import refusal
from api.console.routes import POLICY, console_routes
from api.errors import RequestInvalid
from api.record import SCOPE_KEY
from api.settings import ApiSettings
from monitoring.record import RequestRecord

_MAX_BYTES = 300_000
# What makes markup or code of a text, or keeps what must not be kept.
_SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|createContextualFragment"
    r"|sessionStorage|document\.cookie|javascript:"
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Starlette(routes=console_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as one:
        yield one


async def test_the_page_and_every_file_it_may_load_are_there_with_a_strict_policy(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", *(f"/console/{name}" for name in read_assets())):
        answer = await client.get(path)
        assert answer.status_code == 200, path
        said = dict(one.split(" ", 1) for one in answer.headers["content-security-policy"].split("; "))
        policy = defaultdict(str, said)
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert policy["trusted-types"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
    assert "unsafe" not in POLICY


async def test_a_browser_that_has_a_file_hears_so_and_a_changed_file_has_another_name(
    client: httpx.AsyncClient,
) -> None:
    first = await client.get("/console/app.js")
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = await client.get("/console/app.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["content-security-policy"] == POLICY
    assert (await client.get("/console/app.js", headers={"if-none-match": '"other"'})).status_code == 200
    assert len({asset.etag for asset in read_assets().values()}) == len(read_assets())


async def test_a_file_comes_small_to_whoever_takes_it_so(client: httpx.AsyncClient) -> None:
    whole = (FOLDER / "app.js").read_bytes()
    async with client.stream("GET", "/console/app.js", headers={"accept-encoding": "br, gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert gzip.decompress(raw) == whole
    assert len(raw) < len(whole) / 2
    for refused in ("identity", "gzip;q=0", "gzip; q=0.0"):
        plain = await client.get("/console/app.js", headers={"accept-encoding": refused})
        assert "content-encoding" not in plain.headers
        assert plain.content == whole
        assert plain.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "path",
    ["/console/", "/console/none.js", "/console/../routes.py", "/console/%2e%2e/routes.py", "/console//etc/passwd"],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


def test_it_is_small_stands_alone_and_makes_no_markup_of_a_text() -> None:
    texts = {file.name: file.read_text() for file in FOLDER.iterdir()}
    assert sum(len(text.encode()) for text in texts.values()) < _MAX_BYTES
    for name, text in texts.items():
        foreign = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org"}
        assert not foreign, (name, foreign)
        assert not _SINKS.findall(text), name
    kept = {name for name, text in texts.items() if "localStorage" in text}
    assert kept == {"theme.js", "app.js"}  # the colours alone
    for page in ("index.html", "docs.html"):
        assert "<script>" not in texts[page]
        assert "style=" not in texts[page]


async def test_every_page_of_the_gateway_runs_its_own_scripts_alone() -> None:
    """FastAPI's pages ran those of another host, which could act for whoever was signed in."""
    transport = httpx.ASGITransport(app=create_app(ApiSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        for path in ("/", "/docs", "/redoc", "/docs/oauth2-redirect"):
            answer = await client.get(path)
            assert answer.status_code in (200, 401, 404), path
            if answer.status_code == 200:
                assert not re.findall(r"https?://", answer.text), path
                assert answer.headers["content-security-policy"] == POLICY, path


async def test_no_answer_of_the_gateway_is_taken_for_a_script() -> None:
    """The policy lets scripts of the gateway's own origin run, and a document's text comes from there, too."""
    transport = httpx.ASGITransport(app=create_app(ApiSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        for path in ("/openapi.json", "/health/live", "/metrics", "/v1/collections/a/documents/b/content", "/none"):
            assert (await client.get(path)).headers.get("x-content-type-options") == "nosniff", path


def test_every_module_that_another_one_names_is_there() -> None:
    for file in FOLDER.glob("*.js"):
        for name in re.findall(r"""(?:from|import\()\s*["']\./([\w.-]+)["']""", file.read_text()):
            assert (FOLDER / name).is_file(), (file.name, name)
    for name in re.findall(r'"/console/([\w.-]+)"', "".join(file.read_text() for file in FOLDER.glob("*.html"))):
        assert (FOLDER / name).is_file(), name


def test_a_refusal_is_shown_as_text() -> None:
    record = RequestRecord("req_1", "GET", 0.0)
    scope = {"type": "http", "headers": [(b"accept", b"text/html")], SCOPE_KEY: record}
    answer = refusal(Request(scope), RequestInvalid("no <script>alert(1)</script> & so on"), "Not in", "Back")
    page = bytes(answer.body).decode()
    assert (answer.status_code, record.error_code) == (400, "invalid_request")
    assert "no &lt;script&gt;alert(1)&lt;/script&gt; &amp; so on" in page
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    with pytest.raises(RequestInvalid):
        refusal(Request({**scope, "headers": []}), RequestInvalid("no"), "Not in", "Back")
