"""What a browser does before it lets a page read an answer: allowed origins succeed, others are refused.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest

from api.admission.headers import RATE_HEADERS
from tests.conformance.conftest import ALLOWED, Crew, Order
from tests.support.gateway import Gateway
from tests.support.openai_server import Fault, OpenAiServer

pytestmark = pytest.mark.heavy

OTHER = "https://other.example"
# What the SDKs' builds for browsers send with each request.
SENT = (
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "authorization",
    "content-type",
    "x-api-key",
    *(
        f"x-stainless-{name}"
        for name in (
            "arch", "lang", "os", "package-version", "retry-count", "runtime", "runtime-version", "timeout",
        )
    ),
)  # fmt: skip
SHOWN = {"x-request-id", "retry-after", "x-should-retry", "x-stoker-deployment", "x-stoker-ignored", *RATE_HEADERS}

CHAT = {"model": "words", "messages": [{"role": "user", "content": "one two"}]}
MESSAGE = {**CHAT, "max_tokens": 8}
HOT = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "words", "prompt": "one two"},
    "/v1/embeddings": {"model": "vectors", "input": "one"},
    "/v1/messages": MESSAGE,
}


@dataclass(frozen=True)
class Page:
    """A page of an origin; it has nothing but a key."""

    origin: str
    client: httpx.Client
    key: str

    def preflight(self, method: str, path: str) -> httpx.Response:
        asked = {"access-control-request-method": method, "access-control-request-headers": ",".join(SENT)}
        return self.client.options(path, headers={"origin": self.origin, **asked})

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        keyed = {"authorization": f"Bearer {self.key}"}
        return self.client.request(method, path, json=body, headers={"origin": self.origin, **keyed, **headers})


@pytest.fixture
def page(gate: Gateway) -> Iterator[Callable[..., Page]]:
    """Opens a page that knows the admin's key, unless it is told another."""
    with httpx.Client(base_url=gate.url, timeout=30) as client:
        yield lambda origin, key=gate.key: Page(origin, client, key)


def may_read(answer: httpx.Response, origin: str) -> bool:
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed in (None, origin)
    assert allowed is None or "origin" in answer.headers["vary"].lower()  # else a cache would show it to others
    return allowed is not None


def listed(answer: httpx.Response, name: str) -> set[str]:
    return {one.strip().lower() for one in answer.headers.get(name, "").split(",")}


ROUTES = [*(("POST", path) for path in HOT), ("GET", "/v1/models"), ("POST", "/v1/search"), ("DELETE", "/v1/jobs/x")]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_preflight_lets_an_allowed_origin_send_all_that_the_sdks_send(
    page: Callable[..., Page], method: str, path: str
) -> None:
    answer = page(ALLOWED).preflight(method, path)
    assert answer.status_code == 200
    assert may_read(answer, ALLOWED)
    assert method.lower() in listed(answer, "access-control-allow-methods")
    assert set(SENT) <= listed(answer, "access-control-allow-headers")
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", f"{ALLOWED}.evil.example", "http://allowed.example"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_preflight_refuses_every_other_origin(page: Callable[..., Page], method: str, path: str, origin: str) -> None:
    answer = page(origin).preflight(method, path)
    assert answer.status_code == 400
    assert not may_read(answer, origin)


def answers(page: Page, path: str, body: Mapping[str, object], faulty: OpenAiServer) -> dict[str, httpx.Response]:
    """All kinds of answers of a model route, by what they are."""
    good = page.ask("POST", path, body)
    unknown = Page(page.origin, page.client, "sk-stoker-wrong").ask("POST", path, body)
    malformed = page.ask("POST", path, {"model": "words"})
    away = page.ask("POST", path, {**body, "model": "away"}) if body["model"] == "words" else None
    faulty.fault = Fault.LIMIT_429
    busy = page.ask("POST", path, body)
    faulty.fault = Fault.BUSY_503
    down = page.ask("POST", path, body)
    faulty.fault = None
    found = {"200": good, "401": unknown, "400": malformed, "429": busy, "503": down}
    return found if away is None else {**found, "503 ": away}


@pytest.mark.parametrize("path", HOT)
def test_every_answer_of_a_model_route_is_shown_to_an_allowed_origin(
    page: Callable[..., Page], path: str, faulty: OpenAiServer
) -> None:
    for status, answer in answers(page(ALLOWED), path, HOT[path], faulty).items():
        assert answer.status_code == int(status), answer.text
        assert may_read(answer, ALLOWED), status
        assert listed(answer, "access-control-expose-headers") >= SHOWN
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("path", HOT)
def test_no_answer_of_a_model_route_is_shown_to_another_origin(
    page: Callable[..., Page], path: str, faulty: OpenAiServer
) -> None:
    for status, answer in answers(page(OTHER), path, HOT[path], faulty).items():
        assert answer.status_code == int(status)
        assert not may_read(answer, OTHER), status


