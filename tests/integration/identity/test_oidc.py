"""Signing in at an identity provider: who gets in, and every known way of getting in that must not work."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from core.clock import ManualClock
from tests.support.browser import Browser, code_of
from tests.support.gate import Gate, open_gate
from tests.support.issuer import AUDIENCE
from tests.support.network import PLAIN
from tests.support.provider import CLIENT, SECRET, TestProvider, open_provider

pytestmark = pytest.mark.slow  # what a provider may do wrong has many forms
BEGIN = "/v1/session/oidc/corp"
CALLBACK = f"{BEGIN}/callback"


@pytest.fixture
async def provider() -> AsyncIterator[TestProvider]:
    async with open_provider(f"http://gate{CALLBACK}") as opened:
        yield opened


@pytest.fixture
async def rival() -> AsyncIterator[TestProvider]:
    """Another provider that the gateway trusts too, where this gateway has the same client id."""
    async with open_provider("http://gate/v1/session/oidc/rival/callback") as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time())


def settings_for(provider: TestProvider, rival: TestProvider, **fields: Any) -> dict[str, Any]:
    """Settings of a gateway that trusts both; `fields` are those of the first provider."""
    issuers = [
        {
            "issuer": one.url,
            "audience": AUDIENCE,
            "algorithms": "RS256",
            "jwks_url": f"{one.url}/jwks",
            "tenant": "default",
            "groups_claim": "groups",
            "role_claim": "roles",
            "roles": {"boss": "manager"},
        }
        for one in (provider, rival)
    ]
    client = {"client_id": CLIENT, "client_secret": SECRET}
    providers = [
        {"name": "corp", "issuer": provider.url, **client, **fields},
        {"name": "rival", "issuer": rival.url, **client},
    ]
    return {
        "jwt_issuers": issuers,
        "oidc_providers": providers,
        "public_url": "http://gate",
        "oidc_deadline_s": 0.5,
        "jwks_deadline_s": 0.5,
    }


@pytest.fixture
async def guarded(
    sqlite_url: str, tmp_path: Path, provider: TestProvider, rival: TestProvider, clock: ManualClock
) -> AsyncIterator[Gate]:
    async with open_gate(sqlite_url, tmp_path / "data", clock=clock, **settings_for(provider, rival)) as gate:
        yield gate


@pytest.fixture
def browser(guarded: Gate) -> Browser:
    return Browser(guarded)


async def go_to_provider(browser: Browser, begin: str = BEGIN) -> str:
    """Begin a sign-in and agree to it. Returns: the path to which the provider sends the browser."""
    answer = await browser.client.get(begin)
    assert answer.status_code == 302, answer.text
    async with httpx.AsyncClient(verify=PLAIN) as web:
        there = await web.get(answer.headers["location"])
    assert there.status_code == 302, there.text
    back = urlsplit(there.headers["location"])
    assert f"{back.scheme}://{back.netloc}" == "http://gate"
    return f"{back.path}?{back.query}"


async def come_back(browser: Browser, callback: str) -> httpx.Response:
    """Follow the provider's redirect, and, once in, read the token as the console's page does."""
    answer = await browser.client.get(callback)
    if answer.status_code == 303:
        browser.csrf = (await browser.client.get("/v1/session")).json()["csrf_token"]
    return answer


async def sign_in(browser: Browser, begin: str = BEGIN) -> httpx.Response:
    return await come_back(browser, await go_to_provider(browser, begin))


async def nobody_got_in(gate: Gate, browser: Browser) -> bool:
    """No session and no user was made."""
    users = (await gate.call("GET", "/v1/admin/users")).json()["data"]
    return browser.cookie is None and users == []


async def test_a_user_signs_in_and_is_the_one_that_the_providers_claims_say(
    guarded: Gate, browser: Browser, provider: TestProvider
) -> None:
    provider.says = {"name": "Ada", "groups": ["b", "a"], "roles": ["boss"]}
    answer = await sign_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    said = (await browser.call("GET", "/v1/session")).json()
    [user] = (await guarded.call("GET", "/v1/admin/users")).json()["data"]
    assert (user["name"], user["groups"], user["external_id"]) == ("Ada", ["a", "b"], f"{provider.url}|ada")
    about = {name: said[name] for name in ("name", "tenant", "user", "key", "role", "scopes")}
    expected = {"name": "Ada", "tenant": "default", "user": user["id"], "key": None, "role": "manager", "scopes": None}
    assert about == expected
    assert (await browser.call("POST", "/v1/admin/teams", json={"name": "t"})).status_code == 201
    act = next(act for act in await guarded.acts() if act["action"] == "session.sign_in")
    assert (act["actor"], act["details"]["by"], act["details"]["provider"]) == (user["id"], "oidc", "corp")


async def test_the_same_user_signs_in_again_as_the_same_with_what_is_said_now(
    guarded: Gate, browser: Browser, provider: TestProvider
) -> None:
    provider.says = {"roles": ["boss"]}
    await sign_in(browser)
    first, before = (await browser.call("GET", "/v1/session")).json(), browser.cookie
    provider.says = {}
    await sign_in(browser)
    second = (await browser.call("GET", "/v1/session")).json()
    assert second["user"] == first["user"]
    assert (first["role"], second["role"]) == ("manager", "member")
    assert browser.cookie != before
    stolen = {"cookie": f"stoker_session={before}"}
    assert (await guarded.client.get("/v1/models", headers=stolen)).status_code == 401


async def test_a_users_session_ends_with_the_user_on_the_next_request_and_needs_the_token(
    guarded: Gate, browser: Browser
) -> None:
    await sign_in(browser)
    assert code_of(await browser.call("POST", "/v1/search", csrf=False)) == (403, "csrf_failed")
    [user] = (await guarded.call("GET", "/v1/admin/users")).json()["data"]
    assert (await guarded.call("DELETE", f"/v1/admin/users/{user['id']}")).status_code == 200
    assert code_of(await browser.call("GET", "/v1/models")) == (401, "session_ended")
    other = Browser(guarded)
    refused = await sign_in(other)
    assert code_of(refused) == (401, "login_refused")
    assert other.cookie is None


async def test_the_begin_asks_as_the_standard_says_and_its_cookie_is_short_lived(
    guarded: Gate, provider: TestProvider
) -> None:
    answers = [await guarded.client.get(BEGIN) for _ in range(2)]
    queries = [parse_qs(urlsplit(answer.headers["location"]).query) for answer in answers]
    assert queries[0]["scope"] == ["openid profile email"]
    assert queries[0]["redirect_uri"] == [f"http://gate{CALLBACK}"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(queries[0][name][0]) == 43
        assert queries[0][name] != queries[1][name]
    assert len({queries[0][name][0] for name in ("state", "nonce", "code_challenge")}) == 3
    cookie = answers[0].headers["set-cookie"].lower()
    for part in ("httponly", "samesite=lax", "max-age=600", "path=/v1/session/oidc"):
        assert part in cookie
    for secret in (SECRET, "nonce", queries[0]["state"][0].lower()):
        assert secret not in cookie
    assert provider.discovered == 1


async def test_the_callback_may_reach_another_worker(
    sqlite_url: str, tmp_path: Path, provider: TestProvider, rival: TestProvider
) -> None:
    how = settings_for(provider, rival)
    async with open_gate(sqlite_url, tmp_path / "a", **how) as one, open_gate(sqlite_url, tmp_path / "b", **how) as two:
        browser, elsewhere = Browser(one), Browser(two)
        callback = await go_to_provider(browser)
        elsewhere.client.cookies = browser.client.cookies
        assert (await come_back(elsewhere, callback)).status_code == 303
        assert await elsewhere.status() == 200


async def test_the_names_are_public(guarded: Gate) -> None:
    answer = await guarded.client.get("/v1/session/oidc")
    assert [one["name"] for one in answer.json()["data"]] == ["corp", "rival"]
    assert SECRET not in answer.text
    for path in ("/v1/session/oidc/none", "/v1/session/oidc/none/callback"):
        assert code_of(await guarded.client.get(path)) == (404, "provider_not_found")


@pytest.mark.parametrize(
    "change",
    [
        {"state": "0" * 43},
        {"state": ""},
        {"state": None},
        {"state": "ß"},
        {"code": None},
        {"code": ""},
        {"code": "another"},
        {"iss": "https://evil.example"},
        {"error": "access_denied"},
        {"error": "<script>", "code": None},
    ],
    ids=str,
)
async def test_a_callback_that_was_tampered_with_lets_nobody_in(
    guarded: Gate, browser: Browser, change: dict[str, str | None]
) -> None:
    path, _, query = (await go_to_provider(browser)).partition("?")
    parameters = {name: values[0] for name, values in parse_qs(query).items()} | change
    sent = {name: value for name, value in parameters.items() if value is not None}
    answer = await browser.client.get(path, params=sent)
    assert code_of(answer) == (401, "login_refused"), answer.text
    assert "<script>" not in answer.text
    assert await nobody_got_in(guarded, browser)


async def test_a_parameter_that_comes_twice_lets_nobody_in(guarded: Gate, browser: Browser) -> None:
    callback = (await go_to_provider(browser)).replace("?", "?iss=https://evil.example&")
    assert code_of(await browser.client.get(callback)) == (401, "login_refused")
    assert await nobody_got_in(guarded, browser)


async def test_a_callback_is_taken_only_in_the_browser_that_began(guarded: Gate, browser: Browser) -> None:
    """Else an attacker's callback would sign the visitor in as the attacker."""
    callback = await go_to_provider(browser)
    stranger = Browser(guarded)
    assert code_of(await stranger.client.get(callback)) == (401, "login_refused")
    await go_to_provider(stranger)
    assert code_of(await stranger.client.get(callback)) == (401, "login_refused")
    assert await nobody_got_in(guarded, stranger)
    assert (await come_back(browser, callback)).status_code == 303


