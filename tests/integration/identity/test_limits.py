"""Limits of every kind on both databases."""

import pytest

from core.limits import Limits, SubjectKind
from tests.support.gate import Gate

NOTHING = dict.fromkeys(("rpm", "burst", "tpm", "parallel", "usd_per_day", "usd_per_month")) | {"strict": False}


async def test_limits_are_put_shown_replaced_and_removed(gate: Gate) -> None:
    path = f"/v1/admin/limits/user/{(await gate.made('/v1/admin/users', name='Ada'))['id']}"
    assert (await gate.call("GET", path)).json()["error"]["code"] == "limits_not_found"
    put = await gate.call("PUT", path, json={"rpm": 10, "burst": 20, "usd_per_day": 2.5})
    assert put.status_code == 200
    assert (await gate.call("GET", path)).json() == put.json()
    assert {name: put.json()[name] for name in NOTHING} == NOTHING | {"rpm": 10, "burst": 20, "usd_per_day": "2.5"}
    replaced = (await gate.call("PUT", path, json={"tpm": 5})).json()
    assert {name: replaced[name] for name in NOTHING} == NOTHING | {"tpm": 5}
    assert (await gate.call("DELETE", path)).json()["deleted"] is True
    assert (await gate.call("GET", path)).status_code == 404
    assert (await gate.call("DELETE", path)).status_code == 404


async def test_all_subjects_of_a_request_reach_the_worker_with_the_next_request(gate: Gate) -> None:
    team = await gate.made("/v1/admin/teams", name="t")
    user = await gate.made("/v1/admin/users", name="u", team=team["id"])
    key = await gate.key(user=user["id"], limits={"rpm": 1})
    names = {
        "user": user["id"],
        "team": team["id"],
        "tenant": "default",
        "model": "provider/large",
        "route": "/v1/chat/completions",
    }
    for number, (kind, id_) in enumerate(names.items(), 2):
        await gate.directory.identities.identify(key["key"])
        assert (await gate.call("PUT", f"/v1/admin/limits/{kind}/{id_}", json={"rpm": number})).status_code == 200
    identity = await gate.directory.identities.identify(key["key"])
    found = {one.kind: (one.id, one.limits.requests_per_minute) for one in identity.subjects}
    assert found == {
        SubjectKind.KEY: (key["id"], 1),
        SubjectKind.USER: (user["id"], 2),
        SubjectKind.TEAM: (team["id"], 3),
        SubjectKind.TENANT: ("default", 4),
    }
    assert [one.limits for one in identity.models["provider/large"]] == [Limits(requests_per_minute=5)]
    assert [one.limits for one in identity.routes["/v1/chat/completions"]] == [Limits(requests_per_minute=6)]
    asked = identity.subjects_of("provider/large", "/v1/chat/completions")
    assert [one.limits.requests_per_minute for one in asked] == [1, 2, 3, 4, 5, 6]
    assert identity.subjects_of("small", "/v1/embeddings") == identity.subjects


async def test_a_removed_limit_ends_in_the_worker(gate: Gate) -> None:
    await gate.call("PUT", "/v1/admin/limits/model/small", json={"rpm": 1})
    assert (await gate.directory.identities.identify(gate.admin)).models
    await gate.call("DELETE", "/v1/admin/limits/model/small")
    assert not (await gate.directory.identities.identify(gate.admin)).models


async def test_a_model_limit_is_of_one_tenant(gate: Gate) -> None:
    await gate.made("/v1/admin/tenants", name="acme")
    key = await gate.key(tenant="acme")
    await gate.call("PUT", "/v1/admin/limits/model/small", params={"tenant": "acme"}, json={"rpm": 1})
    assert (await gate.directory.identities.identify(key["key"])).models
    assert not (await gate.directory.identities.identify(gate.admin)).models
    assert (await gate.call("GET", "/v1/admin/limits/model/small")).status_code == 404


