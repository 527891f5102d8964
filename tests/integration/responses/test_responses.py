"""/v1/responses through a real gateway, before a provider whose words are known in advance."""

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, new_key
from tests.integration.responses.conftest import House, expected, text_of, user
from tests.support.exact.faults import Failure, Fault

pytestmark = pytest.mark.slow  # a gateway with two workers is started

FIND = {
    "type": "function",
    "name": "find",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
}


def test_an_answer_in_one_piece_is_the_models_and_so_is_its_usage(house: House) -> None:
    told = expected([user("Tell me of the sea.")])
    answer = house.ask(input="Tell me of the sea.", metadata={"a": "b"})
    assert answer.status_code == 200, answer.text
    response = answer.json()
    assert text_of(response) == told.text
    assert (response["object"], response["model"], response["metadata"]) == ("response", "lone", {"a": "b"})
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (len(told.prompt), len(told.tokens))
    assert usage["total_tokens"] == len(told.prompt) + len(told.tokens)
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-stoker-deployment"]
    whole = told.reason != "length"
    assert response["status"] == ("completed" if whole else "incomplete")
    assert response["incomplete_details"] == (None if whole else {"reason": "max_output_tokens"})


def test_a_stream_ends_in_the_same_response_and_it_can_be_asked_for_again(house: House) -> None:
    events = house.told(input="Tell me of the sea.")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    final = events[-1]["response"]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text_of(final) == expected([user("Tell me of the sea.")]).text
    assert house.client.get(f"/v1/responses/{final['id']}").json() == final


def test_the_ledger_holds_what_was_used_under_its_own_route(house: House) -> None:
    made = new_key(house.client)
    for stream in (False, True):
        assert house.ask(made["key"], input="Tell me of the sea.", stream=stream).status_code == 200
    told = expected([user("Tell me of the sea.")])
    for line in await_lines(house.gate, 2, key_id=made["id"]):
        assert (line["route"], line["model_group"], line["outcome"]) == ("/v1/responses", "lone", "ok")
        assert (line["tokens_in"], line["tokens_out"]) == (len(told.prompt), len(told.tokens))
        assert line["nano_usd"] == 1000 * len(told.prompt) + 2000 * len(told.tokens)
        assert line["ttft_ms"] is not None


def test_what_is_not_to_be_kept_is_not(house: House) -> None:
    response = house.asked(input="Hello.", store=False)
    assert response["store"] is False
    answer = house.client.get(f"/v1/responses/{response['id']}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")


def test_a_response_is_deleted_at_once(house: House) -> None:
    response = house.asked(input="Hello.")
    path = f"/v1/responses/{response['id']}"
    assert house.client.delete(path).json() == {"id": response["id"], "object": "response.deleted", "deleted": True}
    for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        assert house.client.request(method, path + tail).status_code == 404
    again = house.ask(input="And?", previous_response_id=response["id"])
    assert (again.status_code, again.json()["error"]["code"]) == (404, "previous_response_not_found")


def test_input_items_are_listed_by_cursor(house: House) -> None:
    talk = [user(str(number)) for number in range(5)]
    path = f"/v1/responses/{house.asked(input=talk)['id']}/input_items"
    first = house.client.get(path, params={"limit": 3}).json()
    rest = house.client.get(path, params={"limit": 3, "after": first["last_id"]}).json()
    texts = [item["content"][0]["text"] for item in first["data"] + rest["data"]]
    assert texts == ["4", "3", "2", "1", "0"], "the last first, as OpenAI has it"
    assert (first["has_more"], rest["has_more"]) == (True, False)
    oldest = house.client.get(path, params={"order": "asc", "limit": 1}).json()["data"]
    assert oldest[0]["content"][0]["text"] == "0"


