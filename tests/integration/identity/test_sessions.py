"""Sessions: what a sign-in gives, what it lets through, and every way of using or keeping one that must not work."""

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.login.secret import new_secret
from api.login.sessions import forget_expired
from core.clock import ManualClock
from storage.schema import sessions
from tests.support.browser import CHAT, Browser, code_of
from tests.support.gate import Gate, open_gate
from tests.support.postgres import Postgres


async def rows_of(gate: Gate) -> list[Any]:
    """The table of sessions."""

    async def read(connection: AsyncConnection) -> list[Any]:
        return list((await connection.execute(sa.select(sessions).order_by(sessions.c.created_at))).all())

    return await gate.database.read(read)


async def test_a_key_opens_a_session_by_header_and_by_body(gate: Gate) -> None:
    made = await gate.key("reader", scopes=["models"])
    for how in ({"headers": {"x-api-key": made["key"]}}, {"headers": {"authorization": f"Bearer {made['key']}"}}, {}):
        browser = Browser(gate)
        said = await browser.sign_in(made["key"], **how)
        about = {name: said[name] for name in ("name", "tenant", "key", "user", "role", "scopes")}
        assert about == {
            "name": "a reader",
            "tenant": "default",
            "key": made["id"],
            "user": None,
            "role": "reader",
            "scopes": ["models"],
        }
        assert abs(said["expires_at"] - time.time() - 12 * 3600) < 60
        assert await browser.status() == 200
        assert code_of(await browser.call("GET", "/v1/usage")) == (403, "scope_not_allowed")
        assert code_of(await browser.call("GET", "/v1/admin/keys")) == (403, "role_not_allowed")


async def test_the_cookie_is_for_no_page_to_read_and_for_no_other_site_to_send(gate: Gate) -> None:
    answer = await gate.client.post("/v1/session", headers={"x-api-key": gate.admin})
    (cookie,) = answer.headers.get_list("set-cookie")
    _, *attributes = [part.strip().lower() for part in cookie.split(";")]
    [max_age] = [part for part in attributes if part.startswith("max-age=")]
    assert {*attributes} - {max_age} == {"httponly", "samesite=lax", "path=/"}
    assert 12 * 3600 - 60 < int(max_age.removeprefix("max-age=")) <= 12 * 3600
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("public_url", "secure"), [("https://stoker.example/", True), ("http://stoker.example", False)]
)
async def test_over_https_the_cookie_never_goes_in_the_clear(
    sqlite_url: str, tmp_path: Path, public_url: str, secure: bool
) -> None:
    async with open_gate(sqlite_url, tmp_path / "data", public_url=public_url) as gate:
        answer = await gate.client.post("/v1/session", headers={"x-api-key": gate.admin})
        assert ("; Secure" in answer.headers["set-cookie"]) is secure


async def test_only_hashes_are_kept_and_neither_log_nor_answer_holds_the_secret(gate: Gate) -> None:
    browser = Browser(gate)
    await browser.sign_in(gate.admin)
    assert browser.cookie is not None
    [row] = await rows_of(gate)
    assert row.sha256 == sha256(browser.cookie.encode()).hexdigest()
    assert row.csrf_sha256 == sha256(browser.csrf.encode()).hexdigest()
    shown = f"{row} {await gate.acts()} {(await browser.call('GET', '/v1/session')).text}"
    assert browser.cookie not in shown
    assert len(browser.cookie) == 43


