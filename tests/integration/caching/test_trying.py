"""Experiments over ways of answering, in a whole gateway: who is answered how, also out of the cache, and their end."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from router.experiments import Experiment
from tests.integration.caching.conftest import UNLIMITED, House, Tenant, ask
from tests.integration.hot.conftest import new_key


@pytest.fixture
def tenant(house: House) -> Tenant:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    return tenant


@pytest.fixture
def callers(house: House, tenant: Tenant) -> Iterator[dict[str, httpx.Client]]:
    """By what they are told apart: keys that may read the same."""
    made = [new_key(house.admin, tenant=tenant.id, limits=UNLIMITED) for _ in range(12)]
    found = {
        key["id"]: httpx.Client(base_url=house.gate.url, headers={"x-api-key": key["key"]}, timeout=60) for key in made
    }
    yield found
    for client in found.values():
        client.close()


@pytest.fixture
def tried(house: House) -> Iterator[Callable[[str, str], None]]:
    """Puts an experiment into the configuration, and takes it away again."""
    file = house.gate.folder / "stoker.yaml"
    before = file.read_text()

    def put(name: str, text: str) -> None:
        file.write_text(f"{before}stoker:\n  experiments:\n    {name}: {text}\n")
        until(lambda: [one["id"] for one in experiments(house)] == [name], "the experiment is known")
        time.sleep(2)  # to the other worker, too

    yield put
    file.write_text(before)
    until(lambda: not experiments(house), "it is gone")


def experiments(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.admin.get("/v1/admin/experiments").raise_for_status().json()["data"]
    return found


def until(is_so: Callable[[], Any], what: str) -> None:
    by_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < by_s, what
        time.sleep(0.1)


def test_part_of_the_callers_is_answered_otherwise_also_out_of_the_cache(
    house: House, tenant: Tenant, callers: dict[str, httpx.Client], tried: Callable[[str, str], None]
) -> None:
    ask(next(iter(callers.values())))  # kept before the experiment began
    tried("quoting", f"{{collection: piers, tenant: {tenant.id}, percent: 50, answers: {{generate: quote}}}}")
    experiment = Experiment("quoting", "", "", 50)
    ways = {}
    for who, client in callers.items():
        found = [ask(client) for _ in range(2)]
        assert found[0]["model"] == found[1]["model"]
        assert all("06:15" in one["answer"] and one["citations"] for one in found)
        ways[who] = found[0]["model"]
    assert ways == {who: None if experiment.takes(who) else "words" for who in callers}
    assert set(ways.values()) == {None, "words"}
    other = house.tenant()
    other.keep("a", "The pier opens at 06:15. It has two berths.")
    for _ in range(8):
        key = new_key(house.admin, tenant=other.id, limits=UNLIMITED)
        with httpx.Client(base_url=house.gate.url, headers={"x-api-key": key["key"]}, timeout=60) as client:
            assert ask(client)["model"] == "words"


def test_a_way_that_is_worse_is_ended_by_itself(
    house: House, tenant: Tenant, callers: dict[str, httpx.Client], tried: Callable[[str, str], None]
) -> None:
    late = "{deadlines_s: {generate: 0.0001}}"  # no model can answer so soon: the passages are quoted instead
    tried("hasty", f"{{collection: piers, tenant: {tenant.id}, percent: 50, answers: {late}, stop: {{after: 12}}}}")

    def sides() -> dict[str, Any]:
        return dict(experiments(house)[0]["sides"])

    def ended() -> bool:
        for client in callers.values():
            assert "06:15" in ask(client, use_cache=False)["answer"]
        return bool(experiments(house)[0]["state"] == "stopped")

    until(ended, "it is ended")
    shown = experiments(house)[0]
    assert "of its" in shown["reason"]
    assert shown["collection"] == "piers"
    assert shown["sides"]["variant"]["share_failed"] == 1
    assert shown["sides"]["control"]["share_failed"] == 0
    assert shown["sides"]["control"]["usd_per_call"] > 0
    assert shown["sides"]["control"]["mean_s"] > 0
    time.sleep(2.5)  # the other worker follows within two seconds
    before = sides()
    assert all(ask(client, use_cache=False)["model"] == "words" for client in callers.values())
    assert sides() == before
