"""Keys on both databases: made, changed, rotated, revoked, and the workers that remember them."""

import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api.keytext import PREFIX_LENGTH
from core.clock import ManualClock
from core.principal import CacheWish
from core.priority import Priority
from storage.schema import api_keys
from tests.support.gate import Gate, open_gate

DEFAULTS = {
    "rpm": 60,
    "burst": 100,
    "tpm": 100_000,
    "parallel": 10,
    "usd_per_day": None,
    "usd_per_month": None,
    "strict": False,
}


async def subject_limits(gate: Gate, key: str) -> dict[str, Any]:
    """What the worker would have admission check, by kind."""
    identity = await gate.directory.identities.identify(key)
    return {subject.kind.value: subject.limits for subject in identity.subjects}


async def test_a_new_key_has_the_default_limits_and_the_first_admin_key_none(gate: Gate) -> None:
    made = await gate.key()
    assert made["limits"] == DEFAULTS
    assert (await subject_limits(gate, made["key"]))["key"].tokens_per_minute == 100_000
    assert await subject_limits(gate, gate.admin) == {}


async def test_named_limits_replace_defaults_and_null_takes_one_away(gate: Gate) -> None:
    made = await gate.key(limits={"rpm": 5, "tpm": None, "usd_per_day": "0.000000001", "strict": True})
    expected = {"rpm": 5, "burst": None, "tpm": None, "usd_per_day": "0.000000001", "strict": True}
    assert made["limits"] == {**DEFAULTS, **expected}
    assert (await subject_limits(gate, made["key"]))["key"].nano_usd_per_day == 1


async def test_money_keeps_every_digit_of_a_json_number(gate: Gate) -> None:
    body = b'{"name": "x", "limits": {"usd_per_month": 8860462.098064612}}'  # more digits than a float has
    answer = await gate.client.post(
        "/v1/admin/keys", content=body, headers={"x-api-key": gate.admin, "content-type": "application/json"}
    )
    assert answer.json()["limits"]["usd_per_month"] == "8860462.098064612"


async def test_everything_asked_of_a_key_is_kept_and_held(gate: Gate) -> None:
    team = await gate.made("/v1/admin/teams", name="blue")
    user = await gate.made("/v1/admin/users", name="Ada", groups=["b", "a"], team=team["id"])
    made = await gate.key(
        "reader",
        user=user["id"],
        scopes=["search", "collections:read"],
        local_only=True,
        priority="batch",
        rescue=False,
        cache="exact",
    )
    assert made["scopes"] == ["collections:read", "search"]
    principal = (await gate.directory.identities.identify(made["key"])).principal
    assert (principal.user_id, principal.team_id, principal.groups) == (user["id"], team["id"], {"a", "b"})
    assert principal.reach.local_only
    assert principal.priority is Priority.BATCH
    assert principal.rescue is False
    assert (principal.cache, made["cache"]) == (CacheWish.EXACT, "exact")
    assert principal.scopes == {"search", "collections:read"}
    assert await gate.status(made["key"]) == 403


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"scopes": ["everything"]}, 400, "invalid_request"),
        ({"limits": {"rpm": 0}}, 400, "invalid_request"),
        ({"limits": {"burst": 5, "rpm": None}}, 400, "invalid_request"),
        ({"limits": {"usd_per_day": "0.0000000001"}}, 400, "invalid_request"),
        ({"limits": {"usd_per_day": -1}}, 400, "invalid_request"),
        ({"limits": {"usd_per_day": "NaN"}}, 400, "invalid_request"),
        ({"limits": {"usd_per_day": True}}, 400, "invalid_request"),
        ({"limits": {"gpu": 1}}, 400, "invalid_request"),
        ({"cache": "often"}, 400, "invalid_request"),
        ({"tenant": "nowhere"}, 404, "tenant_not_found"),
        ({"user": "user_none"}, 404, "user_not_found"),
        ({"team": "team_none"}, 404, "team_not_found"),
    ],
)
async def test_what_cannot_hold_is_refused_and_makes_no_key(
    light_gate: Gate, fields: dict[str, Any], status: int, code: str
) -> None:
    answer = await light_gate.call("POST", "/v1/admin/keys", json={"name": "x", **fields})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert len((await light_gate.call("GET", "/v1/admin/keys")).json()["data"]) == 1


