"""Tokens: who gets in, and every known way of getting in that must not work."""

import asyncio
import hashlib
import hmac
import json
import time
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from jwt.utils import base64url_encode

from core.clock import ManualClock
from core.principal import Role
from tests.support.gate import Gate, open_gate
from tests.support.issuer import AUDIENCE, TestIssuer, forged, open_issuer

SECRET = "a shared secret of more than thirty-two bytes"


@pytest.fixture
async def issuer() -> AsyncIterator[TestIssuer]:
    async with open_issuer() as opened:
        opened.add_key("one")
        yield opened


@pytest.fixture
async def rival() -> AsyncIterator[TestIssuer]:
    """Another issuer that the gateway trusts too."""
    async with open_issuer() as opened:
        opened.add_key("theirs")
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time())


@pytest.fixture
async def guarded(
    sqlite_url: str, tmp_path: Path, issuer: TestIssuer, rival: TestIssuer, clock: ManualClock
) -> AsyncIterator[Gate]:
    """A gateway that trusts two issuers by their public keys, and one by a secret."""
    issuers = [
        {
            **by_jwks(issuer),
            "groups_claim": "groups",
            "role_claim": "realm_access.roles",
            "roles": {"boss": "manager", "root": "admin", "guest": "reader"},
        },
        by_jwks(rival),
        {"issuer": "by-secret", "audience": AUDIENCE, "algorithms": "HS256", "secret": SECRET, "tenant": "default"},
    ]
    async with open_gate(sqlite_url, tmp_path / "data", clock=clock, jwt_issuers=issuers) as gate:
        yield gate


def by_jwks(issuer: TestIssuer, **fields: Any) -> dict[str, Any]:
    return {
        "issuer": issuer.url,
        "audience": [AUDIENCE],
        "algorithms": ["RS256", "ES256"],
        "jwks_url": f"{issuer.url}/jwks",
        "tenant": "default",
        **fields,
    }


async def users_of(gate: Gate) -> list[dict[str, Any]]:
    return list((await gate.call("GET", "/v1/admin/users")).json()["data"])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_good_token_is_a_user_with_tenant_groups_and_role(
    guarded: Gate, issuer: TestIssuer, algorithm: str
) -> None:
    issuer.add_key("two", algorithm)
    roles = {"roles": ["guest", "boss", "unheard of"]}
    token = issuer.token("two", algorithm, name="Ada", groups=["b", "a", 7], realm_access=roles)
    assert await guarded.status(token) == 200
    principal = (await guarded.directory.identities.identify(token)).principal
    assert (principal.tenant_id, principal.key_id, principal.role) == ("default", None, Role.MANAGER)
    assert principal.groups == {"a", "b"}
    [user] = await users_of(guarded)
    assert (user["id"], user["external_id"]) == (principal.user_id, f"{issuer.url}|ada")
    assert (user["name"], user["role"], user["groups"]) == ("Ada", "manager", ["a", "b"])


