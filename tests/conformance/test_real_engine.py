"""All four SDKs against vLLM and the real embedding server, as `./stoker up` starts them."""

import pytest

from tests.conformance.conftest import Crew, Order
from tests.support.sdk import NAMES, Sdk
from tests.support.stack import Stack

pytestmark = pytest.mark.vllm


@pytest.fixture
def order(stack: Stack) -> Order:
    question = "What is the capital of France?"
    return {"url": stack.url, "key": stack.admin_key, "model": "smollm2-135m", "text": question}


@pytest.fixture(params=NAMES)
def each(request: pytest.FixtureRequest, crew: Crew) -> Sdk:
    return crew(request.param)


def fields(**more: object) -> Order:
    return {"fields": {"temperature": 0, "max_tokens": 16, **more}}


def test_it_lists_the_models(each: Sdk, order: Order) -> None:
    expected = ["all-minilm-l6-v2", "all-minilm-l6-v2-late-interaction", "smollm2-135m"]
    assert each.ask("models", **order)["models"] == expected


def test_it_chats_whole_streamed_and_by_its_stream_helper_to_the_same_end(each: Sdk, order: Order) -> None:
    openai = each.name.startswith("openai")
    # An answer that is cut by `max_tokens` is an error for the helper of OpenAI's SDK for Python.
    ends: Order = {"stop" if openai else "stop_sequences": [",", ".", "\n"]}
    options: Order = {"stream_options": {"include_usage": True}} if openai else {}
    each.ask("whole", **order, **fields(**ends))  # in bfloat16 a prompt that is cached may be answered otherwise
    whole = each.ask("whole", **order, **fields(**ends))
    streamed = each.ask("stream", **order, **fields(**ends, **options))
    helped = each.ask("helper", **order, **fields(**ends, **options))
    assert not {"error"} & {*whole, *streamed, *helped}, (whole, streamed, helped)
    texts = {whole.get("text", whole.get("final")), streamed["text"], helped["text"], helped["final"]}
    assert len(texts) == 1, texts
    assert texts.pop()
    assert whole["usage"] == helped["usage"]
    assert min(whole["usage"]) > 0


def test_leaving_streams_leaves_the_client_usable(each: Sdk, order: Order) -> None:
    seen = each.ask("leave", **order, times=3, **fields(max_tokens=200))
    assert seen.get("text", seen.get("final"))


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"model": "nope"}, "NotFoundError", "model_not_found"),
        ({"messages": []}, "BadRequestError", "invalid_request"),
        ({"text": "word " * 6000, "fields": {"max_tokens": 8}}, "BadRequestError", "context_length_exceeded"),
        ({"fields": {"top_p": 7}}, "BadRequestError", "invalid_request"),
        ({"key": "sk-stoker-wrong"}, "AuthenticationError", "invalid_api_key"),
    ],
    ids=["model", "messages", "window", "top_p", "key"],
)
@pytest.mark.parametrize("do", ["whole", "stream"])
def test_each_error_class_is_raised_where_it_should_be(
    each: Sdk, order: Order, do: str, change: Order, kind: str, code: str
) -> None:
    error = each.ask(do, **{**order, **change})["error"]
    assert (error["class"], error["code"]) == (kind, code)


@pytest.mark.parametrize("name", ["openai-python", "openai-node"])
def test_it_embeds_and_completes(crew: Crew, order: Order, name: str) -> None:
    texts = ["a cat", "a kitten", "a lorry"]
    vectors = crew(name).ask("embed", **{**order, "model": "all-minilm-l6-v2"}, texts=texts)["vectors"]
    assert [len(vector) for vector in vectors] == [384, 384, 384]
    cat, kitten, lorry = vectors
    assert dot(cat, kitten) > dot(cat, lorry)
    completed = crew(name).ask("completion", **{**order, "text": "The capital of France is"}, **fields())
    assert completed["usage"][1] > 0


def dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("name", ["anthropic-python", "anthropic-node"])
def test_a_schema_that_anthropics_sdk_sends_is_kept_by_the_engine(crew: Crew, order: Order, name: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"output_config": {"format": {"type": "json_schema", "schema": schema}}, "temperature": 0}
    said = crew(name).ask("whole", **order, fields={**wanted, "max_tokens": 40})
    assert said["final"].replace(" ", "").replace("\n", "") in ('{"city":"Paris"}', '{"city":"Rome"}'), said