def test_only_what_runs_in_the_background_could_be_cancelled_and_nothing_does(house: House) -> None:
    path = f"/v1/responses/{house.asked(input='Hello.')['id']}"
    refused = house.client.post(f"{path}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    streamed = house.client.get(path, params={"stream": "true"})
    assert (streamed.status_code, streamed.json()["error"]["code"]) == (400, "not_supported_yet")
    assert house.ask(input="Hello.", background=True).status_code == 400


def test_a_response_goes_on_from_another_without_its_instructions(house: House) -> None:
    first = house.asked(input="One.", instructions="Be brief.")
    second = house.asked(input="Two.", previous_response_id=first["id"])
    third = house.asked(input="Three.", previous_response_id=second["id"], instructions="Be kind.")
    assert third["previous_response_id"] == second["id"]
    said = [(message["role"], message["content"]) for message in house.last().body["messages"]]
    assert said == [
        ("system", "Be kind."),
        ("user", "One."),
        ("assistant", text_of(first)),
        ("user", "Two."),
        ("assistant", text_of(second)),
        ("user", "Three."),
    ]


def test_a_response_goes_on_with_a_conversation_and_adds_to_it(house: House) -> None:
    begun = {"items": [{"role": "user", "content": "My name is Ann."}]}
    conversation = house.client.post("/v1/conversations", json=begun).json()["id"]
    first = house.asked(input="One.", conversation=conversation)
    assert first["conversation"] == {"id": conversation}
    second = house.asked(input="Two.", conversation={"id": conversation}, store=False)
    said = [(message["role"], message["content"]) for message in house.last().body["messages"]]
    assert said == [
        ("user", "My name is Ann."),
        ("user", "One."),
        ("assistant", text_of(first)),
        ("user", "Two."),
    ]
    items = house.client.get(f"/v1/conversations/{conversation}/items", params={"order": "asc"}).json()["data"]
    assert [item["content"][0]["text"] for item in items] == [
        "My name is Ann.",
        "One.",
        text_of(first),
        "Two.",
        text_of(second),
    ]
    assert items[2]["id"] == first["output"][0]["id"]


def test_two_requests_at_once_on_one_conversation_end_in_some_order_and_neither_is_lost(house: House) -> None:
    conversation = house.client.post("/v1/conversations", json={}).json()["id"]
    house.servers[0].pause_s = 0.005
    asks = [f"Question {number}." for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: house.asked(input=text, conversation=conversation), asks))
    items = house.client.get(f"/v1/conversations/{conversation}/items", params={"order": "asc", "limit": 100}).json()[
        "data"
    ]
    texts = [item["content"][0]["text"] for item in items]
    pairs = {(texts[at], texts[at + 1]) for at in range(0, len(texts), 2)}
    assert pairs == {(ask, text_of(answer)) for ask, answer in zip(asks, answers, strict=True)}
    assert len(texts) == 16


def test_a_function_is_called_and_its_output_answered(house: House) -> None:
    first = house.asked(input="Where is it?", tools=[FIND], max_output_tokens=400)
    (call,) = first["output"]
    assert (call["type"], call["name"], first["status"]) == ("function_call", "find", "completed")
    tools = [{"type": "function", "function": {"name": "find"}}]
    told = expected([user("Where is it?")], tools=tools, max_tokens=400)
    assert call["arguments"] == told.text
    assert json.loads(call["arguments"])
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Behind the house."}
    second = house.asked(input=[output], previous_response_id=first["id"])
    messages = house.last().body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == call["call_id"]
    assert text_of(second)


def test_a_schema_reaches_the_model(house: House) -> None:
    shape = {"type": "json_schema", "name": "place", "schema": {"type": "object"}, "strict": True}
    response = house.asked(input="Where?", text={"format": shape}, max_output_tokens=400)
    assert json.loads(text_of(response))
    assert house.last().body["response_format"]["json_schema"]["name"] == "place"


