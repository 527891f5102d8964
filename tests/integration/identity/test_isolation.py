"""Managers: everything in their own tenant, nothing in any other, nobody above themselves."""

from dataclasses import dataclass
from typing import Any

import pytest

from api.roles import ROUTES
from core.ids import new_id
from storage.schema import deliveries
from tests.support.gate import Gate


@dataclass
class Two:
    """Two tenants with one of everything each, and a manager's key of the first."""

    gate: Gate
    manager: str
    own: dict[str, str]
    other: dict[str, str]


async def furnish(gate: Gate, name: str) -> dict[str, str]:
    """Make a tenant with one of everything. Returns: their ids."""
    tenant = await gate.made("/v1/admin/tenants", name=name)
    team = await gate.made("/v1/admin/teams", name=f"team of {name}", tenant=name)
    user = await gate.made("/v1/admin/users", name=f"user of {name}", tenant=name)
    key = await gate.key(tenant=name, limits={"rpm": 5})
    for kind, id_ in (("tenant", tenant["id"]), ("team", team["id"]), ("user", user["id"])):
        assert (await gate.call("PUT", f"/v1/admin/limits/{kind}/{id_}", json={"rpm": 5})).status_code == 200
    answer = await gate.call("PUT", "/v1/admin/limits/model/small", params={"tenant": name}, json={"rpm": 5})
    assert answer.status_code == 200
    hook = await gate.made("/v1/admin/hooks", name=f"hook of {name}", tenant=name)
    webhook = await gate.made("/v1/admin/webhooks", url="http://127.0.0.1:9/secret", tenant=name)
    delivery = new_id("msg")
    row = {"id": delivery, "endpoint_id": webhook["id"], "tenant_id": tenant["id"], "event": "job.failed", "body": "{}"}
    row |= {"status": "given_up", "next_at": 0.0, "until": 0.0, "created_at": 0.0}

    async def add(connection: Any) -> None:
        await connection.execute(deliveries.insert().values(**row))

    await gate.database.write(add)
    return {
        "name": name,
        "hook": hook["id"],
        "webhook": webhook["id"],
        "delivery": delivery,
        "tenant": tenant["id"],
        "team": team["id"],
        "user": user["id"],
        "key": key["id"],
        "key's text": key["key"],
    }


@pytest.fixture
async def two(gate: Gate) -> Two:
    own, other = await furnish(gate, "acme"), await furnish(gate, "bolt")
    return Two(gate, (await gate.key("manager", tenant="acme"))["key"], own, other)


async def everything(gate: Gate, tenant: str) -> list[Any]:
    """All that an admin sees of a tenant."""
    found = [
        (await gate.call("GET", f"/v1/admin/{what}", params={"tenant": tenant})).json()
        for what in ("keys", "teams", "users", "hooks", "webhooks", "audit", "limits/model/small")
    ]
    tenants = (await gate.call("GET", "/v1/admin/tenants")).json()["data"]
    return [*found, *(one for one in tenants if one["name"] == tenant)]


async def test_a_manager_sees_and_changes_nothing_of_another_tenant_on_any_admin_route(two: Two) -> None:
    gate, other = two.gate, two.other
    before = await everything(gate, "bolt")
    ids = {"key_id": other["key"], "tenant_id": other["tenant"], "team_id": other["team"], "user_id": other["user"]}
    ids |= {"hook_id": other["hook"], "webhook_id": other["webhook"], "delivery_id": other["delivery"]}
    bodies = {"PATCH": {"name": "mine"}, "PUT": {"rpm": 1}, "POST": {"name": "mine", "tenant": "bolt"}}
    own_bodies = {"/v1/admin/webhooks": {"url": "http://127.0.0.1:9/mine", "tenant": "bolt"}}
    tried = 0
    for method, pattern in ROUTES:
        template = pattern.replace("{name:path}", "none").replace("{name}", "none")  # what belongs to no tenant
        if not template.startswith("/v1/admin/") or template == "/v1/admin/usage":
            continue
        for kind in ("key", "team", "user", "tenant") if "{kind}" in template else ("",):
            path = template.format(**ids, kind=kind, **{"subject_id:path": ""}) if "{kind}" not in template else ""
            path = path or f"/v1/admin/limits/{kind}/{other[kind]}"
            params = {} if "{" in template else {"tenant": "bolt"}
            sent = {} if template.endswith(("rotate", "redeliver")) else own_bodies.get(template, bodies.get(method))
            body = {"json": sent} if method in bodies else {}
            answer = await gate.call(method, path, two.manager, params=params, **body)
            tried += 1
            if (method, template) == ("GET", "/v1/admin/tenants"):  # takes no tenant: it shows what is in reach
                assert [one["id"] for one in answer.json()["data"]] == [two.own["tenant"]]
                continue
            assert answer.status_code in (403, 404), (method, path, answer.text)
            assert not any(
                value in answer.text for value in (other["key's text"], "team of bolt", "user of bolt", "/secret")
            )
    for method in ("GET", "PUT", "DELETE"):
        body = {"json": {"rpm": 1}} if method == "PUT" else {}
        path = "/v1/admin/limits/model/small"
        answer = await gate.call(method, path, two.manager, params={"tenant": "bolt"}, **body)
        assert answer.status_code == 403
    assert tried > 25
    assert await everything(gate, "bolt") == before
    assert await gate.status(other["key's text"]) == 200


