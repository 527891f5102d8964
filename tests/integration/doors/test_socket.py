"""`WS /v1/query/ws`: questions over one connection, through real sockets."""

import json
import time

import pytest

from api.first_key import DEFAULT_TENANT
from router.salt import salt_of
from tests.integration.doors.conftest import (
    ASKED,
    CHAT,
    CLOSED,
    MESSAGES,
    OF_2024,
    OF_2025,
    OF_ANY,
    SOURCED,
    answered,
    begin,
    name,
    talk,
)
from tests.integration.doors.lines import Said, awaited, known
from tests.integration.hot.conftest import await_lines, new_key
from tests.integration.querywork.test_gateway import House

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

UNCHECKED = {"grounding": "off", "max_tokens": 60}


def test_a_question_is_answered_with_the_events_of_its_stream(house: House) -> None:
    body = {"query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64}
    whole = house.client.post("/v1/query", json=body, headers={"x-request-id": name()}).json()
    with known(house) as one:
        for _ in range(2):
            asked = one.ask()
            heard = one.until("done", "error")
            assert [said["event"] for said in heard] == ["retrieval", "token", "citation", "usage", "done"]
            assert {said["id"] for said in heard} == {asked}
            done = heard[-1]["data"]
            assert (done["answer"], done["citations"]) == (whole["answer"], whole["citations"])
            assert heard[1]["data"] == {"text": SOURCED}
            assert heard[3]["data"] == done["usage"] == whole["usage"]


def test_a_question_without_a_name_gets_one(house: House) -> None:
    with known(house) as one:
        one.say("query", query=ASKED, collection="fares")
        heard = one.until("done", "error")
        assert heard[-1]["event"] == "done"
        assert heard[0]["id"].startswith("req_")


def test_a_question_that_is_cancelled_stops_its_model_and_frees_its_place(house: House) -> None:
    made = new_key(house.client, limits={"parallel": 1})
    house.says["said"] = "word " * 60
    house.server.pause_s, cancelled = 0.1, house.server.cancelled
    with known(house, made["key"]) as one:
        asked = one.ask(**UNCHECKED)
        one.until("token")
        began_s = time.monotonic()
        one.say("cancel", id=asked)
        heard = one.until("cancelled", "done", "error")
        assert heard[-1] == {"event": "cancelled", "id": asked, "data": {}}
        assert time.monotonic() - began_s < 30
        awaited(lambda: house.server.cancelled > cancelled, "the upstream goes on")
        (billed,) = await_lines(house.gate, 1, key_id=made["id"])
        assert 0 < billed["tokens_out"] < 30, "what was made is paid, and no more"
        house.server.pause_s, house.says["said"] = 0.0, SOURCED
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done", "its place is free"


def test_a_client_that_leaves_stops_its_model(house: House) -> None:
    house.says["said"] = "word " * 60
    house.server.pause_s, cancelled = 0.1, house.server.cancelled
    with known(house) as one:
        one.ask(**UNCHECKED)
        one.until("token")
    awaited(lambda: house.server.cancelled > cancelled, "the upstream goes on")


def test_one_question_is_answered_at_a_time(house: House) -> None:
    house.says["said"] = "word " * 10
    house.server.pause_s = 0.05
    with known(house) as one:
        first = one.ask(**UNCHECKED)
        one.until("token")
        second = one.ask()
        heard = one.until("done")
        refused = [(said["id"], said["data"]["error"]["code"]) for said in heard if said["event"] == "error"]
        assert refused == [(second, "question_running")]
        assert heard[-1]["id"] == first


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"collection": "nowhere"}, 404, "collection_not_found"),
        ({"top_k": 0}, 400, "invalid_request"),
        ({"model": "nobody"}, 404, "model_not_found"),
        ({"filter": {"type": "like"}}, 400, "filter_invalid"),
    ],
)
def test_a_question_that_goes_wrong_is_no_matter_of_the_next_one(
    house: House, fields: Said, status: int, code: str
) -> None:
    with known(house) as one:
        asked = one.ask(**fields)
        heard = one.hear()
        assert (heard["event"], heard["id"], heard["data"]["request_id"]) == ("error", asked, asked)
        assert (heard["data"]["status"], heard["data"]["error"]["code"]) == (status, code)
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"


