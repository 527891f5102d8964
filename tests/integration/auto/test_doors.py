"""`auto` at every door: the model that answers, what it costs, and what happens where it is not good enough."""

import json
import time
from typing import Any

import pytest

from tests.integration.auto.conftest import House
from tests.integration.hot.conftest import new_key
from tests.support.gateway import entry, gateway, models
from tests.support.openai_server import Fault

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

_EASY = "What is the capital of France?"
_HARD = (
    "Prove that the greedy algorithm is optimal for matroids, derive its complexity, and design a counterexample for "
    "intersections of two matroids, step by step, with all constraints."
)
_ASK = {"query": "When does the pier open?", "collection": "piers", "use_cache": False}


def _said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(("text", "model"), [(_EASY, "small"), (_HARD, "large")])
def test_every_door_chooses_by_what_is_asked(house: House, text: str, model: str) -> None:
    house.asked()
    house.send("/v1/chat/completions", messages=_said(text))
    assert house.asked() == model
    house.send("/v1/completions", prompt=text)
    assert house.asked() == model
    house.send("/v1/messages", messages=_said(text), max_tokens=20)
    assert house.asked() == model
    assert house.send("/v1/responses", input=text)["model"] == model
    assert house.asked() == model
    conversation = house.client.post("/v1/conversations", json={}).raise_for_status().json()["id"]
    house.send("/v1/chat/completions", messages=_said(text), conversation_id=conversation)
    assert house.asked() == model
    house.send("/v1/chat/completions", messages=_said("Go on."), conversation_id=conversation)
    assert house.asked() == model  # what was asked before is as hard as ever
    house.send("/v1/chat/completions", messages=_said(text), retrieval=None, conversation_id=None)
    assert house.asked() == model
    streamed = house.client.post(
        "/v1/chat/completions", json={"model": "auto", "messages": _said(text), "stream": True}
    )
    assert streamed.headers["x-stoker-deployment"].startswith(model)
    assert house.asked() == model


def test_lines_of_a_batch_choose_each_for_itself(house: House) -> None:
    house.asked()
    lines = [
        {"custom_id": text, "method": "POST", "url": "/v1/chat/completions"}
        | {"body": {"model": "auto", "messages": _said(text)}}
        for text in (_EASY, _HARD)
    ]
    sent = "\n".join(map(json.dumps, lines)).encode()
    file = house.client.post("/v1/files", files={"file": ("lines.jsonl", sent)}, data={"purpose": "batch"})
    asked = {"input_file_id": file.raise_for_status().json()["id"], "endpoint": "/v1/chat/completions"}
    batch = house.client.post("/v1/batches", json={**asked, "completion_window": "24h"}).raise_for_status().json()
    limit_s = time.monotonic() + 60
    while (state := house.client.get(f"/v1/batches/{batch['id']}").json())["status"] != "completed":
        assert state["status"] in ("validating", "in_progress", "finalizing"), state
        assert time.monotonic() < limit_s
        time.sleep(0.2)
    assert state["request_counts"]["completed"] == 2
    assert [len(server.bodies) for server in (house.small, house.large)] == [1, 1]
    house.asked()