async def test_a_reloaded_page_learns_who_is_signed_in_and_its_token(gate: Gate) -> None:
    browser = Browser(gate)
    signed_in = await browser.sign_in(gate.admin)
    reloaded = (await browser.call("GET", "/v1/session")).json()
    assert reloaded == signed_in
    by_key = (await gate.call("GET", "/v1/session")).json()
    assert (by_key["role"], by_key["csrf_token"], by_key["expires_at"]) == ("admin", None, None)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 401),
        (b'{"key": "sk-stoker-wrong"}', 401),
        (b'{"key": ""}', 400),
        (b'{"key": 7}', 400),
        (b'{"kei": "sk-stoker-wrong"}', 400),
        (b"[" * 4000, 400),
        (b"\xff\xfe", 400),
        (b'{"key": "' + b"a" * 5000 + b'"}', 413),
    ],
    ids=str,
)
async def test_a_bad_sign_in_is_refused_and_opens_nothing(light_gate: Gate, content: bytes, status: int) -> None:
    answer = await light_gate.client.post("/v1/session", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert "set-cookie" not in answer.headers
    assert "sk-stoker-wrong" not in answer.text
    assert await rows_of(light_gate) == []


@pytest.mark.parametrize(
    ("content", "status"), [(b"", 201), (b"{}", 201), (b'{"key": ""}', 400), (b"[1]", 400), (b"a" * 5000, 413)], ids=str
)
async def test_a_body_beside_the_header_is_read_as_well(light_gate: Gate, content: bytes, status: int) -> None:
    headers = {"content-type": "application/json", "x-api-key": light_gate.admin}
    answer = await light_gate.client.post("/v1/session", content=content, headers=headers)
    assert answer.status_code == status, answer.text


async def test_another_sites_form_signs_nobody_in(light_gate: Gate) -> None:
    """Else a visitor would work, and upload, in the attacker's account."""
    body = f'{{"key": "{light_gate.admin}"}}'.encode()
    own = {"origin": "http://gate"}
    for headers, expected in (
        ({"content-type": "text/plain", **own}, 400),
        ({"content-type": "application/json", "origin": "https://evil.example"}, 403),
        ({"content-type": "application/json", "origin": "null"}, 403),
        ({"content-type": "application/json", **own}, 201),
    ):
        answer = await light_gate.client.post("/v1/session", content=body, headers=headers)
        assert answer.status_code == expected, headers


async def test_what_changes_something_needs_the_token_on_fastapi_and_on_the_hot_path(gate: Gate) -> None:
    browser, other = Browser(gate), Browser(gate)
    await browser.sign_in(gate.admin)
    await other.sign_in(gate.admin)
    wrong = ({}, {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": other.csrf}, {"x-csrf-token": "ß"})
    for method, path in (
        ("POST", "/v1/admin/keys"),
        ("POST", CHAT),
        ("DELETE", "/v1/session"),
        ("PATCH", "/v1/admin/keys/x"),
    ):
        for headers in wrong:
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            answer = await browser.call(method, path, csrf=False, headers=encoded)
            assert code_of(answer) == (403, "csrf_failed"), (path, headers)
    assert (await browser.call("POST", "/v1/admin/keys", json={"name": "x"})).status_code == 201
    assert code_of(await browser.call("POST", CHAT)) == (400, "invalid_request")  # it came past the door
    assert await browser.status() == 200
    assert (await browser.call("OPTIONS", "/v1/admin/keys", csrf=False)).status_code == 405


@pytest.mark.parametrize(
    ("origin", "let"),
    [
        ("http://gate", True),
        ("https://allowed.example", True),
        ("https://evil.example", False),
        ("http://gate.evil.example", False),
        ("http://gate:8080", False),
        ("http://evil.example/gate", False),
        ("http://[", False),
        ("gate", False),
        ("null", False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/admin/keys", CHAT])
async def test_a_page_of_another_origin_is_refused_even_with_the_token(
    sqlite_url: str, tmp_path: Path, origin: str, let: bool, path: str
) -> None:
    async with open_gate(sqlite_url, tmp_path / "data", cors_origins=["https://allowed.example"]) as gate:
        browser = Browser(gate)
        await browser.sign_in(gate.admin)
        answer = await browser.call("POST", path, headers={"origin": origin})
        assert (code_of(answer) == (400, "invalid_request")) is let
        assert (code_of(answer) == (403, "csrf_failed")) is not let


async def test_where_a_public_url_is_set_only_its_pages_use_the_session(sqlite_url: str, tmp_path: Path) -> None:
    async with open_gate(sqlite_url, tmp_path / "data", public_url="HTTPS://Stoker.example:443") as gate:
        browser = Browser(gate, "https://gate")
        await browser.sign_in("", headers={"x-api-key": gate.admin})
        for origin, status in (("https://stoker.example", 201), ("https://gate", 403), ("http://stoker.example", 403)):
            answer = await browser.call("POST", "/v1/admin/keys", json={"name": "x"}, headers={"origin": origin})
            assert answer.status_code == status, origin


async def test_a_header_wins_over_the_cookie_and_needs_no_token(light_gate: Gate) -> None:
    browser, reader = Browser(light_gate), await light_gate.key("reader")
    await browser.sign_in(light_gate.admin)
    by_key = {"x-api-key": reader["key"], "origin": "https://evil.example"}
    said = (await browser.call("GET", "/v1/session", headers=by_key)).json()
    assert (said["key"], said["csrf_token"]) == (reader["id"], None)
    refused = await browser.call("POST", "/v1/admin/keys", csrf=False, headers=by_key, json={"name": "x"})
    assert code_of(refused) == (403, "role_not_allowed")
    admin = {"authorization": f"Bearer {light_gate.admin}", "origin": "https://evil.example"}
    made = await browser.call("POST", "/v1/admin/keys", csrf=False, headers=admin, json={"name": "x"})
    assert made.status_code == 201
    for headers in ({"authorization": "Bearer sk-stoker-wrong"}, {"authorization": "Basic eDp5"}, {"x-api-key": "x"}):
        assert code_of(await browser.call("GET", "/v1/models", headers=headers)) == (401, "invalid_api_key")
    assert code_of(await browser.call("DELETE", "/v1/session", headers=admin)) == (400, "invalid_request")
    assert await browser.status() == 200


async def test_a_secret_is_no_key_and_a_key_is_no_session(light_gate: Gate) -> None:
    browser = Browser(light_gate)
    await browser.sign_in(light_gate.admin)
    assert await browser.status() == 200
    assert browser.cookie is not None
    assert await light_gate.status(browser.cookie) == 401
    assert await light_gate.status(f"session:{sha256(browser.cookie.encode()).hexdigest()}") == 401
    for wrong in (light_gate.admin, new_secret(), "", "x" * 5000):
        headers = {"cookie": f"stoker_session={wrong}"}
        answer = await light_gate.client.get("/v1/models", headers=headers)
        assert code_of(answer) == (401, "session_ended")


async def test_two_session_cookies_are_refused(light_gate: Gate) -> None:
    """A sibling of the domain may have planted one, to have its owner's things done in the attacker's account."""
    browser, attacker = Browser(light_gate), Browser(light_gate)
    await browser.sign_in(light_gate.admin)
    await attacker.sign_in((await light_gate.key())["key"])
    both = {"cookie": f"stoker_session={attacker.cookie}; a=b; stoker_session={browser.cookie}"}
    assert (await light_gate.client.get("/v1/models", headers=both)).status_code == 401
    one = {"cookie": f"a=b;stoker_session={browser.cookie} ; xstoker_session=1"}
    assert (await light_gate.client.get("/v1/models", headers=one)).status_code == 200


async def test_a_sign_in_always_makes_a_new_session_and_ends_the_one_before(gate: Gate) -> None:
    browser, planted = Browser(gate), new_secret()
    browser.client.cookies.set("stoker_session", planted, domain="gate.local")
    await browser.sign_in(gate.admin)
    first = browser.cookie
    assert first != planted
    assert planted not in str(await rows_of(gate))
    await browser.sign_in(gate.admin)
    assert browser.cookie not in (first, planted)
    assert await browser.status() == 200
    answer = await gate.client.get("/v1/models", headers={"cookie": f"stoker_session={first}"})
    assert code_of(answer) == (401, "session_ended")


async def test_after_sign_out_a_stolen_cookie_is_refused_at_once_by_every_worker_of_the_host(
    url: str, tmp_path: Path
) -> None:
    async with open_gate(url, tmp_path / "data") as one, open_gate(url, tmp_path / "data") as other:
        browser, bystander = Browser(one), Browser(one)
        await browser.sign_in(one.admin)
        await bystander.sign_in(one.admin)
        stolen = {"cookie": f"stoker_session={browser.cookie}"}
        for gate in (one, other):
            await gate.directory.identities.poll()  # so that nothing but the sign-out is new to it
            assert (await gate.client.get("/v1/models", headers=stolen)).status_code == 200
        answer = await browser.call("DELETE", "/v1/session")
        assert answer.status_code == 204
        assert "max-age=0" in answer.headers["set-cookie"].lower()
        assert browser.cookie is None
        for gate in (one, other):
            assert code_of(await gate.client.get("/v1/models", headers=stolen)) == (401, "session_ended")
            assert code_of(await gate.client.post(CHAT, headers=stolen)) == (401, "session_ended")
        assert await bystander.status() == 200


async def test_another_host_learns_of_a_sign_out_by_its_poll(url: str, tmp_path: Path) -> None:
    async with open_gate(url, tmp_path / "a") as here, open_gate(url, tmp_path / "b") as elsewhere:
        browser = Browser(here)
        await browser.sign_in((await here.key())["key"])
        stolen = {"cookie": f"stoker_session={browser.cookie}"}
        await elsewhere.directory.identities.poll()  # so that nothing but the sign-out is new to it
        assert (await elsewhere.client.get("/v1/models", headers=stolen)).status_code == 200
        await browser.call("DELETE", "/v1/session")
        await elsewhere.directory.identities.poll()
        assert (await elsewhere.client.get("/v1/models", headers=stolen)).status_code == 401


async def test_a_session_ends_with_its_key_its_user_or_its_tenant_on_the_next_request(gate: Gate) -> None:
    tenant = await gate.made("/v1/admin/tenants", name="acme")
    user = await gate.made("/v1/admin/users", name="Ada", tenant="acme")
    for path in ("keys/{key}", "users/{user}", "tenants/{tenant}"):
        key = await gate.key(tenant="acme", user=user["id"])
        browser = Browser(gate)
        assert (await browser.sign_in(key["key"]))["user"] == user["id"]
        assert await browser.status() == 200
        ended = path.format(key=key["id"], user=user["id"], tenant=tenant["id"])
        assert (await gate.call("DELETE", f"/v1/admin/{ended}")).status_code == 200
        assert code_of(await browser.call("GET", "/v1/models")) == (401, "session_ended"), path
        if not path.startswith("keys"):
            await gate.call("PATCH", f"/v1/admin/{ended}", json={"disabled": False})
            assert await browser.status() == 200  # nothing was deleted


async def test_a_session_ends_at_its_time_or_with_its_key(url: str, tmp_path: Path) -> None:
    clock = ManualClock(time.time())
    async with open_gate(url, tmp_path / "data", clock=clock, session_hours=0.5) as gate:
        own, by_key = Browser(gate), Browser(gate)
        short = await gate.key(expires_in_s=600)
        now = clock.time()
        assert (await own.sign_in(gate.admin))["expires_at"] == int(now + 1800)
        assert (await by_key.sign_in(short["key"]))["expires_at"] == int(now + 600)
        clock.advance(599)
        assert [await own.status(), await by_key.status()] == [200, 200]
        clock.advance(1)
        assert [await own.status(), await by_key.status()] == [200, 401]
        clock.advance(1199)
        assert await own.status() == 200
        clock.advance(1)
        assert await own.status() == 401
        await forget_expired(gate.database, clock)
        assert await rows_of(gate) == []


async def test_expired_rows_are_deleted_and_live_ones_stay(url: str, tmp_path: Path) -> None:
    clock = ManualClock(time.time())
    async with open_gate(url, tmp_path / "data", clock=clock) as gate:
        await Browser(gate).sign_in(gate.admin)
        clock.advance(3600)
        browser = Browser(gate)
        await browser.sign_in(gate.admin)
        clock.advance(11.5 * 3600)
        await forget_expired(gate.database, clock)
        assert browser.cookie is not None
        assert [row.sha256 for row in await rows_of(gate)] == [sha256(browser.cookie.encode()).hexdigest()]


async def test_a_session_has_the_role_scopes_limits_and_generation_of_its_key_as_they_are_now(gate: Gate) -> None:
    made = await gate.key("member", limits={"rpm": 7})
    browser = Browser(gate)
    await browser.sign_in(made["key"])
    identities = gate.directory.identities
    assert browser.cookie is not None
    by_key, by_cookie = await identities.identify(made["key"]), await identities.session(browser.cookie)
    assert by_cookie.principal == by_key.principal
    assert by_cookie.subjects == by_key.subjects
    assert by_cookie.generation == by_key.generation
    assert code_of(await browser.call("POST", "/v1/admin/teams", json={"name": "t"})) == (403, "role_not_allowed")
    change = {"role": "manager", "limits": {"rpm": 9}}
    assert (await gate.call("PATCH", f"/v1/admin/keys/{made['id']}", json=change)).status_code == 200
    assert (await browser.call("POST", "/v1/admin/teams", json={"name": "t"})).status_code == 201
    by_cookie = await identities.session(browser.cookie)
    assert by_cookie.subjects[0].limits.requests_per_minute == 9
    assert by_cookie.generation == by_key.generation + 1
    assert (await identities.renew(by_cookie)).principal.key_id == made["id"]
    await gate.call("PATCH", f"/v1/admin/keys/{made['id']}", json={"scopes": ["search"]})
    assert code_of(await browser.call("GET", "/v1/models")) == (403, "scope_not_allowed")
    assert (await browser.call("DELETE", "/v1/session")).status_code == 204  # which no scope forbids


async def test_sign_in_and_sign_out_stand_in_the_audit_log(gate: Gate) -> None:
    browser = Browser(gate)
    said = await browser.sign_in(gate.admin)
    opened = (await gate.acts())[0]
    answer = await browser.call("DELETE", "/v1/session")
    closed = (await gate.acts())[0]
    assert [(act["action"], act["actor"], act["target"]) for act in (opened, closed)] == [
        ("session.sign_in", said["key"], said["key"]),
        ("session.sign_out", said["key"], said["key"]),
    ]
    assert opened["details"]["by"] == "key"
    assert opened["details"]["session"] == closed["details"]["session"]
    assert closed["request_id"] == answer.headers["x-request-id"]


@pytest.mark.slow
async def test_while_sql_stands_still_known_sessions_go_on_and_nobody_is_told_that_theirs_is_over(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    clock = ManualClock(time.time())
    async with open_gate(postgres_url, tmp_path / "data", clock=clock, sql_deadline_s=0.8) as gate:
        known, unseen = Browser(gate), Browser(gate)
        await known.sign_in(gate.admin)
        unseen.client.cookies.set("stoker_session", new_secret(), domain="gate.local")
        with postgres.frozen():
            for _ in range(8):
                assert code_of(await unseen.call("GET", "/v1/models")) == (503, "part_unavailable")
                assert await known.status() == 200
                assert (await known.call("GET", "/v1/session")).json()["role"] == "admin"
                assert code_of(await known.call("POST", CHAT)) == (400, "invalid_request")
            assert code_of(await known.call("DELETE", "/v1/session")) == (503, "part_unavailable")
            clock.advance(60.1)
            assert await known.status() == 503


async def test_a_known_session_costs_no_sql(light_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(light_gate)
    await browser.sign_in(light_gate.admin)

    async def fail(*_: object) -> None:
        raise AssertionError("SQL was asked")

    monkeypatch.setattr(light_gate.database, "read", fail)
    for _ in range(3):
        assert await browser.status() == 200
        assert code_of(await browser.call("POST", CHAT)) == (400, "invalid_request")
