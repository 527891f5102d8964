"""Experiments of a whole gateway: a variant that is worse is ended by itself, and shadows stand on nobody's bill."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import new_key
from tests.support.gateway import Gateway, gateway
from tests.support.openai_server import Fault, OpenAiServer, openai_server_in_thread
from tests.support.waiting import until

PRICE = "input_cost_per_token: 0.001, output_cost_per_token: 0.001"


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[OpenAiServer, OpenAiServer]]:
    with openai_server_in_thread() as usual, openai_server_in_thread() as tried:
        yield usual, tried


@pytest.fixture(scope="module")
def standing(engines: tuple[OpenAiServer, OpenAiServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    usual, tried = engines
    entries = "".join(
        f"  - model_name: {name}\n    litellm_params: {{model: hosted_vllm/words, api_base: '{url}', {price}}}\n"
        for name, url, price in (
            ("words", usual.base_url, "input_cost_per_token: 0"),
            ("tried", tried.base_url, PRICE),
            ("shaded", usual.base_url, "input_cost_per_token: 0"),
        )
    )
    configuration = (
        f"model_list:\n{entries}stoker:\n  breaker: {{failures_to_open: 1000}}\n  experiments:\n"
        "    half: {group: words, to: tried, percent: 50, stop: {after: 20}}\n"
        "    shade: {group: shaded, to: tried, percent: 100, shadow: true}\n"
    )
    folder: Path = tmp_path_factory.mktemp("experiments")
    settings = {"STOKER_WORKERS": "2", "STOKER_CONFIG_POLL_S": "0.1"}
    with gateway(folder, 1, settings=settings, configuration=configuration) as standing:
        yield standing


@pytest.fixture
def admin(standing: Gateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {standing.key}"}
    with httpx.Client(base_url=standing.url, headers=headers, timeout=30) as client:
        yield client


def shown(admin: httpx.Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.get(f"/v1/admin/experiments/{name}").raise_for_status().json()
    return found


def ask(admin: httpx.Client, key: str, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 8}
    with httpx.Client(base_url=admin.base_url, headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        return client.post("/v1/chat/completions", json=body)


def test_a_shadow_stands_on_nobodys_bill(admin: httpx.Client, engines: tuple[OpenAiServer, OpenAiServer]) -> None:
    key = new_key(admin)
    before = engines[1].requests
    assert [ask(admin, key["key"], "shaded").status_code for _ in range(10)] == [200] * 10
    until(lambda: engines[1].requests == before + 10, "each has cast a shadow")
    until(lambda: shown(admin, "shade")["sides"].get("shadow", {}).get("calls") == 10, "they are counted")
    assert shown(admin, "shade")["sides"]["shadow"]["usd_per_call"] > 0

    def mine() -> dict[str, Any]:
        rows = admin.get("/v1/admin/usage", params={"group_by": "key"}).json()["data"]
        found: dict[str, Any] = next((row for row in rows if row.get("key") == key["id"]), {})
        return found

    until(lambda: mine().get("requests") == 10, "the ledger has them")
    time.sleep(1.5)  # of a shadow's line, if there were one
    assert (mine()["requests"], mine()["nano_usd"]) == (10, 0)


def test_a_variant_that_fails_is_ended_and_nobody_was_refused(
    admin: httpx.Client, engines: tuple[OpenAiServer, OpenAiServer], figure: Callable[[str], None]
) -> None:
    keys = [new_key(admin, limits={"rpm": None, "parallel": None})["key"] for _ in range(16)]
    assert {ask(admin, key, "words").status_code for key in keys} == {200}
    until(lambda: len(shown(admin, "half")["sides"]) == 2, "both sides have calls")
    engines[1].fault = Fault.ERROR_500
    asked = 0
    while shown(admin, "half")["state"] == "running":
        assert asked < 1000
        assert {ask(admin, key, "words").status_code for key in keys} == {200}
        asked += len(keys)
    ended = shown(admin, "half")
    assert "calls failed" in ended["reason"]
    figure(f"ended after {asked} calls: {ended['reason']}")
    low, high = ended["sides"]["variant"]["share_failed_interval"]
    assert low > ended["sides"]["control"]["share_failed_interval"][1]
    assert high <= 1
    audit = admin.get("/v1/admin/audit", params={"tenant": "*"}).json()["data"]
    assert [entry["target"] for entry in audit if entry["action"] == "experiment.stop"] == ["half"]
    until(lambda: _moved(admin, keys, engines[1]) == 0, "no worker asks it any more")
    engines[1].fault = None
    started = admin.patch("/v1/admin/experiments/half", json={"state": "running"}).raise_for_status().json()
    assert started["reason"] is None
    until(lambda: _moved(admin, keys, engines[1]) > 0, "it goes on")
    until(lambda: _failed(shown(admin, "half")) == 0, "its old calls no longer count against it")
    while shown(admin, "half")["sides"]["variant"]["calls"] < 2 * ended["sides"]["variant"]["calls"]:
        _moved(admin, keys, engines[1])
    assert shown(admin, "half")["state"] == "running"
    stopped = admin.patch("/v1/admin/experiments/half", json={"state": "stopped", "reason": "enough"})
    assert stopped.json()["reason"] == "enough"


def _failed(experiment: dict[str, Any]) -> int:
    return sum(side["failed"] for side in experiment["sides"].values())


def _moved(admin: httpx.Client, keys: list[str], tried: OpenAiServer) -> int:
    before = tried.requests
    for key in keys:
        assert ask(admin, key, "words").status_code == 200
    return tried.requests - before


def test_one_that_is_nowhere_is_not_there(admin: httpx.Client) -> None:
    assert admin.get("/v1/admin/experiments/none").json()["error"]["code"] == "experiment_not_found"
    assert admin.patch("/v1/admin/experiments/none", json={"state": "running"}).status_code == 404
    listed = admin.get("/v1/admin/experiments").json()
    assert [(one["id"], one["group"], one["to"], one["shadow"]) for one in listed["data"]] == [
        ("half", "words", "tried", False),
        ("shade", "shaded", "tried", True),
    ]