BROKEN = [Fault.CUT, Fault.CLOSE, Fault.END, Fault.ERROR_MID, Fault.GARBAGE_MID]


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.name)
def test_a_stream_that_breaks_ends_in_a_failed_response_and_never_silently(house: House, fault: Fault) -> None:
    made = new_key(house.client)
    conversation = house.client.post(
        "/v1/conversations", json={}, headers={"authorization": f"Bearer {made['key']}"}
    ).json()["id"]
    house.fail(Failure(fault, at=3))
    answer = house.ask(made["key"], input="Tell me of the sea.", stream=True, conversation=conversation)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert "secret" not in answer.text
    said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text_of(failed) == said
    assert expected([user("Tell me of the sea.")]).text.startswith(said)
    (line,) = await_lines(house.gate, 1, key_id=made["id"])
    assert (line["outcome"], line["tokens_out"]) == ("failed", 3)
    items = house.client.get(
        f"/v1/conversations/{conversation}/items", headers={"authorization": f"Bearer {made['key']}"}
    )
    assert items.json()["data"] == []


def test_a_broken_answer_in_one_piece_is_a_502(house: House) -> None:
    house.fail(Failure(Fault.CUT, at=3))
    answer = house.ask(input="Tell me of the sea.")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")


@pytest.mark.parametrize("stream", [False, True])
def test_another_deployment_goes_on_with_a_stream_that_broke(house: House, stream: bool) -> None:
    made = new_key(house.client)
    house.fail(Failure(Fault.CUT, at=5))
    answer = house.ask(made["key"], model="twins", input="Tell me of the hills.", stream=stream)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    response = events[-1]["response"] if stream else answer.json()
    told = expected([user("Tell me of the hills.")])
    assert text_of(response) == told.text
    assert response["usage"]["output_tokens"] == len(told.tokens)
    lines = await_lines(house.gate, 2, key_id=made["id"])
    assert {line["outcome"] for line in lines} == {"rescued", "ok"}
    assert sum(line["tokens_out"] for line in lines) == len(told.tokens)


def leave_in_the_middle(house: House, body: dict[str, Any], headers: dict[str, str], wait_s: float) -> None:
    """Read four pieces, or wait for as long as the model takes for some of its tokens."""
    with (
        suppress(httpx.ReadTimeout),
        httpx.Client(base_url=house.gate.url, timeout=wait_s) as client,
        client.stream("POST", "/v1/responses", json=body, headers=headers) as answer,
    ):
        for _ in islice(answer.iter_raw(), 4):
            pass


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_the_upstream_and_pays_for_what_was_made(house: House, stream: bool) -> None:
    body = {"model": "lone", "input": "Tell me of the sea.", "max_output_tokens": 24, "stream": stream}
    for pause_s in (0.1, 0.5, 2.5):  # on a busy machine a request needs longer to get there
        made, name = new_key(house.client), f"leaving-{secrets.token_hex(4)}"
        house.servers[0].pause_s = pause_s
        headers = {"authorization": f"Bearer {made['key']}", "x-request-id": name}
        leave_in_the_middle(house, body, headers, 7 * pause_s)
        served = next((one for one in house.servers[0].log if one.name == name), None)
        if served is not None and served.made:
            break
    assert served is not None
    left_s = time.monotonic()
    while served.left_s is None and time.monotonic() - left_s < 5:
        time.sleep(0.01)
    assert served.left_s is not None
    assert not served.ended
    (line,) = await_lines(house.gate, 1, key_id=made["id"])
    assert (line["outcome"], line["status"]) == ("client_left", 499)
    assert 0 < line["tokens_out"] <= len(served.made)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "nope"}, 404, "model_not_found"),
        ({"input": "word " * 6000}, 400, "context_length_exceeded"),
        ({"input": []}, 400, "invalid_request"),
        ({"conversation": "conv_none"}, 404, "conversation_not_found"),
        ({"previous_response_id": "resp_none"}, 404, "previous_response_not_found"),
        ({"chat_template": "x"}, 400, "invalid_request"),
    ],
)
def test_what_goes_wrong_early_keeps_its_status(
    house: House, fields: dict[str, Any], status: int, code: str, stream: bool
) -> None:
    answer = house.ask(**{"input": "Hello.", **fields}, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(Fault.ERROR_500, 502, "upstream_failed"), (Fault.LIMIT_429, 429, None), (Fault.BUSY_503, 503, "no_deployment")],
)
def test_an_upstream_that_fails_early_is_told_by_status(house: House, fault: Fault, status: int, code: str) -> None:
    house.servers[0].failure = Failure(fault)
    answer = house.ask(input="Hello.", stream=True)
    assert answer.status_code == status, answer.text
    if code is not None:
        assert answer.json()["error"]["code"] == code