async def test_a_sign_in_at_one_provider_is_not_finished_at_another(
    guarded: Gate, browser: Browser, rival: TestProvider
) -> None:
    """Mix-up: the one provider would be given the other's code."""
    callback = await go_to_provider(browser)
    query = callback.partition("?")[2].partition("&iss=")[0]
    answer = await browser.client.get(f"/v1/session/oidc/rival/callback?{query}")
    assert code_of(answer) == (401, "login_refused")
    assert rival.asked == []
    assert await nobody_got_in(guarded, browser)


async def test_a_callback_is_taken_once(guarded: Gate, browser: Browser, provider: TestProvider) -> None:
    callback = await go_to_provider(browser)
    kept = {"cookie": f"stoker_oidc={browser.client.cookies.get('stoker_oidc')}"}
    assert (await come_back(browser, callback)).status_code == 303
    assert browser.client.cookies.get("stoker_oidc") is None
    assert code_of(await browser.client.get(callback)) == (401, "login_refused")
    assert len(provider.asked) == 1  # it is refused here, without asking the provider
    thief = Browser(guarded)
    answer = await thief.client.get(callback, headers=kept)
    assert code_of(answer) == (401, "login_refused")
    assert (len(provider.asked), thief.cookie) == (2, None)


async def test_a_code_of_another_sign_in_is_worth_nothing(guarded: Gate, browser: Browser) -> None:
    """PKCE: a code that was caught elsewhere fits no other verifier."""
    victim = Browser(guarded)
    caught = parse_qs((await go_to_provider(victim)).partition("?")[2])["code"][0]
    path, _, query = (await go_to_provider(browser)).partition("?")
    parameters = {name: values[0] for name, values in parse_qs(query).items()}
    answer = await browser.client.get(path, params=parameters | {"code": caught})
    assert code_of(answer) == (401, "login_refused")
    assert "refuses the code" in answer.json()["error"]["message"]  # before any ID token was made
    assert await nobody_got_in(guarded, browser)