def test_limits_hold_for_each_question(house: House) -> None:
    made = new_key(house.client, limits={"rpm": 1, "burst": 1})
    with known(house, made["key"]) as one:
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"
        one.ask()
        refused = one.until("done", "error")[-1]
        assert (refused["event"], refused["data"].get("status")) == ("error", 429)
        assert refused["data"]["error"]["code"] == "rate_limit_exceeded"
        assert refused["data"]["retry_after_s"] >= 1
    (billed,) = await_lines(house.gate, 1, key_id=made["id"])
    assert (billed["route"], billed["outcome"]) == ("/v1/query", "ok")


def test_nobody_reads_another_tenants_documents_or_what_he_may_not_read(house: House, stranger: str) -> None:
    with known(house, stranger) as one:
        one.ask()
        assert one.hear()["data"]["error"]["code"] == "collection_not_found"
    house.says["said"] = CLOSED
    only = {"query": "What will the winter fare of the ferry be?", "filter": OF_2025}
    with known(house, house.members["ann"]) as one:
        one.ask(**only)
        assert "twenty" in json.dumps(one.until("done", "error"))
    with known(house, house.members["bob"]) as one:
        for wanted in (only, {**only, "filter": OF_ANY}):
            asked = one.ask(**wanted)
            heard = one.until("done", "error")
            assert heard[-1]["event"] == "done"
            assert "twenty" not in json.dumps(heard)
            assert "twenty" not in json.dumps(house.chats(asked))


def test_a_question_belongs_to_its_conversation(house: House) -> None:
    ann = house.members["ann"]
    conversation = begin(house, ann)
    with known(house, ann) as one:
        one.ask(conversation_id=conversation)
        assert one.until("done", "error")[-1]["data"]["conversation_id"] == conversation
    assert talk(house, conversation, ann) == [("user", ASKED), ("assistant", SOURCED)]


def test_a_long_answer_is_no_silence(house: House) -> None:
    house.says["said"] = "word " * 20
    house.server.pause_s = 0.25
    with known(house) as one:
        one.ask(**UNCHECKED)
        assert one.until("done", "error")[-1]["event"] == "done"


def test_each_question_is_counted_and_logged_as_a_request_is(house: House) -> None:
    with known(house) as one:
        asked = one.ask()
        one.until("done")
    awaited(lambda: asked in house.gate.log, "no line in the log")
    (logged,) = [json.loads(text) for text in house.gate.log.splitlines() if asked in text]
    assert (logged["route"], logged["method"], logged["status"]) == ("/v1/query/ws", "WS", 200)
    assert (logged["model_group"], logged["degraded"]) == ("words", False)
    assert logged["tokens_out"] > 0
    assert 'method="WS",route="/v1/query/ws"' in house.client.get("/metrics").text
    assert "ws://" not in house.gate.log
    assert "[accepted]" not in house.gate.log


def test_every_door_to_documents_tells_the_engine_the_tenants_salt(house: House) -> None:
    seen = len(house.server.bodies)
    body = {"query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64}
    for fields in ({}, {"query_work": {"hyde": True}}):
        answer = house.client.post("/v1/query", json={**body, **fields}, headers={"x-request-id": name()})
        assert answer.status_code == 200, answer.text
    for path in (CHAT, MESSAGES):
        answered(house, path)
    with known(house) as one:
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"
    salts = [each.get("cache_salt") for each in house.server.bodies[seen:]]
    assert len(salts) >= 6
    assert set(salts) == {salt_of(DEFAULT_TENANT)}