async def test_a_token_by_shared_secret(guarded: Gate, issuer: TestIssuer) -> None:
    token = jwt.encode(issuer.claims(iss="by-secret"), SECRET, "HS256")
    assert await guarded.status(token) == 200
    assert await guarded.status(jwt.encode(issuer.claims(iss="by-secret"), SECRET + "!", "HS256")) == 401


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_only_the_pinned_algorithms_of_a_secret_are_taken(
    guarded: Gate, issuer: TestIssuer, algorithm: str
) -> None:
    """Signed with the right secret, by a stronger algorithm than the settings name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyJWT finds the secret short for it
        token = jwt.encode(issuer.claims(iss="by-secret"), SECRET, algorithm)
    assert await guarded.status(token) == 401


async def test_a_token_goes_by_bearer_too(guarded: Gate, issuer: TestIssuer) -> None:
    headers = {"authorization": f"Bearer {issuer.token('one')}"}
    assert (await guarded.client.get("/v1/models", headers=headers)).status_code == 200


Forge = Callable[[TestIssuer, TestIssuer], str]


def _hs256(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """As PyJWT would sign, which itself refuses a public key for a secret."""
    start = b".".join(base64url_encode(json.dumps(part).encode()) for part in (header, claims))
    return (start + b"." + base64url_encode(hmac.digest(secret, start, hashlib.sha256))).decode()


def _swapped(issuer: TestIssuer, secret: bytes) -> str:
    return _hs256({"alg": "HS256", "kid": "one", "typ": "JWT"}, issuer.claims(), secret)


def _own_key_in_header(issuer: TestIssuer, field: str) -> str:
    attacker = TestIssuer(issuer.url)
    attacker.add_key("one")
    value: Any = attacker.published[0] if field == "jwk" else f"{issuer.url}/elsewhere"
    return attacker.token("one", header={field: value})


def _tampered(issuer: TestIssuer) -> str:
    head, _, signature = issuer.token("one").split(".")
    payload = base64url_encode(json.dumps(issuer.claims(sub="root")).encode()).decode()
    return f"{head}.{payload}.{signature}"


def _deep(issuer: TestIssuer) -> str:
    payload = base64url_encode(b"[" * 5000).decode()
    return f"{issuer.token('one').split('.')[0]}.{payload}.c2ln"


def _late(issuer: TestIssuer, claim: str) -> str:
    return issuer.token("one", **{claim: int(time.time()) + 120})


ATTACKS: dict[str, Forge] = {
    "alg none": lambda i, _: forged({"alg": "none"}, i.claims()),
    "alg nOnE": lambda i, _: forged({"alg": "nOnE", "kid": "one"}, i.claims()),
    "no alg": lambda i, _: forged({"kid": "one"}, i.claims()),
    "alg a list": lambda i, _: forged({"alg": ["RS256"], "kid": "one"}, i.claims()),
    "no signature": lambda i, _: i.token("one").rpartition(".")[0] + ".",
    "public key as secret": lambda i, _: _swapped(i, i.public_pem("one")),
    "public jwk as secret": lambda i, _: _swapped(i, json.dumps(i.published[0]).encode()),
    "empty secret": lambda i, _: _swapped(i, b""),
    "stronger algorithm that is not pinned": lambda i, _: i.token("one", "RS512"),
    "another secret's issuer": lambda i, _: _hs256({"alg": "HS256", "kid": "one"}, i.claims(), SECRET.encode()),
    "unknown issuer": lambda i, _: i.token("one", iss="https://evil.example"),
    "issuer's beginning": lambda i, _: i.token("one", iss=i.url + "/"),
    "no issuer": lambda i, _: i.token("one", iss=None),
    "list of issuers": lambda i, _: forged({"alg": "RS256", "kid": "one"}, i.claims(iss=[i.url])),
    "another's key": lambda i, r: r.token("theirs", iss=i.url),
    "another's key under a known kid": lambda i, r: r.token("theirs", header={"kid": "one"}, iss=i.url),
    "wrong audience": lambda i, _: i.token("one", aud="another"),
    "no audience": lambda i, _: i.token("one", aud=None),
    "expired": lambda i, _: i.token("one", exp=int(time.time()) - 60),
    "no exp": lambda i, _: i.token("one", exp=None),
    "exp no number": lambda i, _: forged({"alg": "RS256", "kid": "one"}, i.claims(exp="never")),
    "exp infinite": lambda i, _: i.token("one", exp=float("inf")),
    "not yet valid": lambda i, _: _late(i, "nbf"),
    "issued in the future": lambda i, _: _late(i, "iat"),
    "no subject": lambda i, _: i.token("one", sub=None),
    "empty subject": lambda i, _: i.token("one", sub=""),
    "subject no text": lambda i, _: forged({"alg": "RS256", "kid": "one"}, i.claims(sub=7)),
    "endless subject": lambda i, _: i.token("one", sub="a" * 500),
    "unknown kid": lambda i, _: i.token("one", header={"kid": "two"}),
    "kid a path": lambda i, _: _swapped_kid(i, "../../../../../../dev/null"),
    "kid SQL": lambda i, _: _swapped_kid(i, "one' UNION SELECT 'x"),
    "kid an address": lambda i, _: i.token("one", header={"kid": f"{i.url}/jwks#one"}),
    "kid with a zero": lambda i, _: i.token("one", header={"kid": "one\x00"}),
    "kid a number": lambda i, _: forged({"alg": "RS256", "kid": 1}, i.claims()),
    "own key in jwk": lambda i, _: _own_key_in_header(i, "jwk"),
    "own key by jku": lambda i, _: _own_key_in_header(i, "jku"),
    "own key by x5u": lambda i, _: _own_key_in_header(i, "x5u"),
    "critical extension": lambda i, _: i.token("one", header={"crit": ["exp"], "exp": 1}),
    "detached payload": lambda i, _: forged({"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]}, i.claims()),
    "tampered": lambda i, _: _tampered(i),
    "deeply nested": lambda i, _: _deep(i),
    "huge": lambda i, _: i.token("one", padding="a" * 20_000),
    "garbage": lambda *_: "ey.ey.ey",
    "garbage in base64": lambda *_: forged({}, {}),
    "four parts": lambda i, _: i.token("one") + ".more",
}


def _swapped_kid(issuer: TestIssuer, kid: str) -> str:
    """The classic: a file or row whose content the attacker knows becomes the secret."""
    return _hs256({"alg": "HS256", "kid": kid}, issuer.claims(), b"")


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_401_and_makes_no_user(
    guarded: Gate, issuer: TestIssuer, rival: TestIssuer, attack: str
) -> None:
    answer = await guarded.call("GET", "/v1/models", ATTACKS[attack](issuer, rival))
    assert answer.status_code == 401, answer.text
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert await users_of(guarded) == []
    assert await guarded.status(issuer.token("one")) == 200


@pytest.mark.parametrize("fields", [{"use": "enc"}, {"alg": "RS512"}, {"kty": "oct"}], ids=str)
async def test_a_key_meant_for_something_else_verifies_nothing(
    guarded: Gate, issuer: TestIssuer, fields: dict[str, str]
) -> None:
    issuer.add_key("other", **fields)
    assert await guarded.status(issuer.token("other")) == 401


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_short_rsa_key_verifies_nothing(guarded: Gate, issuer: TestIssuer) -> None:
    issuer.add_key("short", bits=1024)
    assert await guarded.status(issuer.token("short")) == 401


async def test_a_secret_never_goes_with_a_public_key(guarded: Gate, issuer: TestIssuer) -> None:
    """A `kty: oct` key in the set is no secret for HS256 either."""
    issuer.published.append(
        {"kty": "oct", "kid": "sym", "alg": "HS256", "k": base64url_encode(SECRET.encode()).decode()}
    )
    token = jwt.encode(issuer.claims(), SECRET, "HS256", {"kid": "sym"})
    assert await guarded.status(token) == 401


async def test_a_token_without_kid_is_verified_where_only_one_key_fits(
    guarded: Gate, issuer: TestIssuer, clock: ManualClock
) -> None:
    token = jwt.encode(issuer.claims(), issuer.private["one"], "RS256")
    assert await guarded.status(token) == 200
    issuer.add_key("two")
    await guarded.status(issuer.token("two"))
    token = jwt.encode(issuer.claims(sub="bob"), issuer.private["one"], "RS256")
    assert await guarded.status(token) == 200
    clock.advance(10)
    assert await guarded.status(issuer.token("two")) == 200
    token = jwt.encode(issuer.claims(sub="cleo"), issuer.private["one"], "RS256")
    assert await guarded.status(token) == 401  # now it could be either


async def test_a_verified_token_is_not_verified_again_before_a_minute_or_its_end(
    guarded: Gate, issuer: TestIssuer, clock: ManualClock
) -> None:
    long, short = issuer.token("one"), issuer.token("one", exp=int(clock.time()) + 30, sub="bob")
    identities = guarded.directory.identities
    for token in (long, short):
        await identities.identify(token)
        assert identities.cached(token) is not None
    clock.advance(31)
    assert identities.cached(long) is not None
    assert identities.cached(short) is None
    clock.advance(29)
    assert identities.cached(long) is None
    assert issuer.fetches == 1


async def test_an_unknown_kid_makes_one_fetch_in_ten_seconds(
    guarded: Gate, issuer: TestIssuer, clock: ManualClock
) -> None:
    assert await guarded.status(issuer.token("one")) == 200
    clock.advance(10)
    for _ in range(20):
        assert await guarded.status(issuer.token("one", header={"kid": "unknown"})) == 401
    assert issuer.fetches == 2
    clock.advance(10)
    assert await guarded.status(issuer.token("one", header={"kid": "unknown"})) == 401
    assert issuer.fetches == 3


async def test_a_rotated_key_is_found_by_its_kid_and_the_old_one_ends(
    guarded: Gate, issuer: TestIssuer, clock: ManualClock
) -> None:
    old = issuer.token("one")
    assert await guarded.status(old) == 200
    issuer.published.clear()
    issuer.add_key("two")
    clock.advance(10)
    assert await guarded.status(issuer.token("two")) == 200
    assert await guarded.status(issuer.token("one", sub="bob")) == 401


async def test_a_key_that_was_taken_away_ends_without_any_new_one(
    guarded: Gate, issuer: TestIssuer, clock: ManualClock
) -> None:
    assert await guarded.status(issuer.token("one")) == 200
    issuer.published.clear()
    clock.advance(301)
    for number in range(50):
        if await guarded.status(issuer.token("one", jti=str(number))) == 401:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the key that was taken away still verifies")


async def test_keys_stay_while_their_issuer_is_away(guarded: Gate, issuer: TestIssuer, clock: ManualClock) -> None:
    assert await guarded.status(issuer.token("one")) == 200
    issuer.away = True
    clock.advance(3600)
    assert await guarded.status(issuer.token("one")) == 200
    assert await guarded.status(issuer.token("one", header={"kid": "new"})) == 401


async def test_an_issuer_that_was_never_reached_is_503_and_never_401(
    guarded: Gate, issuer: TestIssuer, clock: ManualClock
) -> None:
    issuer.away = True
    for _ in range(3):
        answer = await guarded.call("GET", "/v1/models", issuer.token("one"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "part_unavailable")
        assert answer.headers["retry-after"]
    assert issuer.fetches == 1
    issuer.away = False
    clock.advance(10)
    assert await guarded.status(issuer.token("one")) == 200


async def test_what_a_token_says_anew_is_kept_and_what_it_no_longer_says_ends(
    guarded: Gate, issuer: TestIssuer
) -> None:
    boss = issuer.token("one", groups=["a"], realm_access={"roles": "root"})
    assert (await guarded.directory.identities.identify(boss)).principal.role is Role.ADMIN
    plain = issuer.token("one", groups=["b"])
    principal = (await guarded.directory.identities.identify(plain)).principal
    assert (principal.role, principal.groups) == (Role.MEMBER, {"b"})
    [user] = await users_of(guarded)
    assert (user["role"], user["groups"]) == ("member", ["b"])


async def test_where_the_issuer_says_no_role_the_administrator_does(guarded: Gate, rival: TestIssuer) -> None:
    token = rival.token("theirs")
    assert (await guarded.directory.identities.identify(token)).principal.role is Role.MEMBER
    [user] = await users_of(guarded)
    body = {"role": "reader", "groups": ["x"]}
    assert (await guarded.call("PATCH", f"/v1/admin/users/{user['id']}", json=body)).status_code == 200
    principal = (await guarded.directory.identities.identify(token)).principal
    assert (principal.role, principal.groups) == (Role.READER, {"x"})


async def test_a_disabled_user_and_a_disabled_tenant_are_refused_from_the_next_request_on(
    sqlite_url: str, tmp_path: Path, issuer: TestIssuer
) -> None:
    config = by_jwks(issuer, tenant=None, tenant_claim="org", tenants={"A": "acme"})
    async with open_gate(sqlite_url, tmp_path / "data", jwt_issuers=[config]) as gate:
        token = issuer.token("one", org="A")
        assert await gate.status(token) == 401  # there is no such tenant yet
        tenant = await gate.made("/v1/admin/tenants", name="acme")
        assert await gate.status(token) == 200
        assert await gate.status(issuer.token("one", org="acme")) == 401
        assert await gate.status(issuer.token("one")) == 401
        [user] = (await gate.call("GET", "/v1/admin/users", params={"tenant": "acme"})).json()["data"]
        await gate.call("DELETE", f"/v1/admin/users/{user['id']}")
        assert await gate.status(token) == 401
        await gate.call("PATCH", f"/v1/admin/users/{user['id']}", json={"disabled": False})
        assert await gate.status(token) == 200
        await gate.call("DELETE", f"/v1/admin/tenants/{tenant['id']}")
        assert await gate.status(token) == 401


@pytest.mark.parametrize("what", ["users", "tenants"])
async def test_a_worker_on_another_host_learns_by_its_poll_who_is_disabled(
    url: str, tmp_path: Path, issuer: TestIssuer, what: str
) -> None:
    how = {"jwt_issuers": [by_jwks(issuer, tenant="acme")]}
    async with open_gate(url, tmp_path / "a", **how) as here, open_gate(url, tmp_path / "b", **how) as elsewhere:
        await here.made("/v1/admin/tenants", name="acme")
        token = issuer.token("one")
        assert await elsewhere.status(token) == 200
        await elsewhere.directory.identities.poll()  # the user was made a moment ago
        assert await elsewhere.status(token) == 200
        [disabled] = [
            one
            for one in (await here.call("GET", f"/v1/admin/{what}", params={"tenant": "acme"})).json()["data"]
            if one["name"] in ("ada", "acme")
        ]
        assert (await here.call("DELETE", f"/v1/admin/{what}/{disabled['id']}")).status_code == 200
        await elsewhere.directory.identities.poll()
        assert elsewhere.directory.identities.cached(token) is None
        assert await elsewhere.status(token) == 401


async def test_users_of_two_issuers_with_one_subject_are_two_users(
    guarded: Gate, issuer: TestIssuer, rival: TestIssuer
) -> None:
    assert [await guarded.status(token) for token in (issuer.token("one"), rival.token("theirs"))] == [200, 200]
    assert len({user["id"] for user in await users_of(guarded)}) == 2


async def test_first_sight_by_many_workers_makes_one_user(url: str, tmp_path: Path, issuer: TestIssuer) -> None:
    how = {"jwt_issuers": [by_jwks(issuer)]}
    async with open_gate(url, tmp_path / "a", **how) as one, open_gate(url, tmp_path / "b", **how) as two:
        token = issuer.token("one")
        assert await asyncio.gather(*(gate.status(token) for gate in (one, two) * 4)) == [200] * 8
        assert len(await users_of(one)) == 1