@pytest.mark.parametrize(
    "says",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"nonce": ["x"]},
        {"aud": "another client"},
        {"aud": AUDIENCE},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
    ],
    ids=str,
)
async def test_an_id_token_that_was_not_made_for_this_sign_in_lets_nobody_in(
    guarded: Gate, browser: Browser, provider: TestProvider, says: dict[str, Any]
) -> None:
    provider.says = says
    assert code_of(await sign_in(browser)) == (401, "login_refused")
    assert await nobody_got_in(guarded, browser)


async def test_several_audiences_with_this_client_as_the_party_are_fine(
    browser: Browser, provider: TestProvider
) -> None:
    provider.says = {"aud": [CLIENT, "another"], "azp": CLIENT}
    assert (await sign_in(browser)).status_code == 303


async def test_a_trusted_issuers_token_does_not_sign_in_at_another(
    guarded: Gate, browser: Browser, provider: TestProvider, rival: TestProvider
) -> None:
    callback = await go_to_provider(browser)
    nonce = next(iter(provider.grants.values()))["nonce"]
    token = rival.token("one", aud=CLIENT, nonce=nonce, sub="root")
    provider.token_answer = 200, json.dumps({"id_token": token})
    assert code_of(await browser.client.get(callback)) == (401, "login_refused")
    assert await nobody_got_in(guarded, browser)


