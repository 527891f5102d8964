"""Every error has a form that Anthropic's SDKs know."""

import pytest

from api.anthropic import envelope, error_type
from api.errors import TABLE, describe
from router.errors import ModelNotFound

# https://platform.claude.com/docs/en/api/errors, and `ErrorType` of the package `anthropic`.
WORDS = {
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
}


def test_every_status_that_we_send_has_one_of_anthropics_words() -> None:
    assert {error_type(meaning.status) for meaning in TABLE.values()} <= WORDS


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_a_status_has_its_word(status: int, word: str) -> None:
    assert error_type(status) == word


def test_the_envelope_holds_message_code_and_request_id() -> None:
    status, body, _ = describe(ModelNotFound("x", ["y"]))
    assert envelope(status, body["error"], "req_1") == {
        "type": "error",
        "error": {
            "type": "not_found_error",
            "message": "The model 'x' does not exist. Known models: y.",
            "details": {"error_code": "model_not_found"},
        },
        "request_id": "req_1",
    }
