"""What of a chat is the question, what came before it, and what the system says."""

from typing import Any

import pytest

from api.answers.question import Grounding, Turn
from api.chat import sourcing
from api.chat.retrieval import read_retrieval, refuse_what_does_not_go
from api.chat.said import MAX_QUESTION, MAX_SYSTEM, Said, read_said
from api.errors import RequestInvalid
from api.hot.routes import ROUTES

CHAT = ROUTES["/v1/chat/completions"]


def says(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_the_last_user_message_is_the_question_and_the_others_are_what_came_before_it() -> None:
    messages = [
        says("system", "Be brief."),
        says("user", "When does it leave?"),
        says("assistant", "At nine."),
        says("developer", [text("Say crowns."), text("Not euros.")]),
        says("user", [text("And the fare?"), text("In winter.")]),
    ]
    turns = (Turn("user", "When does it leave?"), Turn("assistant", "At nine."))
    assert read_said(messages) == Said("And the fare?\nIn winter.", turns, "Be brief.\n\nSay crowns.\nNot euros.")


def test_anthropics_own_field_is_what_the_system_says() -> None:
    assert read_said([says("user", "When?")], [text("Be brief.")]) == Said("When?", (), "Be brief.")
    assert read_said([says("user", "When?")], "  ").system is None


def test_what_is_no_text_is_passed_over_in_what_came_before() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    earlier = [
        says("user", [image]),
        says("assistant", None),
        {"role": "tool", "tool_call_id": "call_1", "content": "9"},
        says("user", [image, text("Where?")]),
        says("assistant", ""),
    ]
    assert read_said([*earlier, says("user", "When?")]).turns == (Turn("user", "Where?"),)


def test_of_long_chats_the_newest_turns_are_kept() -> None:
    earlier = [says("user", str(number)) for number in range(50)]
    assert [turn.content for turn in read_said([*earlier, says("user", "Q?")]).turns] == [str(n) for n in range(30, 50)]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([says("assistant", "I think")], "messages"),
        ([says("user", "When?"), says("assistant", "At")], "messages"),
        ([says("user", "When?"), says("user", " ")], "messages"),
        ([says("user", "When?"), says("user", "")], "messages"),
        ([says("user", "x" * (MAX_QUESTION + 1))], "messages"),
        ([says("system", "x" * (MAX_SYSTEM + 1)), says("user", "When?")], "messages"),
        ([says("user", [{"type": "image_url", "image_url": {"url": "data:,"}}])], "messages[0].content[0]"),
        ([says("user", None)], "messages[0].content"),
        ([says("system", 7), says("user", "When?")], "messages[0].content"),
        ([says("narrator", "Once."), says("user", "When?")], "messages[0].role"),
        (["When?"], "messages[0].role"),
        ([says("user", "When?"), {"role": ["user"], "content": "And?"}], "messages[1].role"),
    ],
)
def test_what_is_no_question_is_refused_by_its_place(messages: list[Any], param: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        read_said(messages)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ("demo", "retrieval"),
        ({}, "retrieval.collection"),
        ({"collection": ""}, "retrieval.collection"),
        ({"collection": "demo", "top_k": 0}, "retrieval.top_k"),
        ({"collection": "demo", "top_k": "5"}, "retrieval.top_k"),
        ({"collection": "demo", "rerank_top_n": 101}, "retrieval.rerank_top_n"),
        ({"collection": "demo", "mode": "psychic"}, "retrieval.mode"),
        ({"collection": "demo", "grounding": "loose"}, "retrieval.grounding"),
        ({"collection": "demo", "filter": "year"}, "retrieval.filter"),
        ({"collection": "demo", "rerank": "yes"}, "retrieval.rerank"),
        ({"collection": "demo", "topk": 5}, "retrieval.topk"),
    ],
)
def test_a_search_that_cannot_be_is_refused_by_its_field(raw: Any, param: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        read_retrieval(raw)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("functions", [{"name": "f"}]),
        ("tool_choice", "required"),
        ("function_call", {"name": "f"}),
        ("n", 2),
        ("response_format", {"type": "json_object"}),
        ("structured_outputs", {"regex": "a"}),
        ("output_config", {"format": {"type": "json_schema"}}),
        ("thinking", {"type": "enabled", "budget_tokens": 100}),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("prompt_logprobs", 0),
        ("return_token_ids", True),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("echo", True),
        ("continue_final_message", True),
        ("use_beam_search", True),
    ],
)
def test_what_does_not_go_together_is_named(name: str, value: Any) -> None:
    with pytest.raises(RequestInvalid, match=f"^{name} does not go together with retrieval") as refused:
        refuse_what_does_not_go({"model": "m", name: value})
    assert refused.value.param == name


def test_what_asks_for_nothing_goes_together_with_everything() -> None:
    refuse_what_does_not_go(
        {
            "tools": [],
            "tool_choice": "auto",
            "n": 1,
            "response_format": {"type": "text"},
            "logprobs": False,
            "top_logprobs": 0,
            "modalities": ["text"],
            "audio": None,
            "thinking": {"type": "disabled"},
        }
    )


def test_a_chat_becomes_the_question_that_it_asks() -> None:
    body = {
        "model": "words",
        "messages": [says("system", "Be brief."), says("user", "When?")],
        "temperature": 0.5,
        "max_completion_tokens": 9000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 7,
        "user": "ann",
    }
    wanted = {
        "collection": "demo",
        "top_k": 5,
        "rerank": True,
        "rerank_top_n": 2,
        "mode": "dense",
        "grounding": "mark",
        "filter": {"type": "eq", "key": "year", "value": 2024},
    }
    asked = sourcing.read(CHAT, body, {"retrieval": wanted})
    question = asked.question("req_1")
    assert (question.text, question.collection, question.model, question.top_k) == ("When?", "demo", "words", 5)
    assert (question.mode, question.rerank, question.rerank_top_n) == ("dense", True, 2)
    assert (question.system, question.grounding, question.filter) == ("Be brief.", Grounding.MARK, wanted["filter"])
    assert (question.temperature, question.max_tokens, question.route) == (0.5, 4096, "/v1/chat/completions")
    assert (asked.stream, asked.shows_usage, asked.unheeded) == (True, True, ["seed", "user"])
    assert asked.items == [], "it belongs to no conversation"


def test_a_chat_that_says_no_more_asks_as_a_query_does() -> None:
    body = {"model": "words", "messages": [says("user", "When?")], "temperature": None}
    question = sourcing.read(CHAT, body, {"retrieval": {"collection": "demo"}}).question("req_1")
    assert (question.temperature, question.max_tokens, question.top_k) == (0.0, None, 10)
    assert (question.mode, question.rerank, question.grounding) == (None, None, None)


@pytest.mark.parametrize("temperature", [-0.1, 2.1, "1", True])
def test_a_temperature_out_of_range_is_refused(temperature: object) -> None:
    body = {"model": "words", "messages": [says("user", "When?")], "temperature": temperature}
    with pytest.raises(RequestInvalid, match="from 0 to 2"):
        sourcing.read(CHAT, body, {"retrieval": {"collection": "demo"}})