async def test_an_id_token_is_no_token_for_the_api(guarded: Gate, provider: TestProvider) -> None:
    assert await guarded.status(provider.token("one", aud=CLIENT)) == 401
    assert await guarded.status(provider.token("one", aud=AUDIENCE)) == 200


async def test_a_token_opens_no_session_which_would_outlive_it(guarded: Gate, provider: TestProvider) -> None:
    token = provider.token("one", aud=AUDIENCE)
    shown: list[dict[str, Any]] = [{"json": {"key": token}}, {"headers": {"authorization": f"Bearer {token}"}}]
    for how in shown:
        answer = await guarded.client.post("/v1/session", **how)
        assert answer.status_code == 400, answer.text
        assert "set-cookie" not in answer.headers


ELSEWHERE = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    "https://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/" + "a" * 3000,
    "/ß",
]


@pytest.mark.parametrize("return_to", ELSEWHERE, ids=lambda text: repr(text)[:30])
async def test_no_sign_in_leads_to_another_site(guarded: Gate, browser: Browser, return_to: str) -> None:
    answer = await browser.client.get(BEGIN, params={"return_to": return_to})
    assert code_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "return_to"
    # Nor does a cookie that somebody planted:
    callback = await go_to_provider(browser)
    seed = (browser.client.cookies.get("stoker_oidc") or "").partition(".")[0]
    planted = f"{seed}.{base64.urlsafe_b64encode(return_to.encode()).decode().rstrip('=')}"
    answer = await Browser(guarded).client.get(callback, headers={"cookie": f"stoker_oidc={planted}"})
    assert code_of(answer) == (401, "login_refused")


@pytest.mark.parametrize("return_to", ["/", "/keys", "/keys?a=b&c=%2F#d", "/a//b"])
async def test_a_sign_in_leads_back_to_where_it_began(browser: Browser, return_to: str) -> None:
    answer = await browser.client.get(BEGIN, params={"return_to": return_to})
    async with httpx.AsyncClient(verify=PLAIN) as web:
        there = await web.get(answer.headers["location"])
    answer = await browser.client.get(there.headers["location"])
    assert (answer.status_code, answer.headers["location"]) == (303, return_to)


@pytest.mark.parametrize(
    "cookie", ["", ".", "x.y", "a" * 43, "a" * 43 + ".!", "a" * 43 + ".\xff", "a" * 43 + "." + "A" * 5]
)
async def test_a_cookie_that_makes_no_sense_is_refused(guarded: Gate, cookie: str) -> None:
    headers = {"cookie": f"stoker_oidc={cookie}".encode("latin-1")}
    answer = await guarded.client.get(f"{CALLBACK}?state=x&code=y", headers=headers)
    assert code_of(answer) == (401, "login_refused")


@pytest.mark.parametrize("how", ["away", "silent"])
@pytest.mark.parametrize("when", ["discovery", "token"])
async def test_a_provider_that_is_away_is_503_and_never_401(
    guarded: Gate, browser: Browser, provider: TestProvider, clock: ManualClock, how: str, when: str
) -> None:
    callback = await go_to_provider(browser) if when == "token" else BEGIN
    setattr(provider, how, True)
    for _ in range(7):  # until the breaker is open, and beyond
        async with asyncio.timeout(2):
            answer = await browser.client.get(callback)
        assert code_of(answer) == (503, "part_unavailable")
        assert answer.headers["retry-after"]
        assert "identity provider corp" in answer.json()["error"]["message"]
    setattr(provider, how, False)
    clock.advance(30)
    assert (await sign_in(browser)).status_code == 303


async def test_known_endpoints_stay_while_discovery_is_away(
    browser: Browser, provider: TestProvider, clock: ManualClock
) -> None:
    await browser.client.get(BEGIN)
    provider.away = True
    clock.advance(3601)
    assert (await browser.client.get(BEGIN)).status_code == 302
    assert provider.discovered == 2