@pytest.mark.parametrize("origin", [ALLOWED, OTHER])
def test_ordinary_routes_do_the_same(page: Callable[..., Page], origin: str) -> None:
    one = page(origin)
    search = {"query": "x", "collection": "nowhere"}
    expected = [
        (one.ask("GET", "/v1/models"), 200),
        (page(origin, "sk-stoker-wrong").ask("GET", "/v1/models"), 401),
        (page(origin, "sk-stoker-wrong").ask("POST", "/v1/search", search), 401),
        (one.ask("GET", "/v1/nowhere"), 404),
        (one.ask("POST", "/v1/search", search), 404),
        (one.ask("POST", "/v1/collections", {"name": "seen"}), 503),  # there is no Milvus here
        (one.ask("POST", "/v1/search", {"query": "x" * 2_000_000}), 413),
    ]
    for answer, status in expected:
        assert answer.status_code == status, answer.text
        assert may_read(answer, origin) == (origin == ALLOWED), status
        assert origin != ALLOWED or listed(answer, "access-control-expose-headers") >= SHOWN


@pytest.mark.parametrize("origin", [ALLOWED, OTHER])
def test_a_limit_of_the_key_is_shown_with_what_is_left(
    page: Callable[..., Page], new_key: Callable[..., str], origin: str
) -> None:
    one = page(origin, new_key(limits={"rpm": 1, "burst": 1, "tpm": 100_000}))
    first, second = (one.ask("POST", "/v1/chat/completions", CHAT) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert may_read(first, origin) == may_read(second, origin) == (origin == ALLOWED)
    sent = {name for name in first.headers if "ratelimit" in name}
    assert sent == set(RATE_HEADERS)
    if origin == ALLOWED:
        assert sent <= listed(first, "access-control-expose-headers")
        assert "retry-after" in second.headers
        assert "retry-after" in listed(second, "access-control-expose-headers")


@pytest.mark.parametrize(("path", "end"), [("/v1/chat/completions", "[DONE]"), ("/v1/messages", "message_stop")])
@pytest.mark.parametrize("origin", [ALLOWED, OTHER])
@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_a_stream_is_shown_to_an_allowed_origin_only(
    page: Callable[..., Page], faulty: OpenAiServer, path: str, end: str, origin: str, broken: bool
) -> None:
    faulty.fault = Fault.CUT_MID_STREAM if broken else None
    body = {**MESSAGE, "messages": [{"role": "user", "content": "one two three"}], "stream": True}
    answer = page(origin).ask("POST", path, body)
    assert answer.status_code == 200
    assert (end in answer.text) is not broken
    assert may_read(answer, origin) == (origin == ALLOWED)


@pytest.mark.parametrize("name", ["openai-node", "anthropic-node"])
def test_a_page_of_an_allowed_origin_uses_the_sdk_as_it_is(
    crew: Crew, whoever: Order, new_key: Callable[..., str], name: str
) -> None:
    """`browserFetch` of `clients/browser.mjs` stands between the SDK and the gateway, and does as a browser does."""
    at_home = {**whoever, "key": new_key(limits={"rpm": 20, "burst": 2}), "origin": ALLOWED}
    node = crew(name)
    whole = node.ask("whole", **at_home)
    assert whole.get("text", whole.get("final")) == whoever["text"]
    assert whole["request_id"].startswith("req_")
    assert node.ask("stream", **at_home)["text"] == whoever["text"]
    refused = node.ask("whole", **at_home)["error"]
    assert (refused["class"], refused["retry_after"]) == ("RateLimitError", "3")
    waited = node.ask("whole", **at_home, retries=1)
    assert "error" not in waited
    assert waited["seconds"] > 1  # by itself it would have asked again after half a second
    wrong = node.ask("whole", **{**at_home, "key": "sk-stoker-wrong"})["error"]
    assert wrong["class"] == "AuthenticationError"


@pytest.mark.parametrize("name", ["openai-node", "anthropic-node"])
def test_a_page_of_another_origin_gets_nowhere(crew: Crew, whoever: Order, faulty: OpenAiServer, name: str) -> None:
    for do in ("whole", "stream", "models"):
        error = crew(name).ask(do, **whoever, origin=OTHER)["error"]
        assert error["class"] == "APIConnectionError"
    assert faulty.requests == 0  # the preflight stopped it


def test_a_page_sees_what_is_left_of_its_limits(crew: Crew, whoever: Order, new_key: Callable[..., str]) -> None:
    headers = crew("openai-node").ask("raw", **{**whoever, "key": new_key(), "origin": ALLOWED})["headers"]
    assert set(RATE_HEADERS) <= set(headers)
    assert {"x-request-id", "x-stoker-deployment"} <= set(headers)
    assert "date" not in headers  # as in a browser: what is not listed is hidden