def test_limits_hold_and_are_told(house: House) -> None:
    key = house.key(limits={"rpm": 2, "burst": 2, "tpm": 100_000})
    answers = [house.ask(key, input="Hello.") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert "retry-after" in answers[2].headers


def test_a_key_without_the_scope_is_refused(house: House) -> None:
    assert house.ask(house.key(scopes=["embeddings"]), input="Hello.").status_code == 403
    chat_only = house.key(scopes=["chat"])
    assert house.ask(chat_only, input="Hello.").status_code == 200
    conversation = house.client.post("/v1/conversations", json={}).json()["id"]
    refused = house.ask(chat_only, input="Hello.", conversation=conversation)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_not_allowed")


def test_the_oldest_turns_are_dropped_where_the_window_is_too_small_and_the_request_allows_it(house: House) -> None:
    conversation = house.client.post("/v1/conversations", json={}).json()["id"]
    for number in range(12):
        items = [user(f"{number} " + "word " * 600), {"role": "assistant", "content": "yes " * 100}]
        added = house.client.post(f"/v1/conversations/{conversation}/items", json={"items": items})
        assert added.status_code == 200
    refused = house.ask(input="And now?", conversation=conversation)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    response = house.asked(input="And now?", conversation=conversation, truncation="auto")
    messages = house.last().body["messages"]
    assert messages[-1] == user("And now?")
    assert 1 < len(messages) < 24
    assert messages[0]["role"] == "user"
    assert response["truncation"] == "auto"
    items = house.client.get(f"/v1/conversations/{conversation}/items", params={"limit": 100}).json()["data"]
    assert len(items) == 26, "the conversation itself loses nothing"


def test_dropped_fields_are_named(house: House) -> None:
    answer = house.ask(input="Hello.", moderation={}, nonsense=1)
    assert answer.headers["x-stoker-ignored"] == "moderation, nonsense"


def test_a_rescue_and_a_priority_can_be_declined(house: House) -> None:
    house.fail(Failure(Fault.CUT, at=5))
    answer = house.ask(model="twins", input="Tell me of it.", headers={"x-stoker-rescue": "off"})
    assert answer.status_code == 502
    assert house.ask(input="Hello.", headers={"x-stoker-priority": "huge"}).status_code == 400
    assert house.ask(input="Hello.", headers={"x-stoker-priority": "batch"}).status_code == 200


def test_nobody_but_its_owner_sees_goes_on_from_or_deletes_a_response(house: House) -> None:
    client = house.client
    client.post("/v1/admin/tenants", json={"name": "bolt"})
    users = [client.post("/v1/admin/users", json={"name": name}).json()["id"] for name in ("ann", "bob")]
    ann, bob = (house.key(user=user_id) for user_id in users)
    others = {"bob": bob, "a key": house.key(), "the admin": house.gate.key, "bolt": house.key(tenant="bolt")}
    answer = house.ask(ann, input="The secret of ann.")
    response_id = answer.json()["id"]
    conversation = client.post("/v1/conversations", json={}, headers={"authorization": f"Bearer {ann}"}).json()["id"]
    for who, key in others.items():
        headers = {"authorization": f"Bearer {key}"}
        path = f"/v1/responses/{response_id}"
        for method, tail in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
            refused = client.request(method, path + tail, headers=headers)
            assert refused.status_code == 404, (who, method, tail)
            assert "secret" not in refused.text
        for fields in ({"previous_response_id": response_id}, {"conversation": conversation}):
            for stream in (False, True):
                assert house.ask(key, input="Go on.", stream=stream, **fields).status_code == 404, (who, fields)
    headers = {"authorization": f"Bearer {ann}"}
    assert client.get(f"/v1/responses/{response_id}", headers=headers).status_code == 200
    assert client.get(f"/v1/conversations/{conversation}/items", headers=headers).json()["data"] == []