async def test_keys_that_cannot_be_had_are_503_and_never_401(browser: Browser, provider: TestProvider) -> None:
    callback = await go_to_provider(browser)
    provider.keys_away = True
    assert code_of(await browser.client.get(callback)) == (503, "part_unavailable")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((401, '{"error": "invalid_client"}'), (502, "provider_failed")),
        ((400, '{"error": "unauthorized_client"}'), (502, "provider_failed")),
        ((400, '{"error": "invalid_grant", "error_description": "SECRET WORDS"}'), (401, "login_refused")),
        ((400, "<html>"), (502, "provider_failed")),
        ((302, ""), (502, "provider_failed")),
        ((200, '{"access_token": "x"}'), (502, "provider_failed")),
        ((200, '{"id_token": 7}'), (502, "provider_failed")),
        ((200, '{"id_token": "SECRET WORDS"}'), (401, "login_refused")),
        ((200, "[]"), (503, "part_unavailable")),
        ((200, "<html>"), (503, "part_unavailable")),
        ((200, "[" * 200_000), (503, "part_unavailable")),
        ((200, '{"id_token": "' + "a" * 300_000 + '"}'), (503, "part_unavailable")),
        ((429, "{}"), (503, "part_unavailable")),
        ((500, "{}"), (503, "part_unavailable")),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_whatever_the_token_endpoint_answers_is_told_clearly_and_without_secrets(
    guarded: Gate, browser: Browser, provider: TestProvider, answer: tuple[int, str], expected: tuple[int, str]
) -> None:
    provider.token_answer = answer
    got = await sign_in(browser)
    assert code_of(got) == expected, got.text
    for secret in (SECRET, "SECRET WORDS", provider.asked[0]["code_verifier"], provider.asked[0]["code"]):
        assert secret not in got.text
    assert await nobody_got_in(guarded, browser)


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": None},
        {"token_endpoint": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_endpoints_that_make_no_sense_are_503(
    browser: Browser, provider: TestProvider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert code_of(await browser.client.get(BEGIN)) == (503, "part_unavailable")


@pytest.mark.parametrize(
    ("metadata", "in_form"),
    [
        ({}, False),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, True),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]}, False),
        ({"token_endpoint_auth_methods_supported": 7}, False),
    ],
    ids=str,
)
async def test_the_clients_secret_goes_as_the_provider_takes_it(
    browser: Browser, provider: TestProvider, metadata: dict[str, Any], in_form: bool
) -> None:
    provider.metadata = metadata
    assert (await sign_in(browser)).status_code == 303
    assert ("client_secret" in provider.asked[0]) is in_form


async def test_endpoints_that_the_settings_name_need_no_discovery(
    sqlite_url: str, tmp_path: Path, provider: TestProvider, rival: TestProvider
) -> None:
    named = {"authorization_endpoint": f"{provider.url}/authorize?x=y", "token_endpoint": f"{provider.url}/token"}
    async with open_gate(sqlite_url, tmp_path / "data", **settings_for(provider, rival, **named)) as gate:
        assert (await sign_in(Browser(gate))).status_code == 303
    assert provider.discovered == 0


async def test_over_https_both_cookies_never_go_in_the_clear(
    sqlite_url: str, tmp_path: Path, rival: TestProvider
) -> None:
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(open_provider(f"https://gate{CALLBACK}"))
        how = settings_for(provider, rival) | {"public_url": "https://gate"}
        gate = await stack.enter_async_context(open_gate(sqlite_url, tmp_path / "data", **how))
        browser = Browser(gate, "https://gate")
        begun = await browser.client.get(BEGIN)
        async with httpx.AsyncClient(verify=PLAIN) as web:
            there = await web.get(begun.headers["location"])
        finished = await browser.client.get(there.headers["location"])
        cookies = [*begun.headers.get_list("set-cookie"), *finished.headers.get_list("set-cookie")]
        assert len(cookies) == 3
        assert all("; Secure" in cookie and "; HttpOnly" in cookie for cookie in cookies)


@pytest.mark.parametrize("accept", ["text/html,application/xhtml+xml", "*/*"])
async def test_who_was_led_back_by_a_browser_is_told_why_by_a_page(
    guarded: Gate, browser: Browser, provider: TestProvider, accept: str
) -> None:
    """What a provider, or a link of somebody else, says in the address is shown as text or not at all."""
    planted = "<script>alert(1)</script>"
    begun = await browser.client.get(BEGIN)
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
    callback = f"{CALLBACK}?{urlencode({'error': planted, 'error_description': planted, 'state': state})}"
    for path in (callback, f"{CALLBACK}?state={planted}", f"{BEGIN}?return_to=//elsewhere.example/{planted}"):
        answer = await browser.client.get(path, headers={"accept": accept})
        assert answer.status_code in (400, 401), answer.text
        assert planted not in answer.text
        if accept == "*/*":
            assert answer.json()["error"]["message"]
            continue
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "You are not signed in" in answer.text
        assert '<a class="button wide" href="/">' in answer.text
    assert await nobody_got_in(guarded, browser)
