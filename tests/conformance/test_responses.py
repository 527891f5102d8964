"""OpenAI's SDK for Python on /v1/responses and /v1/conversations, given only the address and the key."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.responses.conftest import House, expected, house, opened, text_of, user
from tests.support.exact.faults import Failure, Fault
from tests.support.sdk import Sdk, Seen, sdk

__all__ = ["house", "opened"]

pytestmark = pytest.mark.slow  # a gateway with two workers is started

ASKED = "Tell me of the sea."
FIND = {
    "type": "function",
    "name": "find",
    "description": "Finds a place.",
    "strict": True,
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def openai() -> Iterator[Sdk]:
    with sdk("openai_responses-python") as one:
        yield one


@pytest.fixture
def do(openai: Sdk, house: House) -> Callable[..., Seen]:
    """Gives an order with these fields of a request."""

    def ask(what: str, model: str = "lone", **fields: Any) -> Seen:
        asked = {"input": ASKED, "max_output_tokens": 24, **fields}
        seen = openai.ask(what, url=house.gate.url, key=house.gate.key, model=model, fields=asked)
        assert "error" not in seen, seen
        return seen

    return ask


def test_an_answer_in_one_piece_and_by_both_ways_to_stream_is_the_same(do: Callable[..., Seen]) -> None:
    told = expected([user(ASKED)])
    assert do("create")["text"] == told.text
    streamed = do("stream")
    deltas = [event["delta"] for event in streamed["events"] if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == told.text
    for way in ("helper", "helper_async"):
        seen = do(way, max_output_tokens=400)
        assert seen["kinds"][0] == "response.created"
        assert seen["kinds"][-1] == "response.completed"
        assert text_of(seen["response"]) == expected([user(ASKED)], max_tokens=400).text


def test_every_event_is_one_that_the_sdk_knows(do: Callable[..., Seen]) -> None:
    seen = do("stream", tools=[FIND], max_output_tokens=400)
    assert set(seen["classes"]) == {
        "ResponseCreatedEvent",
        "ResponseInProgressEvent",
        "ResponseOutputItemAddedEvent",
        "ResponseFunctionCallArgumentsDeltaEvent",
        "ResponseFunctionCallArgumentsDoneEvent",
        "ResponseOutputItemDoneEvent",
        "ResponseCompletedEvent",
    }


def test_the_helper_gathers_the_arguments_of_a_call(do: Callable[..., Seen]) -> None:
    seen = do("helper", tools=[FIND], max_output_tokens=400)
    (call,) = seen["response"]["output"]
    tools = [{"type": "function", "function": {"name": "find"}}]
    assert call["arguments"] == seen["last"] == expected([user(ASKED)], tools=tools, max_tokens=400).text


def test_an_answer_by_a_schema_is_parsed(do: Callable[..., Seen]) -> None:
    seen = do("parse", max_output_tokens=400)
    assert seen["parsed"] == json.loads(seen["text"])
    assert do("parse_stream", max_output_tokens=400)["parsed"] == seen["parsed"]


def test_a_stream_that_breaks_says_so(do: Callable[..., Seen], house: House) -> None:
    house.fail(Failure(Fault.CUT, at=5), Failure(Fault.CUT, at=5))
    seen = do("broken")
    for kinds in (seen["kinds"], seen["again"]):
        assert kinds[-2:] == ["error", "response.failed"]
    assert seen["failed"]["response"]["error"]["code"] == "server_error"
    assert "response.completed" in seen["raised"], "the helper gives no final response"


def test_a_stream_that_is_rescued_is_whole(do: Callable[..., Seen], house: House) -> None:
    house.fail(Failure(Fault.CUT, at=5))
    seen = do("helper", model="twins", max_output_tokens=400)
    assert text_of(seen["response"]) == expected([user(ASKED)], max_tokens=400).text


def test_what_is_kept_is_found_gone_on_from_and_deleted(do: Callable[..., Seen]) -> None:
    seen = do("kept", input=[user("One."), user("Two.")])
    assert seen["same"]
    assert [item["content"][0]["text"] for item in seen["items"]] == ["One.", "Two."]
    assert seen["previous"] == seen["id"]
    errors = {name: (error["class"], error["code"]) for name, error in seen["errors"].items()}
    assert errors == {
        "cancel": ("BadRequestError", "invalid_request"),
        "stream": ("BadRequestError", "not_supported_yet"),
        "deleted": ("NotFoundError", "response_not_found"),
    }


def test_a_conversation_is_begun_filled_listed_answered_in_and_deleted(do: Callable[..., Seen]) -> None:
    seen = do("conversation")
    assert seen["metadata"] == [{"topic": "numbers"}, {"topic": "words"}]
    assert seen["pages"] == [f"Number {number}." for number in range(5)]
    assert seen["single"]["content"][0]["text"] == "Number 2."
    assert seen["texts"][:5] == ["Number 0.", "Number 1.", "Number 3.", "Number 4.", "And?"]
    assert (seen["after"], seen["belongs"], seen["gone"]) == (True, True, True)


ALL = {
    "instructions": "Be brief.",
    "temperature": 0.5,
    "top_p": 0.9,
    "metadata": {"a": "b"},
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "p",
    "reasoning": {"effort": "low"},
    "top_logprobs": 1,
    "truncation": "auto",
    "text": {"verbosity": "low"},
    "max_output_tokens": 400,
}
STATE = """id created_at status completed_at model output usage instructions metadata temperature top_p user
safety_identifier prompt_cache_key reasoning reasoning.effort truncation text text.verbosity max_output_tokens
service_tier tool_choice background top_logprobs""".split()
EVENTS = {
    "response.created": "ResponseCreatedEvent",
    "response.in_progress": "ResponseInProgressEvent",
    "response.completed": "ResponseCompletedEvent",
    "response.output_item.added": "ResponseOutputItemAddedEvent",
    "response.output_item.done": "ResponseOutputItemDoneEvent",
    "response.content_part.added": "ResponseContentPartAddedEvent",
    "response.content_part.done": "ResponseContentPartDoneEvent",
    "response.output_text.delta": "ResponseTextDeltaEvent",
    "response.output_text.done": "ResponseTextDoneEvent",
    "response.function_call_arguments.delta": "ResponseFunctionCallArgumentsDeltaEvent",
    "response.function_call_arguments.done": "ResponseFunctionCallArgumentsDoneEvent",
}


def test_answers_have_the_fields_of_the_sdks_types(
    do: Callable[..., Seen], openai: Sdk, house: House, figure: Callable[[str], None]
) -> None:
    whole = house.asked(input=ASKED, **ALL)
    on = house.asked(input=ASKED, previous_response_id=whole["id"])
    called = house.asked(input=ASKED, tools=[FIND], max_output_tokens=400)
    told = house.told(input=ASKED, **ALL) + house.told(input=ASKED, tools=[FIND], max_output_tokens=400)
    kept, talk = do("kept"), do("conversation")
    rooms: dict[str, list[dict[str, Any]]] = {
        "POST /v1/responses": [
            {"type": "Response", "value": whole, "stateful": STATE},
            {"type": "Response", "value": on, "stateful": ["previous_response_id"]},
            {"type": "Response", "value": called, "stateful": ["tools"]},
        ],
        "its events": [{"type": EVENTS[event["type"]], "value": event} for event in told],
        "GET /v1/responses/{id}/input_items": [{"type": "ResponseItemList", "value": kept["input_items"]}],
        "/v1/conversations": [{"type": name, "value": value} for name, value in talk["shapes"].items()],
    }
    for room, values in rooms.items():
        found = openai.ask("fields", values=values)["found"]
        counts = {name: sum(len(one[name]) for one in found) for name in ("ok", "not", "absent")}
        wrong = sorted({path for one in found for path in one["not"]})
        absent = sorted({path for one in found for path in one["absent"]})
        share = 100 * counts["ok"] / sum(counts.values())
        figure(f"{room}: {share:.1f} % of {sum(counts.values())} fields; left out: {', '.join(absent) or 'none'}")
        assert not wrong, f"{room}: {wrong}"
        assert share >= 90, room
    figure(f"openai {openai.ask('version')['version']}")
