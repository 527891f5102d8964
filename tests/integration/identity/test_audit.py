"""The audit log: one row for each act, in its transaction, for ever."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from api import keys as keys_module
from storage.schema import api_keys, audit_log
from tests.support.gate import Gate


async def test_every_act_writes_one_row_with_who_what_and_request(gate: Gate) -> None:
    me = (await gate.call("GET", "/v1/admin/keys")).json()["data"][0]["id"]
    tenant = await gate.made("/v1/admin/tenants", name="acme")
    team = await gate.made("/v1/admin/teams", name="t", tenant="acme")
    user = await gate.made("/v1/admin/users", name="u", tenant="acme")
    key = await gate.key(tenant="acme")
    acts = [
        ("tenant.create", tenant["id"]),
        ("team.create", team["id"]),
        ("user.create", user["id"]),
        ("key.create", key["id"]),
    ]
    for method, path, body, action, target in (
        ("PATCH", f"keys/{key['id']}", {"name": "n"}, "key.change", key["id"]),
        ("POST", f"keys/{key['id']}/rotate", {"overlap_s": 60}, "key.rotate", key["id"]),
        ("DELETE", f"keys/{key['id']}", None, "key.revoke", key["id"]),
        ("PATCH", f"teams/{team['id']}", {"name": "n"}, "team.change", team["id"]),
        ("PATCH", f"users/{user['id']}", {"name": "n"}, "user.change", user["id"]),
        ("DELETE", f"users/{user['id']}", None, "user.disable", user["id"]),
        ("PUT", f"limits/user/{user['id']}", {"rpm": 2}, "limits.set", f"user:{user['id']}"),
        ("DELETE", f"limits/user/{user['id']}", None, "limits.remove", f"user:{user['id']}"),
        ("PATCH", f"tenants/{tenant['id']}", {"local_only": True}, "tenant.change", tenant["id"]),
        ("DELETE", f"tenants/{tenant['id']}", None, "tenant.disable", tenant["id"]),
    ):
        how: dict[str, Any] = {} if body is None else {"json": body}
        answer = await gate.call(method, f"/v1/admin/{path}", **how)
        assert answer.status_code in (200, 201), answer.text
        acts.append((action, target))
        newest = (await gate.acts("acme"))[0]
        assert newest["request_id"] == answer.headers["x-request-id"]
    log = list(reversed(await gate.acts("acme")))
    assert [(entry["action"], entry["target"]) for entry in log] == acts
    assert {entry["actor"] for entry in log} == {me}
    assert [entry["action"] for entry in await gate.acts()] == ["key.create"]  # the first admin key, in `default`


async def test_no_secret_gets_into_the_log(gate: Gate) -> None:
    made = await gate.key()
    new = await gate.made(f"/v1/admin/keys/{made['id']}/rotate")
    text = str(await gate.acts())
    assert made["prefix"] in text
    for key in (made["key"], new["key"], gate.admin):
        assert key not in text
        assert key[16:] not in text


async def test_a_refused_act_writes_nothing(gate: Gate) -> None:
    before = len(await gate.acts())
    assert (await gate.call("DELETE", "/v1/admin/keys/key_none")).status_code == 404
    assert (await gate.call("POST", "/v1/admin/tenants", json={"name": "default"})).status_code == 409
    assert len(await gate.acts()) == before


async def test_an_act_that_cannot_be_noted_does_not_happen(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await gate.key()

    async def fail(*_: object) -> None:
        raise OSError("the log is full")

    monkeypatch.setattr(keys_module, "note", fail)
    assert (await gate.call("DELETE", f"/v1/admin/keys/{made['id']}")).status_code == 503
    assert (await gate.call("POST", "/v1/admin/keys", json={"name": "x"})).status_code == 503
    monkeypatch.undo()
    assert await gate.status(made["key"]) == 200

    async def count(connection: AsyncConnection) -> int:
        return len((await connection.execute(sa.select(api_keys))).all())

    assert await gate.database.read(count) == 2


@pytest.mark.parametrize(
    "act", [sa.update(audit_log).values(actor="nobody"), sa.delete(audit_log)], ids=["update", "delete"]
)
async def test_the_database_refuses_to_change_the_log(gate: Gate, act: Any) -> None:
    await gate.key()
    before = await gate.acts()
    with pytest.raises(DBAPIError, match="append-only"):
        await gate.database.write(lambda connection: connection.execute(act))
    assert await gate.acts() == before