async def test_what_all_tenants_share_reaches_every_tenant(gate: Gate) -> None:
    await gate.made("/v1/admin/tenants", name="acme")
    keys = [gate.admin, (await gate.key(tenant="acme"))["key"]]
    for key in keys:
        await gate.directory.identities.identify(key)
    await gate.call("PUT", "/v1/admin/limits/model/small", params={"tenant": "acme"}, json={"rpm": 1})
    put = await gate.call("PUT", "/v1/admin/limits/model/small", params={"tenant": "*"}, json={"rpm": 2})
    assert (put.status_code, put.json()["tenant"], put.json()["rpm"]) == (200, "*", 2)
    assert (await gate.call("PUT", "/v1/admin/limits/tenant/*", json={"rpm": 3})).status_code == 200
    for key, own in zip(keys, ([], [1]), strict=True):
        identity = await gate.directory.identities.identify(key)
        asked = identity.subjects_of("small", "/v1/chat/completions")
        found = [(one.limits.requests_per_minute, one.common) for one in asked if one.kind is not SubjectKind.KEY]
        assert sorted(found) == [*((rpm, False) for rpm in own), (2, True), (3, True)]
    assert (await gate.call("GET", "/v1/admin/limits/model/small", params={"tenant": "*"})).json() == put.json()
    assert (await gate.call("DELETE", "/v1/admin/limits/model/small", params={"tenant": "*"})).status_code == 200
    assert (await gate.call("DELETE", "/v1/admin/limits/tenant/*")).status_code == 200
    identity = await gate.directory.identities.identify(gate.admin)
    assert not any(one.common for one in identity.subjects_of("small", "/v1/chat/completions"))
    told = [(entry["action"], entry["target"]) for entry in await gate.acts("*")]
    assert told[:2] == [("limits.remove", "tenant:*"), ("limits.remove", "model:small")]
    assert not {target for _, target in told} & {entry["target"] for entry in await gate.acts()}
    manager = (await gate.key(role="manager"))["key"]
    assert (await gate.call("GET", "/v1/admin/audit", manager, params={"tenant": "*"})).status_code == 403


async def test_no_tenant_is_named_like_all_of_them(gate: Gate) -> None:
    """`?tenant=*` would have been this tenant for keys and usage, and all tenants for limits."""
    made = await gate.made("/v1/admin/tenants", name="star")
    assert (await gate.call("POST", "/v1/admin/tenants", json={"name": "*"})).status_code == 400
    renamed = await gate.call("PATCH", f"/v1/admin/tenants/{made['id']}", json={"name": "*"})
    assert renamed.status_code == 400
    assert renamed.json()["error"]["param"] == "name"


async def test_what_all_tenants_share_is_the_admins_to_set_and_never_strict(gate: Gate) -> None:
    manager = (await gate.key(role="manager"))["key"]
    for path, params in (("model/small", {"tenant": "*"}), ("tenant/*", {})):
        for method in ("GET", "PUT", "DELETE"):
            answer = await gate.call(method, f"/v1/admin/limits/{path}", params=params, json={"rpm": 1}, key=manager)
            assert answer.status_code == 403, (method, path)
    answer = await gate.call("PUT", "/v1/admin/limits/tenant/*", json={"rpm": 1, "strict": True})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "strict"
    key = await gate.key()
    answer = await gate.call("PUT", f"/v1/admin/limits/key/{key['id']}", params={"tenant": "*"}, json={"rpm": 1})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tenant"


@pytest.mark.parametrize("wrong", [{"tpm": 150_000_000_001}, {"usd_per_day": "9000000.01"}, {"usd_per_month": 10**9}])
async def test_a_limit_that_admission_could_not_count_is_refused_when_it_is_set(
    gate: Gate, wrong: dict[str, object]
) -> None:
    """It was taken, and each request under it was a 500."""
    answer = await gate.call("PUT", "/v1/admin/limits/tenant/*", json=wrong)
    assert answer.status_code == 400, answer.text


async def test_a_keys_limits_raise_its_generation(gate: Gate) -> None:
    key = await gate.key()
    await gate.call("PUT", f"/v1/admin/limits/key/{key['id']}", json={"rpm": 1})
    assert gate.bumped == [("default", key["id"], 1)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("key/key_none", 404),
        ("user/user_none", 404),
        ("team/team_none", 404),
        ("tenant/none", 404),
        ("model/none", 404),
        ("route//v1/nowhere", 400),
        ("planet/earth", 400),
    ],
)
async def test_limits_of_what_does_not_exist_are_refused(light_gate: Gate, path: str, status: int) -> None:
    answer = await light_gate.call("PUT", f"/v1/admin/limits/{path}", json={"rpm": 1})
    assert answer.status_code == status, answer.text
