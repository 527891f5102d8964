"""Model requests that ask for the cache, through a gateway of two workers."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, body, lines, new_key
from tests.support.gateway import Gateway, Upstream

CHAT = "/v1/chat/completions"


def said(text: str, **fields: Any) -> dict[str, Any]:
    return body(messages=[{"role": "user", "content": text}], cache="exact", **fields)


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_is_told_again_byte_for_byte_and_costs_nothing(
    gate: Gateway, client: httpx.Client, upstream: Upstream, stream: bool
) -> None:
    asked = said(f"The same? {stream}", stream=stream)
    name = f"cache-{stream}"
    key = new_key(client, name=name)
    with httpx.Client(base_url=gate.url, headers={"x-api-key": key["key"]}, timeout=30) as caller:
        first = caller.post(CHAT, json=asked)
        before = len(upstream.log)
        second = caller.post(CHAT, json=asked)
    assert (first.status_code, second.status_code) == (200, 200)
    assert [answer.headers["x-cache"] for answer in (first, second)] == ["miss", "exact"]
    assert second.text == first.text
    assert second.headers["content-type"] == first.headers["content-type"]
    assert len(upstream.log) == before
    made, told = sorted(await_lines(gate, 2, key_id=key["id"]), key=lambda line: line["cache"], reverse=True)
    assert (made["cache"], made["nano_usd_saved"]) == ("off", 0)
    assert (told["cache"], told["nano_usd"], told["tokens_in"], told["tokens_out"]) == ("hit", 0, 0, 0)
    assert told["nano_usd_saved"] == made["nano_usd"] > 0
    assert (told["outcome"], told["status"]) == ("ok", 200)


def test_a_key_says_what_will_do_where_its_requests_do_not(gate: Gateway, client: httpx.Client) -> None:
    key = new_key(client, cache="exact")
    asked = body(messages=[{"role": "user", "content": "By a key?"}])
    with httpx.Client(base_url=gate.url, headers={"x-api-key": key["key"]}, timeout=30) as caller:

        def told(**fields: Any) -> str | None:
            return caller.post(CHAT, json={**asked, **fields}).headers.get("x-cache")

        assert [told(), told(), told(cache=None), told(cache="off")] == ["miss", "exact", "exact", None]
        client.patch(f"/v1/admin/keys/{key['id']}", json={"cache": "semantic"}).raise_for_status()
        assert told() == "exact", "what documents do not answer is told again as it was"
        client.patch(f"/v1/admin/keys/{key['id']}", json={"cache": "off"}).raise_for_status()
        assert [told(), told(cache="exact")] == [None, "exact"]


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [{"role": "user", "content": "Alike? "}]},
        {"temperature": 0.1},
        {"max_tokens": 4},
        {"stream": True},
        {"stop": ["x"]},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Alike?"}]},
    ],
    ids=str,
)
def test_another_request_is_not_answered_so(client: httpx.Client, other: dict[str, Any]) -> None:
    client.post(CHAT, json=said("Alike?"))
    assert client.post(CHAT, json=said("Alike?")).headers["x-cache"] == "exact"
    told = [client.post(CHAT, json={**said("Alike?"), **other}).headers["x-cache"] for _ in range(2)]
    assert told == ["miss", "exact"]


def test_nobody_of_another_tenant_or_with_other_rights_is_answered_so(gate: Gateway, client: httpx.Client) -> None:
    tenants = [client.post("/v1/admin/tenants", json={"name": f"cache-{at}"}).json()["id"] for at in range(2)]
    keys = [new_key(client, tenant=tenant)["key"] for tenant in tenants]
    keys.append(new_key(client, tenant=tenants[0], local_only=True)["key"])
    keys.append(new_key(client, tenant=tenants[0], role="manager")["key"])
    told = [
        httpx.post(f"{gate.url}{CHAT}", json=said("Mine?"), headers={"x-api-key": key}).headers["x-cache"]
        for key in keys
    ]
    assert told == ["miss"] * 4
    sibling = new_key(client, tenant=tenants[0])["key"]
    assert (
        httpx.post(f"{gate.url}{CHAT}", json=said("Mine?"), headers={"x-api-key": sibling}).headers["x-cache"]
        == "exact"
    )


def test_who_does_not_ask_for_the_cache_meets_none(client: httpx.Client, upstream: Upstream) -> None:
    asked = said("Off?")
    client.post(CHAT, json=asked)
    before = len(upstream.log)
    for plain in ({**asked, "cache": "off"}, {name: value for name, value in asked.items() if name != "cache"}):
        assert "x-cache" not in client.post(CHAT, json=plain).headers
    assert len(upstream.log) == before + 2
    tool = {"type": "function", "function": {"name": "act", "parameters": {}}}
    for _ in range(2):
        assert client.post(CHAT, json={**asked, "tools": [tool]}).headers["x-cache"] == "bypass"
    wrong = client.post(CHAT, json={**asked, "cache": "always"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "cache")


async def test_of_two_hundred_at_once_one_reaches_the_upstream(
    gate: Gateway, client: httpx.Client, upstream: Upstream, figure: Callable[[str], None]
) -> None:
    unlimited = {"rpm": None, "tpm": None, "parallel": None}
    key = new_key(client, limits=unlimited)["key"]
    before = len(upstream.log)
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=gate.url, headers={"x-api-key": key}, timeout=60, limits=limits) as many:
        answers = await asyncio.gather(*(many.post(CHAT, json=said("At once?", max_tokens=20)) for _ in range(200)))
    calls = len(upstream.log) - before
    outcomes = {name: sum(answer.headers["x-cache"] == name for answer in answers) for name in ("miss", "exact")}
    figure(f"200 at once: {calls} call of the upstream, {json.dumps(outcomes)}")
    assert calls == 1
    assert outcomes == {"miss": 1, "exact": 199}
    assert len({answer.text for answer in answers}) == 1


def test_what_is_purged_is_asked_again(client: httpx.Client) -> None:
    made = new_key(client)
    headers = {"authorization": f"Bearer {made['key']}"}
    asked = said("Purged?")
    assert [client.post(CHAT, json=asked, headers=headers).headers["x-cache"] for _ in range(2)] == ["miss", "exact"]
    assert client.delete("/v1/admin/cache", params={"key": "key_other"}).status_code == 200
    assert client.post(CHAT, json=asked, headers=headers).headers["x-cache"] == "exact"
    purged = client.delete("/v1/admin/cache", params={"key": made["id"]})
    assert purged.json() == {"object": "cache.purged", "purged": f"key:{made['id']}"}
    assert [client.post(CHAT, json=asked, headers=headers).headers["x-cache"] for _ in range(2)] == ["miss", "exact"]
    assert client.delete("/v1/admin/cache").json()["purged"] == "all"
    assert client.post(CHAT, json=asked, headers=headers).headers["x-cache"] == "miss"
    acts = client.get("/v1/admin/audit").json()["data"]
    assert [act["target"] for act in acts if act["action"] == "cache.purge"][:2] == ["all", f"key:{made['id']}"]
    assert client.delete("/v1/admin/cache", params={"collection": "nope"}).status_code == 404


def test_a_hit_counts_as_a_request_and_its_line_names_it(gate: Gateway, client: httpx.Client) -> None:
    limits = {"rpm": 3, "tpm": None, "parallel": None}
    key = new_key(client, limits=limits)
    headers = {"authorization": f"Bearer {key['key']}"}
    statuses = [client.post(CHAT, json=said("Often?"), headers=headers).status_code for _ in range(8)]
    assert statuses[:3] == [200, 200, 200]
    assert 429 in statuses
    kept = await_lines(gate, statuses.count(200), key_id=key["id"])
    assert sum(line["cache"] == "hit" for line in kept) == statuses.count(200) - 1
    assert len(lines(gate, key_id=key["id"])) == statuses.count(200)
