"""Searches out of the cache: the same for the same reader, and never of documents as they were."""

import time
from typing import Any

import httpx
import pytest

from tests.integration.caching.conftest import House
from tests.integration.caching.test_answers import frozen

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started


def search(caller: httpx.Client, query: str = "pier opens", **fields: Any) -> tuple[str, list[str], dict[str, Any]]:
    """Returns: what the cache did, the texts that were found, and the whole answer."""
    answer = caller.post("/v1/search", json={"query": query, "collection": "piers", **fields})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return answer.headers["x-cache"], [one["text"] for one in found["data"]], found


def test_the_same_search_is_told_again(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller()
    first, second = search(caller), search(caller)
    assert (first[0], second[0]) == ("miss", "exact")
    assert {**first[2], "timings_ms": 0} == {**second[2], "timings_ms": 0}
    assert search(caller, use_cache=False)[0] == "bypass"
    ways = ({"top_k": 3}, {"mode": "lexical"}, {"filter": {"type": "ne", "key": "a", "value": 1}}, {"fuzzy": True})
    for fields in ways:
        assert search(caller, **fields)[0] == "miss", fields
    assert search(caller, "pier  opens")[0] == "miss"


def test_another_reader_another_tenant_and_another_version_search_anew(house: House) -> None:
    tenant, stranger = house.tenant(), house.tenant()
    document = tenant.keep("a", "The pier opens at 06:15. It has two berths.", acl={"groups": ["staff"]})
    stranger.keep("a", "Nothing of that stands here.")
    staff = tenant.caller("staff")
    limit_s = time.monotonic() + 30
    while search(staff)[0] != "exact":  # a list raises the version once more when the index has it
        assert time.monotonic() < limit_s
    assert "06:15" in search(staff)[1][0]
    use, texts, _ = search(tenant.caller("board"))
    assert (use, texts) == ("miss", [])
    assert not any("06:15" in text for text in search(stranger.caller())[1])
    tenant.keep("a", "The pier opens at 07:45. It has two berths.", acl={"groups": ["staff"]})
    use, texts, _ = search(staff)
    assert use == "miss"
    assert "07:45" in texts[0]
    tenant.manager.delete(f"/v1/collections/piers/documents/{document}").raise_for_status()
    assert search(staff)[:2] == ("miss", [])


def test_it_is_purged_and_does_without_redis(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller()
    assert [search(caller)[0] for _ in range(2)] == ["miss", "exact"]
    tenant.manager.delete("/v1/admin/cache", params={"collection": "piers"}).raise_for_status()
    assert [search(caller)[0] for _ in range(2)] == ["miss", "exact"]
    with frozen(house.gate.redis_url):
        use, texts, _ = search(caller)
        assert use == "bypass"
        assert "06:15" in texts[0]
