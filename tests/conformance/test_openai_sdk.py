"""The official `openai` packages for Python and Node, given only the address and the key."""

import time
from collections.abc import Callable

import pytest

from tests.conformance.conftest import Order
from tests.support.openai_server import Fault, OpenAiServer
from tests.support.sdk import Sdk


def test_it_lists_the_models_and_finds_one_whose_name_has_a_slash(
    openai: Sdk, whoever: Order, figure: Callable[[str], None]
) -> None:
    figure(f"{openai.name} {openai.ask('version')['version']}")
    assert openai.ask("models", **whoever)["models"] == ["away", "house/words", "vectors", "words"]
    assert openai.ask("model", **{**whoever, "model": "house/words"})["model"] == "house/words"


def test_it_chats_whole_streamed_and_by_its_stream_helper_to_the_same_end(openai: Sdk, whoever: Order) -> None:
    usage = {"fields": {"stream_options": {"include_usage": True}}}
    whole = openai.ask("whole", **whoever)
    streamed = openai.ask("stream", **whoever, **usage)
    helped = openai.ask("helper", **whoever, **usage)
    assert whole["text"] == streamed["text"] == helped["text"] == helped["final"] == whoever["text"]
    assert whole["usage"] == streamed["usage"] == helped["usage"] == [5, 5]


def test_usage_is_streamed_only_to_those_who_ask(openai: Sdk, whoever: Order) -> None:
    seen = openai.ask("stream", **whoever)
    assert (seen["usage"], seen["without_choice"]) == (None, 0)


def test_it_completes_in_the_old_form(openai: Sdk, whoever: Order) -> None:
    assert openai.ask("completion", **whoever, fields={"max_tokens": 2})["text"] == "one two"


def test_it_embeds_over_the_base64_that_it_asks_for_unasked(openai: Sdk, whoever: Order, faulty: OpenAiServer) -> None:
    order = {**whoever, "model": "vectors", "texts": ["a cat", "a lorry"]}
    cat, lorry = openai.ask("embed", **order)["vectors"]
    assert faulty.bodies[-1]["encoding_format"] == "base64"
    assert len(cat) == len(lorry) == 32
    assert sum(value * value for value in cat) == pytest.approx(1, abs=1e-6)
    assert cat != lorry


def test_it_knows_the_request_id_of_an_answer(openai: Sdk, whoever: Order) -> None:
    assert openai.ask("whole", **whoever)["request_id"].startswith("req_")
    assert openai.ask("raw", **whoever)["headers"]["x-request-id"].startswith("req_")


def test_leaving_streams_cancels_the_upstream_and_the_client_goes_on(
    openai: Sdk, whoever: Order, faulty: OpenAiServer
) -> None:
    faulty.pause_s, faulty.cancelled = 0.1, 0
    assert openai.ask("leave", **whoever, times=5)["text"] == "still here"
    await_cancelled(faulty, 5)


def await_cancelled(server: OpenAiServer, count: int) -> None:
    limit = time.monotonic() + 3  # less than the request's deadline, which cancels too
    while server.cancelled < count and time.monotonic() < limit:
        time.sleep(0.01)
    assert server.cancelled == count


@pytest.mark.parametrize(
    ("change", "kind", "status", "code", "param"),
    [
        ({"key": "sk-stoker-wrong"}, "AuthenticationError", 401, "invalid_api_key", None),
        ({"model": "nope"}, "NotFoundError", 404, "model_not_found", "model"),
        ({"messages": []}, "BadRequestError", 400, "invalid_request", "messages"),
        ({"fields": {"n": 9}}, "BadRequestError", 400, "invalid_request", "n"),
        ({"fields": {"max_tokens": 0}}, "BadRequestError", 400, "invalid_request", "max_tokens"),
        ({"text": "word " * 6000}, "BadRequestError", 400, "context_length_exceeded", "input_tokens"),
        ({"model": "away"}, "InternalServerError", 503, "no_deployment", None),
    ],
    ids=["key", "model", "messages", "n", "max_tokens", "window", "away"],
)
@pytest.mark.parametrize("do", ["whole", "stream", "helper"])
def test_each_error_class_is_raised_where_it_should_be(
    openai: Sdk, whoever: Order, do: str, change: Order, kind: str, status: int, code: str, param: str | None
) -> None:
    error = openai.ask(do, **{**whoever, **change})["error"]
    assert (error["class"], error["status"], error["code"], error["param"]) == (kind, status, code, param)
    assert error["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("fields", "code"), [({"role": "ingest"}, "role_not_allowed"), ({"scopes": ["models"]}, "scope_not_allowed")]
)
def test_a_key_that_may_not_chat_is_denied(
    openai: Sdk, whoever: Order, new_key: Callable[..., str], fields: Order, code: str
) -> None:
    error = openai.ask("whole", **{**whoever, "key": new_key(**fields)})["error"]
    assert (error["class"], error["status"], error["code"]) == ("PermissionDeniedError", 403, code)


@pytest.mark.parametrize("words", [50_000, 2_000_000])
def test_a_body_that_is_too_large_is_413_and_no_broken_connection(openai: Sdk, whoever: Order, words: int) -> None:
    error = openai.ask("whole", **{**whoever, "text": "word " * words})["error"]
    kind = "APIStatusError" if openai.is_python else "APIError"
    assert (error["class"], error["status"], error["code"]) == (kind, 413, "body_too_large")


@pytest.mark.parametrize(
    ("fault", "kind", "status", "retry_after"),
    [
        (Fault.ERROR_500, "InternalServerError", 502, None),
        (Fault.GARBAGE, "InternalServerError", 502, None),
        (Fault.BUSY_503, "InternalServerError", 503, "7"),
        (Fault.LIMIT_429, "RateLimitError", 429, "9"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
@pytest.mark.parametrize("do", ["whole", "stream"])
def test_an_upstream_that_fails_is_told_by_class_and_retry_after(
    openai: Sdk, whoever: Order, faulty: OpenAiServer, do: str, fault: Fault, kind: str, status: int, retry_after: str
) -> None:
    faulty.fault = fault
    error = openai.ask(do, **whoever)["error"]
    assert (error["class"], error["status"], error["retry_after"]) == (kind, status, retry_after)


@pytest.mark.parametrize("fault", [Fault.CUT_MID_STREAM, Fault.STOP_MID_STREAM], ids=lambda fault: fault.name)
@pytest.mark.parametrize("do", ["stream", "helper"])
def test_a_stream_that_breaks_raises_and_is_no_short_answer(
    openai: Sdk, whoever: Order, faulty: OpenAiServer, do: str, fault: Fault
) -> None:
    faulty.fault = fault
    seen = openai.ask(do, **whoever)
    assert (seen["error"]["class"], seen["error"]["code"]) == ("APIError", "stream_broken")
    assert seen["text"] == "one two"


def test_a_client_that_waits_no_longer_raises_and_cancels_the_upstream(
    openai: Sdk, whoever: Order, faulty: OpenAiServer
) -> None:
    faulty.fault, faulty.cancelled = Fault.HANG, 0
    error = openai.ask("whole", **whoever, timeout_s=0.5)["error"]
    assert error["class"] == ("APITimeoutError" if openai.is_python else "APIConnectionTimeoutError")
    await_cancelled(faulty, 1)


def test_a_gateway_that_is_not_there_is_a_connection_error(openai: Sdk, whoever: Order) -> None:
    error = openai.ask("whole", **{**whoever, "url": "http://127.0.0.1:9"})["error"]
    assert error["class"] == "APIConnectionError"
