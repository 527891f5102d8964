"""Bodies of /v1/responses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import NotSupportedYet, RequestInvalid
from api.responses.messages import messages, question_of
from api.responses.plan import Plan
from api.responses.request import Asked, read

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FIND = {"type": "function", "name": "find", "description": "Finds.", "parameters": SCHEMA, "strict": True}


def asked(**fields: Any) -> Asked:
    return read({"model": "m", "input": "Hello.", **fields})[0]


def chat(**fields: Any) -> dict[str, Any]:
    """What the model is asked."""
    return Plan(asked(**fields), [], 8000).body()


def test_a_text_is_a_users_message_and_instructions_come_first() -> None:
    assert chat(instructions="Be brief.")["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
    ]
    assert chat()["stream"] is True
    assert chat()["stream_options"] == {"include_usage": True}


def test_fields_of_a_chat_go_on_by_their_own_names() -> None:
    body = chat(
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=64,
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
        user="u",
        service_tier="auto",
        top_logprobs=2,
        top_k=5,
    )
    expected = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 64,
        "reasoning_effort": "low",
        "verbosity": "low",
        "user": "u",
        "service_tier": "auto",
        "logprobs": True,
        "top_logprobs": 2,
        "top_k": 5,
    }
    assert {name: body[name] for name in expected} == expected
    for name in ("store", "metadata", "truncation", "previous_response_id", "include", "input"):
        assert name not in chat(store=True, metadata={"a": "b"}, truncation="auto", include=[])


def test_a_schema_is_the_chats_response_format() -> None:
    shape = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
    assert chat(text={"format": shape})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(text={"format": {"type": "text"}})


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_function_is_the_chats_tool_and_the_response_repeats_it(strict: bool | None) -> None:
    given_ = {**FIND, "strict": strict}
    one = asked(tools=[given_], tool_choice={"type": "function", "name": "find"}, parallel_tool_calls=False)
    function = {"name": "find", "description": "Finds.", "parameters": SCHEMA}
    function |= {} if strict is None else {"strict": strict}
    assert one.chat["tools"] == [{"type": "function", "function": function}]
    assert one.chat["tool_choice"] == {"type": "function", "function": {"name": "find"}}
    assert one.chat["parallel_tool_calls"] is False
    (repeated,) = one.repeated["tools"]
    assert repeated == {**repeated, **given_, "strict": bool(strict)}
    nested = asked(tools=[{"type": "function", "function": function}])
    assert nested.chat["tools"] == one.chat["tools"]


def test_allowed_tools_leave_the_others_out() -> None:
    other = {**FIND, "name": "other"}
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "other"}]}
    one = asked(tools=[FIND, other], tool_choice=choice)
    assert [tool["function"]["name"] for tool in one.chat["tools"]] == ["other"]
    assert one.chat["tool_choice"] == "required"
    assert one.repeated["tool_choice"] == choice


def test_unknown_fields_are_named_and_dangerous_ones_refused() -> None:
    _, ignored = read({"model": "m", "input": "x", "moderation": {}, "n": 1, "nonsense": 1})
    assert ignored == ["moderation", "n", "nonsense"]
    with pytest.raises(RequestInvalid, match="not allowed"):
        read({"model": "m", "input": "x", "chat_template": "{{ x }}"})


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": None}, "model", "model is missing"),
        ({"input": 5}, "input", "must be a list"),
        ({"input": [5]}, "input[0]", "must be an object"),
        ({"background": True}, "background", "stream the answer"),
        ({"prompt": {"id": "p"}}, "prompt", "as instructions or input"),
        ({"previous_response_id": "r", "conversation": "c"}, "previous_response_id", "exclude each other"),
        ({"conversation": {}}, "conversation", "must be an id"),
        ({"conversation": 5}, "conversation", "must be an id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "use function or file_search"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "function's name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters", "wrong type"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids", "must name a vector store"),
        ({"tools": "x"}, "tools", "must be a list"),
        ({"tool_choice": "always"}, "tool_choice", "must be auto"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice.name", "no function of tools"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format", "a name and a schema"),
        ({"text": "x"}, "text.format", "must be an object"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "one of"),
        ({"max_output_tokens": 0}, "max_output_tokens", "whole number from 1"),
        ({"max_output_tokens": True}, "max_output_tokens", "whole number from 1"),
        ({"top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"temperature": 3}, "temperature", "from 0 to 2"),
        ({"temperature": "hot"}, "temperature", "from 0 to 2"),
        ({"truncation": "some"}, "truncation", "auto or disabled"),
        ({"metadata": {"a": 1}}, "metadata", "must be a text"),
        ({"include": "x"}, "include", "list of names"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"store": 1}, "store", "true or false"),
        ({"instructions": ["x"]}, "instructions", "must be a text"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_remedy(fields: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises((RequestInvalid, NotSupportedYet), match=says) as caught:
        asked(**fields)
    assert caught.value.param == param


NAMES = st.sampled_from(
    ["input", "tools", "tool_choice", "text", "reasoning", "include", "conversation", "metadata", "stream", "top_p"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["function", "file_search", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "name", "format", "role", "content", "effort", "id", "mode", "tools"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, JSON))
def test_any_body_is_read_or_refused(fields: dict[str, Any]) -> None:
    try:
        one = asked(**fields)
    except (RequestInvalid, NotSupportedYet):
        return
    assert Plan(one, [], 8000).most_bytes > 0


def items(*raw: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return asked(input=list(raw)).input


def test_calls_go_with_what_was_said_before_them() -> None:
    said = messages(
        None,
        items(
            {"role": "user", "content": "Find it."},
            {"type": "reasoning", "summary": []},
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": "[]"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
        ),
    )
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "tool"]
    assert said[1]["content"] == "I look."
    assert [call["id"] for call in said[1]["tool_calls"]] == ["a", "b"]
    assert said[2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]


def test_a_call_without_words_has_no_content() -> None:
    (said,) = messages(None, items({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}))
    assert (said["role"], said["content"], len(said["tool_calls"])) == ("assistant", None, 1)


def test_what_the_system_says_first_is_one_message_and_developers_speak_as_the_system() -> None:
    talk = [
        {"role": "developer", "content": "In French."},
        {"role": "user", "content": "Hi."},
        {"role": "developer", "content": "Now in Dutch."},
    ]
    said = messages("Be brief.", items(*talk))
    assert said == [
        {"role": "system", "content": "Be brief.\n\nIn French."},
        {"role": "user", "content": "Hi."},
        {"role": "system", "content": "Now in Dutch."},
    ]


def test_an_image_goes_on_as_a_chat_has_it() -> None:
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "data:x", "detail": "low"},
    ]
    (said,) = messages(None, items({"role": "user", "content": parts}))
    assert said["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
    ]


def test_the_question_is_what_a_user_said_last() -> None:
    talk = items(
        {"role": "user", "content": "One?"}, {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2"}
    )
    found = question_of(talk)
    assert found is not None
    assert found["content"][0]["text"] == "Two?"
    assert question_of(talk[2:]) is None


def test_of_a_conversation_that_is_sent_whole_the_oldest_turns_are_left_out_and_the_system_stays() -> None:
    talk = [{"role": role, "content": f"{at} " + "word " * 50} for at in range(20) for role in ("user", "assistant")]
    whole = [{"role": "developer", "content": "Be brief."}, *talk, {"role": "user", "content": "And now?"}]
    plan = Plan(asked(input=whole, truncation="auto"), [], 8000)
    assert len(plan.body()["messages"]) == 42
    while plan.shrink():
        said = plan.body()["messages"]
        assert said[0] == {"role": "system", "content": "Be brief."}
        assert said[-1] == {"role": "user", "content": "And now?"}
    assert len(said) == 2
    assert not Plan(asked(input=whole), [], 8000).shrink()


def test_schemas_that_are_nested_too_deep_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"items": deep}
    with pytest.raises(RequestInvalid, match="nested too deep"):
        asked(tools=[{**FIND, "parameters": deep}])


def test_the_oldest_turns_are_left_out_only_where_the_request_allows_it() -> None:
    talk = [{"role": role, "content": f"{at} " + "word " * 50} for at in range(20) for role in ("user", "assistant")]
    earlier = list(asked(input=talk).input)
    kept = Plan(asked(), earlier, 8000)
    assert not kept.shrink()
    cut = Plan(asked(truncation="auto"), earlier, 8000)
    sizes = [cut.most_bytes]
    while cut.shrink():
        sizes.append(cut.most_bytes)
    assert sizes == sorted(set(sizes), reverse=True)
    assert 3 < len(sizes) < 12
    assert cut.body()["messages"] == [{"role": "user", "content": "Hello."}]