async def test_a_users_or_teams_of_another_tenant_gets_no_key(light_gate: Gate) -> None:
    tenant = await light_gate.made("/v1/admin/tenants", name="b")
    user = await light_gate.made("/v1/admin/users", name="Bo", tenant="b")
    team = await light_gate.made("/v1/admin/teams", name="Bs", tenant=tenant["id"])
    for fields in ({"user": user["id"]}, {"team": team["id"]}):
        answer = await light_gate.call("POST", "/v1/admin/keys", json={"name": "x", **fields})
        assert answer.status_code == 404


async def test_a_changed_key_is_held_to_it_on_its_next_request(gate: Gate) -> None:
    made = await gate.key("member", limits={"rpm": 7})
    assert await gate.status(made["key"]) == 200
    changes = {"scopes": ["chat"], "limits": {"tpm": 9}, "local_only": True, "name": "new", "priority": "interactive"}
    changes |= {"rescue": False, "cache": "semantic"}
    changed = (await gate.call("PATCH", f"/v1/admin/keys/{made['id']}", json=changes)).json()
    assert (changed["name"], changed["limits"]["rpm"], changed["limits"]["tpm"]) == ("new", 7, 9)
    identity = await gate.directory.identities.identify(made["key"])
    assert identity.generation == 1
    assert identity.principal.reach.local_only
    assert identity.principal.priority is Priority.INTERACTIVE
    assert identity.principal.rescue is False
    assert identity.principal.cache is CacheWish.SEMANTIC
    assert identity.subjects[0].limits.tokens_per_minute == 9
    refused = await gate.call("GET", "/v1/models", made["key"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_not_allowed")
    assert gate.bumped == [("default", made["id"], 1)]
    rotated = (await gate.call("POST", f"/v1/admin/keys/{made['id']}/rotate", json={"overlap_s": 60})).json()
    assert (rotated["cache"], rotated["rescue"]) == ("semantic", False)
    freed = (await gate.call("PATCH", f"/v1/admin/keys/{made['id']}", json={"scopes": None})).json()
    assert freed["scopes"] is None
    assert await gate.status(made["key"]) == 200


async def test_a_key_can_be_given_an_end_and_freed_of_it(gate: Gate) -> None:
    made = await gate.key(expires_in_s=100)
    assert made["expires_at"] - made["created_at"] in (100, 101)
    freed = (await gate.call("PATCH", f"/v1/admin/keys/{made['id']}", json={"expires_in_s": None})).json()
    assert freed["expires_at"] is None


async def test_a_revoked_key_ends_in_every_worker_of_the_host_with_its_next_request(url: str, tmp_path: Path) -> None:
    async with open_gate(url, tmp_path / "data") as one, open_gate(url, tmp_path / "data") as other:
        made = await one.key()
        assert [await worker.status(made["key"]) for worker in (one, other)] == [200, 200]
        answer = await one.call("DELETE", f"/v1/admin/keys/{made['id']}")
        assert answer.json()["revoked_at"] is not None
        assert [await worker.status(made["key"]) for worker in (other, one)] == [401, 401]
        assert one.bumped == [("default", made["id"], 1)]
        await one.call("DELETE", f"/v1/admin/keys/{made['id']}")
        assert len(one.bumped) == 1


async def test_a_worker_on_another_host_learns_of_it_by_its_poll(url: str, tmp_path: Path) -> None:
    async with open_gate(url, tmp_path / "a") as here, open_gate(url, tmp_path / "b") as elsewhere:
        made = await here.key()
        await elsewhere.directory.identities.poll()  # what was made a moment ago is a change, too
        assert await elsewhere.status(made["key"]) == 200
        await here.call("DELETE", f"/v1/admin/keys/{made['id']}")
        await elsewhere.directory.identities.poll()
        assert await elsewhere.status(made["key"]) == 401


@pytest.mark.parametrize(
    "what", ["key", "user", "tenant", "user's limits", "tenant's limits", "team's limits", "no limits"]
)
async def test_a_poll_finds_every_kind_of_change(url: str, tmp_path: Path, what: str) -> None:
    async with open_gate(url, tmp_path / "a") as here, open_gate(url, tmp_path / "b") as elsewhere:
        tenant = await here.made("/v1/admin/tenants", name="acme")
        team = await here.made("/v1/admin/teams", name="t", tenant="acme")
        user = await here.made("/v1/admin/users", name="u", tenant="acme", team=team["id"])
        made = await here.key(tenant="acme", user=user["id"])
        await elsewhere.directory.identities.poll()  # what was made a moment ago is a change, too
        before = await elsewhere.directory.identities.identify(made["key"])
        method, path, body = {
            "key": ("PATCH", f"keys/{made['id']}", {"role": "reader"}),
            "user": ("PATCH", f"users/{user['id']}", {"groups": ["new"]}),
            "tenant": ("PATCH", f"tenants/{tenant['id']}", {"local_only": True}),
            "user's limits": ("PUT", f"limits/user/{user['id']}", {"rpm": 3}),
            "tenant's limits": ("PUT", f"limits/tenant/{tenant['id']}", {"rpm": 3}),
            "team's limits": ("PUT", f"limits/team/{team['id']}", {"rpm": 3}),
            "no limits": ("DELETE", f"limits/key/{made['id']}", None),
        }[what]
        answer = await here.call(method, f"/v1/admin/{path}", **({} if body is None else {"json": body}))
        assert answer.status_code == 200, answer.text
        assert elsewhere.directory.identities.cached(made["key"]) == before
        await elsewhere.directory.identities.poll()
        assert elsewhere.directory.identities.cached(made["key"]) is None
        assert await elsewhere.directory.identities.identify(made["key"]) != before


async def test_rotation_at_once_ends_the_old_key(gate: Gate) -> None:
    made = await gate.key("reader", scopes=["models"], limits={"rpm": 7})
    new = await gate.made(f"/v1/admin/keys/{made['id']}/rotate")
    assert {name: new[name] for name in ("name", "role", "scopes", "limits", "expires_at")} == {
        name: made[name] for name in ("name", "role", "scopes", "limits", "expires_at")
    }
    assert [await gate.status(key["key"]) for key in (made, new)] == [401, 200]
    assert (await gate.call("POST", f"/v1/admin/keys/{made['id']}/rotate")).status_code == 404


async def test_both_keys_work_while_they_overlap(url: str, tmp_path: Path) -> None:
    clock = ManualClock(2_000_000_000.0)
    async with open_gate(url, tmp_path / "data", clock=clock) as gate:
        made = await gate.key()
        assert await gate.status(made["key"]) == 200
        new = await gate.made(f"/v1/admin/keys/{made['id']}/rotate", overlap_s=3600)
        assert gate.bumped == [("default", made["id"], 1)]
        assert [await gate.status(key["key"]) for key in (made, new)] == [200, 200]
        clock.advance(3599)
        await gate.directory.identities.poll()
        assert [await gate.status(key["key"]) for key in (made, new)] == [200, 200]
        clock.advance(1)
        assert [await gate.status(key["key"]) for key in (made, new)] == [401, 200]


async def test_an_overlap_never_lengthens_a_key_and_lasts_a_week_at_most(light_gate: Gate) -> None:
    made = await light_gate.key(expires_in_s=60)
    await light_gate.made(f"/v1/admin/keys/{made['id']}/rotate", overlap_s=604_800)
    old = (await light_gate.call("GET", f"/v1/admin/keys/{made['id']}")).json()
    assert old["expires_at"] == made["expires_at"]
    answer = await light_gate.call("POST", f"/v1/admin/keys/{made['id']}/rotate", json={"overlap_s": 604_801})
    assert answer.status_code == 400


async def test_a_disabled_users_keys_end_and_come_back(gate: Gate) -> None:
    user = await gate.made("/v1/admin/users", name="Ada")
    made = await gate.key(user=user["id"])
    assert await gate.status(made["key"]) == 200
    assert (await gate.call("DELETE", f"/v1/admin/users/{user['id']}")).json()["disabled_at"] is not None
    assert await gate.status(made["key"]) == 401
    await gate.call("PATCH", f"/v1/admin/users/{user['id']}", json={"disabled": False})
    assert await gate.status(made["key"]) == 200
    assert gate.bumped == [("default", made["id"], 1), ("default", made["id"], 2)]


async def test_a_disabled_tenants_keys_end_but_nobody_disables_their_own(gate: Gate) -> None:
    tenant = await gate.made("/v1/admin/tenants", name="acme")
    made = await gate.key(tenant="acme")
    assert await gate.status(made["key"]) == 200
    await gate.call("DELETE", f"/v1/admin/tenants/{tenant['id']}")
    assert await gate.status(made["key"]) == 401
    assert (await gate.call("DELETE", "/v1/admin/tenants/default")).status_code == 400
    assert await gate.status(gate.admin) == 200


async def test_the_list_comes_in_pages_the_newest_first(gate: Gate) -> None:
    made = [(await gate.key())["id"] for _ in range(5)]
    found: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        params = {"limit": 2} | ({"after": page["last_id"]} if page["last_id"] else {})
        page = (await gate.call("GET", "/v1/admin/keys", params=params)).json()
        found += [key["id"] for key in page["data"]]
    assert found[:5] == sorted(made, reverse=True)
    assert len(found) == 6


@pytest.mark.parametrize("kind", ["keys", "users", "teams"])
async def test_a_list_is_searched_by_a_part_of_the_name_page_by_page(gate: Gate, kind: str) -> None:
    path = f"/v1/admin/{kind}"
    names = ["Night crew", "100% night_watch", "day", "tonight"]
    made = {name: (await gate.made(path, name=name))["id"] for name in names}
    other = await gate.made("/v1/admin/tenants", name="elsewhere")
    await gate.made(path, name="night of others", tenant=other["id"])

    async def found(name: str) -> list[str]:
        ids: list[str] = []
        page: dict[str, Any] = {"has_more": True, "last_id": None}
        while page["has_more"]:
            params = {"limit": 1, "name": name} | ({"after": page["last_id"]} if page["last_id"] else {})
            page = (await gate.call("GET", path, params=params)).json()
            ids += [one["id"] for one in page["data"]]
        return ids

    assert await found("NIGHT") == [made[name] for name in ("tonight", "100% night_watch", "Night crew")]
    assert await found("%") == await found("_") == [made["100% night_watch"]]
    assert await found("nobody") == []
    assert (await gate.call("GET", path, params={"name": "x" * 201})).status_code == 400


async def test_a_restart_after_the_first_admin_key_was_revoked_goes_on_without_it(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with open_gate(sqlite_url, tmp_path / "data") as gate:
        listed = (await gate.call("GET", "/v1/admin/keys")).json()["data"]
        await gate.call("DELETE", f"/v1/admin/keys/{listed[0]['id']}")
    async with open_gate(sqlite_url, tmp_path / "data") as gate:
        assert await gate.status(gate.admin) == 401


async def test_sql_holds_hashes_and_no_keys(gate: Gate) -> None:
    keys = [gate.admin, (await gate.key())["key"]]
    rows = await gate.database.read(lambda connection: connection.execute(select(api_keys)))
    text = str([tuple(row) for row in rows])
    assert [key[:PREFIX_LENGTH] in text for key in keys] == [True, True]
    assert [key[PREFIX_LENGTH:] in text for key in keys] == [False, False]


async def test_the_first_admin_keys_file_is_its_owners_alone(light_gate: Gate, tmp_path: Path) -> None:
    file = tmp_path / "data" / "admin.key"
    assert file.read_text().strip() == light_gate.admin
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
