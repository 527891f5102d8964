"""While no model answers, an answer from before the collection changed: only of documents that stand as they were."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.integration.caching.conftest import House, Tenant, ask
from tests.integration.hot.conftest import events
from tests.support.openai_server import Fault

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

_FAILURES = 5  # in a row, after which a deployment rests


def _ask(caller: httpx.Client, query: str = "When does the pier open?", **fields: Any) -> dict[str, Any]:
    return ask(caller, query, model="fragile", **fields)


def _changed(house: House) -> tuple[Tenant, httpx.Client, str]:
    """A tenant with an answer that was kept, and a collection that has changed since. Returns: its first document."""
    tenant = house.tenant()
    document = tenant.keep("a", "The pier opens at 06:15. It has two berths.", metadata={"kind": "timetable"})
    caller = tenant.caller("staff")
    limit_s = time.monotonic() + 60  # an earlier test may have left the model at rest
    while _ask(caller)["cache"] != "exact":
        assert time.monotonic() < limit_s
        time.sleep(0.2)
    tenant.keep("b", "Something else altogether stands here.")
    return tenant, caller, document


@contextmanager
def _away(house: House, caller: httpx.Client) -> Iterator[None]:
    """The model fails, and the caller's worker knows it: a client keeps its connection, and with it its worker."""
    house.server.fault = Fault.ERROR_500
    try:
        for _ in range(_FAILURES):
            assert _ask(caller, use_cache=False)["degraded"]
        yield
    finally:
        house.server.fault = None


def test_while_no_model_answers_the_answer_from_before_is_told_and_says_so(house: House) -> None:
    _, caller, _ = _changed(house)
    fresh = _ask(caller, use_cache=False)  # as it is answered now
    with _away(house, caller):
        found = _ask(caller)
        assert found["cache"] == "exact"
        assert found["degraded"]
        assert found["stale_s"] >= 0
        assert "no model answers now" in found["degraded_reason"]
        assert found["answer"] == fresh["answer"]
        assert found["citations"][0]["quote"] == fresh["citations"][0]["quote"]
        assert found["usage"]["total_tokens"] == 0
        time.sleep(1.2)  # the model is due for a try, which fails: nothing else is heard
        assert "stale_s" in _ask(caller)
        streamed = caller.post(
            "/v1/query",
            json={"query": "When does the pier open?", "collection": "piers", "max_tokens": 60}
            | {"model": "fragile", "stream": True},
        )
        assert events(streamed.text)[-1]["stale_s"] >= 0
        assert "stale_s" not in _ask(caller, "Who built the pier?")  # never asked before: quoted
        assert "stale_s" not in _ask(caller, use_cache=False)
    limit_s = time.monotonic() + 30
    while (found := _ask(caller))["degraded"]:
        assert time.monotonic() < limit_s, found
        time.sleep(0.2)
    assert "stale_s" not in found


@pytest.mark.parametrize("change", ["new version", "access list", "metadata", "deleted", "purged"])
def test_what_it_was_made_from_must_stand_as_it_was(house: House, change: str) -> None:
    tenant, caller, document = _changed(house)
    with _away(house, caller):
        assert "stale_s" in _ask(caller)
        path = f"/v1/collections/piers/documents/{document}"
        match change:
            case "new version":
                tenant.keep("a", "The pier opens at 07:45. It has two berths.", metadata={"kind": "timetable"})
            case "access list":
                tenant.manager.patch(path, json={"acl": {"groups": ["board"]}}).raise_for_status()
            case "metadata":
                tenant.manager.patch(path, json={"metadata": {"kind": "rumour"}}).raise_for_status()
            case "deleted":
                tenant.manager.delete(path).raise_for_status()
            case _:
                tenant.manager.delete("/v1/admin/cache").raise_for_status()
        found = _ask(caller)
        assert "stale_s" not in found
        assert ("06:15" in found["answer"]) == (change in ("metadata", "purged"))  # quoted anew, from what is there now
