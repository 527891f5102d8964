"""What bounds a caller, and what one request of theirs cost."""

from dataclasses import dataclass
from typing import Any

import pytest

from api.ledger.line import row
from core.ids import unique_hex
from storage.schema import ledger
from tests.support.gate import Gate
from tests.support.ledger import a_line


@dataclass
class House:
    """A tenant with a manager, and two members of a team of their own."""

    gate: Gate
    tenant: str
    manager: dict[str, Any]
    member: dict[str, Any]
    other: dict[str, Any]

    async def line(self, request_id: str, key: dict[str, Any], **fields: Any) -> None:
        """Have a line of the ledger in SQL, as the keeper brings it."""
        name = fields.pop("name", f"{unique_hex()}.{request_id}")[:128]
        about = {"tenant_id": self.tenant, "key_id": key["id"], "team_id": key["team"], **fields}
        line = a_line(name, **about)
        await self.gate.database.write(lambda connection: connection.execute(ledger.insert().values(row(line))))

    async def request(self, request_id: str, key: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = await self.gate.call("GET", f"/v1/usage/requests/{request_id}", key["key"])
        return answer.status_code, dict(answer.json())

    async def limits(self, key: dict[str, Any]) -> list[dict[str, Any]]:
        answer = await self.gate.call("GET", "/v1/usage/limits", key["key"])
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])


@pytest.fixture
async def house(gate: Gate) -> House:
    tenant = (await gate.made("/v1/admin/tenants", name="acme"))["id"]
    team = (await gate.made("/v1/admin/teams", name="crew", tenant=tenant))["id"]
    bounds = {"rpm": 5, "usd_per_day": "2.50"}
    member, other = [await gate.key(tenant=tenant, team=team, limits=bounds) for _ in range(2)]
    return House(gate, tenant, await gate.key("manager", tenant=tenant), member, other)


async def test_a_request_costs_what_all_of_its_segments_cost(house: House) -> None:
    name = f"{unique_hex()}.req_one"
    await house.line("req_one", house.member, name=name, tokens_in=10, tokens_out=4, nano_usd=1_500, outcome="rescued")
    more = {"segment": 1, "tokens_in": 10, "tokens_out": 6, "nano_usd": 2_500, "nano_usd_saved": 7, "outcome": "ok"}
    await house.line("req_one", house.member, name=name, **more)
    status, found = await house.request("req_one", house.member)
    assert status == 200
    assert (found["tokens_in"], found["tokens_out"]) == (20, 10)
    assert (found["usd"], found["usd_saved"]) == ("0.000004000", "0.000000007")
    assert [one["outcome"] for one in found["segments"]] == ["rescued", "ok"]


async def test_of_requests_with_the_same_id_the_newest_is_told(house: House) -> None:
    await house.line("req_same", house.member, nano_usd=1, at=1_000.0)
    await house.line("req_same", house.member, nano_usd=2, at=2_000.0)
    _, found = await house.request("req_same", house.member)
    assert found["usd"] == "0.000000002"


async def test_nobody_sees_what_another_keys_request_cost_but_who_manages(house: House) -> None:
    await house.line("req_mine", house.member, nano_usd=9)
    stranger = await house.gate.key(tenant=(await house.gate.made("/v1/admin/tenants", name="bolt"))["id"])
    for key in (house.other, stranger):
        status, refused = await house.request("req_mine", key)
        assert status == 404
        assert refused["error"]["code"] == "request_not_found"
    assert (await house.request("req_mine", house.manager))[0] == 200


@pytest.mark.parametrize("request_id", ["req_none", "x" * 128])
async def test_a_request_that_is_not_known_is_a_404_and_what_is_no_id_a_400(house: House, request_id: str) -> None:
    status, refused = await house.request(request_id, house.member)
    assert (status, refused["error"]["code"]) == (404, "request_not_found")
    assert "a moment" in refused["error"]["message"]
    for wrong in ("x" * 129, "a%20b", "%22"):
        assert (await house.request(wrong, house.member))[0] == 400


async def test_one_sees_the_limits_that_hold_and_what_is_spent_of_them(house: House) -> None:
    now = house.gate.directory.limits._clock.time()
    await house.line("req_now", house.member, nano_usd=1_250_000_000, at=now)
    await house.line("req_other", house.other, nano_usd=500_000_000, at=now)
    team = house.member["team"]
    answer = await house.gate.call("PUT", f"/v1/admin/limits/team/{team}", json={"usd_per_month": "100"})
    assert answer.status_code == 200, answer.text
    key, crew = await house.limits(house.member)
    assert (key["kind"], key["rpm"], key["usd_per_day"], key["usd_today"]) == ("key", 5, "2.5", "1.250000000")
    assert (crew["kind"], crew["usd_per_month"]) == ("team", "100")
    assert "usd_this_month" not in crew  # what others spent is not a member's to know


async def test_a_manager_sees_what_is_spent_of_the_tenants_budget(house: House) -> None:
    now = house.gate.directory.limits._clock.time()
    await house.line("req_now", house.member, nano_usd=750_000_000, at=now)
    path = f"/v1/admin/limits/tenant/{house.tenant}"
    assert (await house.gate.call("PUT", path, json={"usd_per_month": "10"})).status_code == 200
    found = {one["kind"]: one for one in await house.limits(house.manager)}
    assert found["tenant"]["usd_this_month"] == "0.750000000"
    member = {one["kind"]: one for one in await house.limits(house.member)}
    assert "usd_this_month" not in member["tenant"]


async def test_limits_that_all_tenants_share_are_told_to_nobody(house: House) -> None:
    answer = await house.gate.call("PUT", "/v1/admin/limits/tenant/*", params={"tenant": "*"}, json={"rpm": 1000})
    assert answer.status_code in (200, 503), answer.text
    assert {one["kind"] for one in await house.limits(house.member)} == {"key"}