def test_tools_are_for_the_most_able_and_other_models_are_left_alone(house: House) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    house.asked()
    house.send("/v1/chat/completions", messages=_said(_EASY), tools=[tool])
    assert house.asked() == "large"
    house.send("/v1/responses", input=_EASY, tools=[{"type": "function", "name": "f", "parameters": {}}])
    assert house.asked() == "large"
    house.send("/v1/chat/completions", messages=_said(_HARD), model="small")
    assert house.asked() == "small"
    refused = house.client.post("/v1/embeddings", json={"model": "auto", "input": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert refused.json()["error"]["code"] == "model_not_found"


def test_what_is_too_long_for_the_small_models_window_goes_to_the_large_one(house: House) -> None:
    long = _said("It rains. " * 120 + _EASY)
    before = house.small.window, house.large.window
    house.small.window, house.large.window = 300, 4096
    house.asked()
    try:
        house.send("/v1/chat/completions", messages=long, max_tokens=20)
        assert house.asked() == "large"
        house.send("/v1/chat/completions", messages=_said(_EASY), max_tokens=20)
        assert house.asked() == "small"
    finally:
        house.small.window, house.large.window = before


def test_it_is_listed_as_a_model(house: House) -> None:
    listed = [model["id"] for model in house.client.get("/v1/models").json()["data"]]
    assert listed == ["small", "large", "auto"]
    assert house.client.get("/v1/models/auto").json()["owned_by"] == "stoker"
    counted = house.client.get("/metrics").text
    assert "stoker_auto_choices_total" in counted


def test_an_answer_that_its_sources_support_is_the_small_models(house: House) -> None:
    house.small.script = house.large.script = lambda _name, _body: "The pier opens at 06:15."
    house.asked()
    found = house.send("/v1/query", **_ASK)
    assert (found["model"], found["degraded"], house.asked()) == ("small", False, "small")
    assert "06:15" in found["answer"]


def test_an_answer_that_nobody_checks_is_by_what_is_asked(house: House) -> None:
    house.small.script = house.large.script = lambda _name, _body: "The pier opens at 06:15."
    try:
        for query, model in ((_HARD, "large"), (_EASY, "small")):
            for grounding in ("mark", "off"):
                assert house.send("/v1/query", **_ASK | {"query": query, "grounding": grounding})["model"] == model
            assert house.send("/v1/query", **_ASK | {"query": f"{query} When does the pier open?"})["model"] == "small"
    finally:
        house.small.script = house.large.script = None


@pytest.mark.parametrize("small", ["The museum closes on Mondays in winter.", Fault.ERROR_500])
def test_where_nothing_of_it_is_supported_the_larger_one_is_asked(house: House, small: str | Fault) -> None:
    house.small.script = lambda _name, _body: small
    house.large.script = lambda _name, _body: "The pier opens at 06:15."
    try:
        key = new_key(house.client, limits={"rpm": None, "tpm": None, "parallel": None})["key"]
        house.asked()
        found = house.send("/v1/query", key, **_ASK)
        assert (found["model"], found["degraded"], house.asked()) == ("large", False, "both"), found
        assert found["citations"][0]["quote"].startswith("The pier opens at 06:15")
        assert "museum" not in found["answer"]
        about = {"messages": _said(str(_ASK["query"])), "retrieval": {"collection": "piers"}}
        told = house.send("/v1/chat/completions", key, **about)
        assert told["model"] == "large"
        spent = _spent(house, key)
        assert (spent["small"] > 0) == isinstance(small, str)  # what was made is billed, told or not
        assert found["usage"]["completion_tokens"] == (5 if isinstance(small, Fault) else 12)
        streamed = house.client.post("/v1/query", json={"model": "auto", **_ASK, "stream": True})
        assert "museum" not in streamed.text
        assert json.loads(streamed.text.split("data: ")[-1])["model"] == "large"
    finally:
        house.small.script = house.large.script = None
        _settle(house)


def test_a_supported_sentence_is_told_and_what_follows_it_is_quoted_for(house: House) -> None:
    house.small.script = lambda _name, _body: "The museum closes on Mondays. It has two berths, and a lamp at its end."
    house.large.script = lambda _name, _body: "never asked"
    try:
        house.asked()
        found = house.send("/v1/query", **_ASK | {"query": "How many berths has the pier?"})
        assert house.asked() == "small"
        assert "two berths" in found["answer"]
        assert "museum" not in found["answer"]
    finally:
        house.small.script = house.large.script = None


def test_what_was_told_of_one_model_is_never_gone_on_with_by_another(house: House) -> None:
    house.small.script = lambda _name, _body: Fault.CUT_MID_STREAM
    house.large.script = lambda _name, _body: "The pier opens at 06:15."
    try:
        house.asked()
        found = house.send("/v1/query", **_ASK | {"query": _EASY, "grounding": "off"})
        assert house.asked() == "small"
        assert found["degraded"]
    finally:
        house.small.script = house.large.script = None
        _settle(house)


def test_where_the_larger_one_may_not_be_asked_the_sources_are_quoted_and_it_says_why(house: House) -> None:
    house.small.script = lambda _name, _body: "The museum closes on Mondays in winter."
    try:
        tenant = house.client.post("/v1/admin/tenants", json={"name": "poor"}).raise_for_status().json()["id"]
        key = new_key(house.client, tenant=tenant, limits={"rpm": None, "tpm": None, "parallel": None}, role="manager")
        limits = {"usd_per_day": "0.000000001"}
        house.client.put(f"/v1/admin/limits/model/large?tenant={tenant}", json=limits).raise_for_status()
        headers = {"x-api-key": key["key"]}
        house.client.post("/v1/collections", json={"name": "piers"}, headers=headers).raise_for_status()
        document = {"title": "a", "content": "The pier opens at 06:15."}
        sent = {"collection": "piers", "documents": [document]}
        job = house.client.post("/v1/ingest", json=sent, headers=headers).raise_for_status().json()["job_id"]
        while house.client.get(f"/v1/jobs/{job}", headers=headers).json()["status"] != "succeeded":
            pass
        found = house.send("/v1/query", key["key"], **_ASK)
        assert found["degraded"]
        assert "a larger model was not asked" in found["degraded_reason"]
        assert "06:15" in found["answer"]
    finally:
        house.small.script = None


def test_without_the_embedding_server_words_decide(tmp_path_factory: pytest.TempPathFactory, house: House) -> None:
    settings = {"STOKER_AUTO_MODELS": "small,large", "STOKER_AUTO_THRESHOLDS": "0.5"}
    folder = tmp_path_factory.mktemp("no-vectors")
    configuration = models(entry("small", house.small.base_url), entry("large", house.large.base_url))
    with gateway(folder, 1, settings=settings, configuration=configuration, keeper=False) as gate:
        for text, model in ((_EASY, "small"), (_HARD, "large")):
            house.asked()
            body = {"model": "auto", "messages": _said(text)}
            answer = house.client.post(f"{gate.url}/v1/chat/completions", json=body, headers={"x-api-key": gate.key})
            assert answer.status_code == 200, answer.text
            assert house.asked() == model


def test_a_gateway_without_the_setting_knows_no_such_model(house: House, tmp_path_factory: Any) -> None:
    configuration = models(entry("small", house.small.base_url))
    with gateway(tmp_path_factory.mktemp("without"), 1, configuration=configuration, keeper=False) as gate:
        headers = {"x-api-key": gate.key}
        body = {"model": "auto", "messages": _said(_EASY)}
        answer = house.client.post(f"{gate.url}/v1/chat/completions", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def _settle(house: House) -> None:
    """Wait until the small model has no failure against it, after which it would be passed over."""
    limit_s = time.monotonic() + 60
    right = 0
    while right < 3:
        assert time.monotonic() < limit_s
        answer = house.client.post("/v1/chat/completions", json={"model": "small", "messages": _said(_EASY)})
        right = right + 1 if answer.status_code == 200 else 0
        time.sleep(0.2)


def _spent(house: House, key: str) -> dict[str, int]:
    """Tokens of a key, by model; waits until the ledger tells of two answers of the large one."""
    limit_s = time.monotonic() + 60
    while True:
        answer = house.client.get("/v1/usage", params={"group_by": "model"}, headers={"x-api-key": key})
        rows = {row["model"]: row for row in answer.raise_for_status().json()["data"]}
        if rows.get("large", {}).get("requests") == 2:
            return {"small": 0} | {model: row["tokens_in"] + row["tokens_out"] for model, row in rows.items()}
        assert time.monotonic() < limit_s, rows
        time.sleep(0.2)
