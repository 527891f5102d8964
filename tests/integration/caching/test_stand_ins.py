"""Answers from documents that a fallback group gave, or worked on: told once, and kept nowhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.integration.caching.conftest import HELPED, QUESTION, House, ask, first_line
from tests.integration.hot.conftest import events
from tests.support.openai_server import Fault

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

TEXT = "The pier opens at 06:15. It has two berths."
TURNS = [{"role": "user", "content": "What has two berths?"}, {"role": "assistant", "content": "The pier."}]


@contextmanager
def helped(house: House, caller: httpx.Client, step: str = "") -> Iterator[list[str]]:
    """Calls for a step fail where they come first, and are answered by who is asked next. Gives: their names."""
    failed: list[str] = []

    def script(name: str, body: dict[str, Any]) -> str | Fault:
        if name.partition(".")[2] == step and name not in failed:
            failed.append(name)
            return Fault.ERROR_500
        return QUESTION if step and name.endswith(step) else first_line(body)

    house.server.script = script
    try:
        yield failed
    finally:
        house.server.script = lambda _name, body: first_line(body)
        ask(caller, model=HELPED, use_cache=False)  # so that its breaker forgets the failures


def _await_own_answers(house: House, caller: httpx.Client) -> None:
    """Ask until no breaker of the group is open: else the next test hears its fallback."""
    limit_s = time.monotonic() + 30
    while any(each.get("breaker") != "closed" for each in _deployments(house) if each["model_group"] == HELPED):
        assert time.monotonic() < limit_s, "a deployment that answers again rests on"
        ask(caller, model=HELPED, use_cache=False)
        time.sleep(0.2)


def _deployments(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.admin.get("/v1/admin/deployments").raise_for_status().json()["data"]
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_fallback_answered_is_not_told_again(house: House, stream: bool) -> None:
    tenant = house.tenant()
    tenant.keep("a", TEXT)
    caller = tenant.caller()
    asked = {"query": QUESTION, "collection": "piers", "max_tokens": 60, "model": HELPED, "stream": stream}
    with helped(house, caller) as failed:
        told = [caller.post("/v1/query", json=asked) for _ in range(2)]
        done = [events(one.text)[-1] if stream else one.json() for one in told]
        assert len(failed) == 2
        assert [one["degraded"] for one in done] == [False, False]
        assert done[0]["cache"] == "miss"
        assert done[1]["cache"] != "exact"
        alike = ask(caller, "Please, when does the pier open?", model=HELPED)
        assert alike["cache"] != "semantic"


def test_what_was_found_by_the_work_of_a_fallback_is_not_told_again(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", TEXT)
    caller = tenant.caller()
    fields = {"model": HELPED, "messages": TURNS, "query_work": {"rewrite": True}}
    with helped(house, caller, "rewrite") as failed:
        done = [ask(caller, "And when does it?", **fields) for _ in range(2)]
    assert len(failed) == 2
    assert [(one["degraded"], one["query_work"]["failed"]) for one in done] == [(False, {})] * 2
    assert done[1]["cache"] != "exact"


def test_a_fallbacks_answer_is_not_told_while_no_model_answers(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", TEXT)
    caller = tenant.caller()
    with helped(house, caller):
        assert not ask(caller, model=HELPED)["degraded"]
    tenant.keep("b", "Something else altogether stands here.")
    house.server.fault = Fault.ERROR_500
    try:
        found = [ask(caller, model=HELPED) for _ in range(8)]
    finally:
        house.server.fault = None
        _await_own_answers(house, caller)
    assert all(one["degraded"] for one in found)
    assert not any("stale_s" in one for one in found)


def test_the_groups_own_answer_is_told_again(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", TEXT)
    caller = tenant.caller()
    asked = [ask(caller, model=HELPED)["cache"] for _ in range(4)]
    assert "exact" in asked[1:], asked  # one whose look took too long goes by it
