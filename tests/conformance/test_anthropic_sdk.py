"""The official `anthropic` and `@anthropic-ai/sdk` packages, given only the address and the key."""

from collections.abc import Callable

import httpx
import pytest

from tests.conformance.conftest import Order
from tests.conformance.test_openai_sdk import await_cancelled
from tests.support.openai_server import Fault, OpenAiServer
from tests.support.sdk import Sdk

pytestmark = pytest.mark.heavy


def test_it_lists_the_models(anthropic: Sdk, whoever: Order, figure: Callable[[str], None]) -> None:
    figure(f"{anthropic.name} {anthropic.ask('version')['version']}")
    assert anthropic.ask("models", **whoever)["models"] == ["away", "house/words", "vectors", "words"]


def test_it_chats_whole_streamed_and_by_its_stream_helper_to_the_same_end(anthropic: Sdk, whoever: Order) -> None:
    whole = anthropic.ask("whole", **whoever)
    streamed = anthropic.ask("stream", **whoever)
    helped = anthropic.ask("helper", **whoever)
    assert whole["final"] == streamed["text"] == helped["text"] == helped["final"] == whoever["text"]
    assert whole["usage"] == helped["usage"] == [5, 5]
    assert whole["reason"] == helped["reason"] == "end_turn"
    assert whole["request_id"].startswith("req_")
    assert helped["request_id"].startswith("req_")
    deltas = ["content_block_delta"] * 5
    assert streamed["kinds"] == [
        "message_start", "content_block_start", *deltas, "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip


def test_what_it_asks_of_the_form_of_the_answer_reaches_the_engine(
    anthropic: Sdk, whoever: Order, faulty: OpenAiServer
) -> None:
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}}
    anthropic.ask("whole", **whoever, fields={"output_config": wanted})
    assert faulty.bodies[-1]["output_config"] == wanted


def test_leaving_streams_cancels_the_upstream_and_the_client_goes_on(
    anthropic: Sdk, whoever: Order, faulty: OpenAiServer
) -> None:
    faulty.pause_s, faulty.cancelled = 0.1, 0
    assert anthropic.ask("leave", **whoever, times=5)["final"] == "still here"
    await_cancelled(faulty, 5)


@pytest.mark.parametrize(
    ("change", "kind", "status", "type_", "code"),
    [
        ({"key": "sk-stoker-wrong"}, "AuthenticationError", 401, "authentication_error", "invalid_api_key"),
        ({"model": "nope"}, "NotFoundError", 404, "not_found_error", "model_not_found"),
        ({"messages": []}, "BadRequestError", 400, "invalid_request_error", "invalid_request"),
        ({"fields": {"max_tokens": 0}}, "BadRequestError", 400, "invalid_request_error", "invalid_request"),
        ({"text": "word " * 6000}, "BadRequestError", 400, "invalid_request_error", "context_length_exceeded"),
        ({"text": "word " * 50_000}, "ContentTooLargeError", 413, "request_too_large", "body_too_large"),
        ({"model": "away"}, "ServiceUnavailableError", 503, "overloaded_error", "no_deployment"),
    ],
    ids=["key", "model", "messages", "max_tokens", "window", "body", "away"],
)
@pytest.mark.parametrize("do", ["whole", "stream", "helper"])
def test_each_error_class_is_raised_where_it_should_be(
    anthropic: Sdk, whoever: Order, do: str, change: Order, kind: str, status: int, type_: str, code: str
) -> None:
    error = anthropic.ask(do, **{**whoever, **change})["error"]
    assert (error["class"], error["status"], error["type"], error["code"]) == (kind, status, type_, code)
    assert error["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("fields", "code"), [({"role": "ingest"}, "role_not_allowed"), ({"scopes": ["models"]}, "scope_not_allowed")]
)
def test_a_key_that_may_not_chat_is_denied(
    anthropic: Sdk, whoever: Order, new_key: Callable[..., str], fields: Order, code: str
) -> None:
    error = anthropic.ask("whole", **{**whoever, "key": new_key(**fields)})["error"]
    assert (error["class"], error["type"], error["code"]) == ("PermissionDeniedError", "permission_error", code)


@pytest.mark.parametrize(
    ("fault", "kind", "status", "type_", "retry_after"),
    [
        (Fault.ERROR_500, "InternalServerError", 502, "api_error", None),
        (Fault.GARBAGE, "InternalServerError", 502, "api_error", None),
        (Fault.BUSY_503, "ServiceUnavailableError", 503, "overloaded_error", "7"),
        (Fault.BUSY_529, "ServiceUnavailableError", 503, "overloaded_error", "1"),
        (Fault.LIMIT_429, "RateLimitError", 429, "rate_limit_error", "9"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
@pytest.mark.parametrize("do", ["whole", "stream"])
def test_an_upstream_that_fails_is_told_by_class_and_retry_after(
    anthropic: Sdk,
    whoever: Order,
    faulty: OpenAiServer,
    do: str,
    fault: Fault,
    kind: str,
    status: int,
    type_: str,
    retry_after: str | None,
) -> None:
    faulty.fault = fault
    error = anthropic.ask(do, **whoever)["error"]
    seen = (error["class"], error["status"], error["type"], error["retry_after"])
    assert seen == (kind, status, type_, retry_after)


@pytest.mark.parametrize("fault", [Fault.CUT_MID_STREAM, Fault.STOP_MID_STREAM], ids=lambda fault: fault.name)
@pytest.mark.parametrize("do", ["stream", "helper"])
def test_a_stream_that_breaks_raises_and_is_no_short_answer(
    anthropic: Sdk, whoever: Order, faulty: OpenAiServer, do: str, fault: Fault
) -> None:
    faulty.fault = fault
    seen = anthropic.ask(do, **whoever)
    kind = "APIStatusError" if anthropic.is_python else "APIError"
    error = seen["error"]
    assert (error["class"], error["type"], error["code"]) == (kind, "api_error", "stream_broken")
    assert seen["text"] == "one two"


def test_a_client_that_waits_no_longer_raises_and_cancels_the_upstream(
    anthropic: Sdk, whoever: Order, faulty: OpenAiServer
) -> None:
    faulty.fault, faulty.cancelled = Fault.HANG, 0
    error = anthropic.ask("whole", **whoever, timeout_s=0.5)["error"]
    assert error["class"] == ("APITimeoutError" if anthropic.is_python else "APIConnectionTimeoutError")
    await_cancelled(faulty, 1)


def test_a_gateway_that_is_not_there_is_a_connection_error(anthropic: Sdk, whoever: Order) -> None:
    error = anthropic.ask("whole", **{**whoever, "url": "http://127.0.0.1:9"})["error"]
    assert error["class"] == "APIConnectionError"


def test_a_key_may_come_as_older_sdks_send_it(whoever: Order) -> None:
    """Those of today send `Authorization: Bearer`."""
    body = {"model": "words", "max_tokens": 8, "messages": [{"role": "user", "content": "one"}]}
    for version in ("2023-01-01", "2023-06-01"):
        headers = {"x-api-key": whoever["key"], "anthropic-version": version}
        assert httpx.post(f"{whoever['url']}/v1/messages", json=body, headers=headers).status_code == 200


def test_an_error_body_has_anthropics_shape_and_nothing_else(whoever: Order) -> None:
    headers = {"x-api-key": whoever["key"], "anthropic-version": "2023-06-01"}
    answer = httpx.post(f"{whoever['url']}/v1/messages", json={"model": "nope"}, headers=headers)
    body = answer.json()
    assert set(body) == {"type", "error", "request_id"}
    assert set(body["error"]) == {"type", "message", "details"}
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
