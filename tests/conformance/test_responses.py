"""OpenAI's SDK for Python on /v1/responses and /v1/conversations, given only the address and the key."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.responses.conftest import House, expected, house, opened, text_of, user
from tests.support.conformance import Observed, measure
from tests.support.exact.faults import Failure, Fault
from tests.support.sdk import Sdk, Seen, sdk

__all__ = ["house", "opened"]

pytestmark = pytest.mark.slow  # a gateway with two workers is started

ASKED = "Tell me of the sea."
WANTED = 0.95
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
# What this house has not: programs of access, moderation, prompts by name, caches that are told of, tools of its own.
NOT_HERE = """access_programs image input_transformations moderation prompt prompt_cache_diagnostics
prompt_cache_options prompt_cache_retention tool_usage usage.input_tokens_details.cache_write_tokens_details""".split()
# What an answer does not tell that is whole, stands alone and has searched nothing.
UNTOLD = "error incomplete_details conversation previous_response_id max_tool_calls".split()
# Of items and tools: phases, callers, namespaces, breakpoints of caches; of reasoning: all but the effort.
OF_ITEMS = "phase async caller namespace content[].prompt_cache_breakpoint".split()
OF_TOOLS = "allowed_callers async defer_loading output_schema".split()
OF_REASONING = "context generate_summary mode summary".split()
BEGUN = "completed_at usage".split()


def stateless(*names: str, within: str = "") -> frozenset[str]:
    return frozenset(f"{within}{name}" for name in names)


def test_answers_fulfil_the_types_of_the_installed_sdk(
    do: Callable[..., Seen], house: House, figure: Callable[[str], None]
) -> None:
    whole = house.asked(input=ASKED, tools=[FIND], tool_choice="none", **ALL)
    on = house.asked(input=ASKED, previous_response_id=whole["id"], **ALL)
    called = house.asked(input=ASKED, tools=[FIND], **ALL)
    events = house.told(input=ASKED, **ALL) + house.told(input=ASKED, tools=[FIND], **ALL)
    kept, talk = do("kept"), do("conversation")
    usual = stateless(*NOT_HERE, *UNTOLD) | stateless(*OF_ITEMS, within="output[].")
    usual |= stateless(*OF_TOOLS, within="tools[].") | stateless(*OF_REASONING, within="reasoning.")
    listed = stateless(*OF_ITEMS, within="data[].")
    of = "openai.types.responses."
    observed = [
        Observed("POST /v1/responses", of + "Response", whole, usual),
        Observed("POST /v1/responses", of + "Response", on, usual - {"previous_response_id"}),
        Observed("POST /v1/responses", of + "Response", called, usual),
        Observed(
            "GET /v1/responses/{id}", of + "Response", house.client.get(f"/v1/responses/{on['id']}").json(), usual
        ),
        Observed("GET /v1/responses/{id}/input_items", of + "ResponseItemList", kept["input_items"], listed),
    ]
    each = {(event["type"], event.get("item", {}).get("type")): event for event in events}
    for event in each.values():  # one of each kind: or those that come often would count often
        names = usual | stateless(*(() if event["type"] == "response.completed" else BEGUN))
        told = stateless(*names, within="response.") | stateless(*OF_ITEMS, within="item.")
        observed.append(Observed("events of POST /v1/responses", of + EVENTS[event["type"]], event, told))
    for name, value in talk["shapes"].items():
        observed.append(Observed("/v1/conversations", f"openai.types.conversations.{name}", value, listed))
    measured = measure(observed)
    lines = list(dict.fromkeys(measured.lines()))
    for line in lines:
        figure(line)
    for room in ("/v1/responses", "/v1/conversations"):
        fields = [one for one in measured.fields if room in one.route]
        share = sum(one.verdict == "ok" for one in fields) / len(fields)
        figure(f"{room}: {share:.1%} of {len(fields)} fields")
        assert share >= WANTED, [line for line in lines if room in line]