async def test_what_is_not_there_and_what_is_anothers_look_the_same(two: Two) -> None:
    for what in ("key", "team", "user"):
        answers = [
            await two.gate.call("GET", f"/v1/admin/{what}s/{id_}", two.manager)
            for id_ in (two.other[what], f"{what}_none")
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["error"]["code"] == answers[1].json()["error"]["code"]
    named = [
        await two.gate.call("GET", "/v1/admin/keys", two.manager, params={"tenant": name}) for name in ("bolt", "none")
    ]
    assert named[0].json() == named[1].json()
    assert named[0].status_code == 403


async def test_a_managers_acts_happen_in_their_own_tenant(two: Two) -> None:
    gate, own = two.gate, two.own
    made = await gate.key("manager", two.manager)
    assert made["tenant"] == own["tenant"]
    assert (await gate.key(key=two.manager, tenant="acme"))["tenant"] == own["tenant"]
    listed = (await gate.call("GET", "/v1/admin/keys", two.manager)).json()["data"]
    assert {key["tenant"] for key in listed} == {own["tenant"]}
    for method, path, body in (
        ("PATCH", f"keys/{own['key']}", {"name": "x"}),
        ("PATCH", f"users/{own['user']}", {"name": "x"}),
        ("PATCH", f"teams/{own['team']}", {"name": "x"}),
        ("PUT", f"limits/user/{own['user']}", {"rpm": 1}),
        ("PUT", "limits/model/small", {"rpm": 1}),
    ):
        assert (await gate.call(method, f"/v1/admin/{path}", two.manager, json=body)).status_code == 200, path


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_manager_does_not_loosen_the_tenants_own_limits(two: Two, method: str) -> None:
    path = f"/v1/admin/limits/tenant/{two.own['tenant']}"
    body = {"json": {"rpm": 9999}} if method == "PUT" else {}
    assert (await two.gate.call(method, path, two.manager, **body)).status_code == 403
    assert (await two.gate.call("GET", path, two.manager)).json()["rpm"] == 5


async def test_a_manager_grants_no_role_above_their_own(light_gate: Gate) -> None:
    manager = (await light_gate.key("manager"))["key"]
    member = await light_gate.key("member")
    user = await light_gate.made("/v1/admin/users", name="Ada")
    for method, path, body in (
        ("POST", "keys", {"name": "x", "role": "admin"}),
        ("POST", "users", {"name": "x", "role": "admin"}),
        ("PATCH", f"keys/{member['id']}", {"role": "admin"}),
        ("PATCH", f"users/{user['id']}", {"role": "admin"}),
    ):
        answer = await light_gate.call(method, f"/v1/admin/{path}", manager, json=body)
        assert answer.status_code == 403, (path, answer.text)
        assert answer.json()["error"]["code"] == "role_not_allowed"
    assert (await light_gate.key("manager", manager))["role"] == "manager"


async def test_a_manager_does_not_touch_an_admins_key_or_user(light_gate: Gate) -> None:
    """Else a manager could rotate the admin's key, and hold it."""
    gate = light_gate
    manager = (await gate.key("manager"))["key"]
    admin = await gate.key("admin")
    user = await gate.made("/v1/admin/users", name="Root", role="admin")
    for method, path, body in (
        ("POST", f"keys/{admin['id']}/rotate", {}),
        ("PATCH", f"keys/{admin['id']}", {"name": "x"}),
        ("PATCH", f"keys/{admin['id']}", {"role": "reader"}),
        ("DELETE", f"keys/{admin['id']}", None),
        ("PATCH", f"users/{user['id']}", {"name": "x"}),
        ("PATCH", f"users/{user['id']}", {"role": "reader"}),
        ("DELETE", f"users/{user['id']}", None),
        ("PUT", f"limits/key/{admin['id']}", {"rpm": 1}),
        ("PUT", f"limits/user/{user['id']}", {"rpm": 1}),
    ):
        how = {} if body is None else {"json": body}
        assert (await gate.call(method, f"/v1/admin/{path}", manager, **how)).status_code == 403, path
    assert await gate.status(admin["key"]) == 200


async def test_an_admin_crosses_tenants_by_id_and_by_name(two: Two) -> None:
    for tenant in ("bolt", two.other["tenant"]):
        listed = (await two.gate.call("GET", "/v1/admin/teams", params={"tenant": tenant})).json()["data"]
        assert [team["name"] for team in listed] == ["team of bolt"]
    assert (await two.gate.call("DELETE", f"/v1/admin/keys/{two.other['key']}")).status_code == 200
    assert await two.gate.status(two.other["key's text"]) == 401
