"""Rate headers have the forms that OpenAI's clients and the IETF's draft expect."""

import pytest

from api.admission.headers import RATE_HEADERS, duration, rate_headers
from api.admission.reservation import Rate
from api.hot.door import EXPOSED_HEADERS


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.006, "6ms"),
        (0.0001, "1ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (3_600, "1h0m0s"),
        (3_690.5, "1h1m30.5s"),
        (90_000, "25h0m0s"),
    ],
)
def test_durations_have_openais_forms(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_requests_and_tokens_stand_in_both_kinds_of_headers() -> None:
    rate = Rate(60, 59, 1.0, 60, 100_000, 99_000, 0.6, 60)
    assert rate_headers(rate) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "100000",
        "x-ratelimit-remaining-tokens": "99000",
        "x-ratelimit-reset-tokens": "600ms",
        "ratelimit-policy": '"requests";q=60;w=60;qu="requests", "tokens";q=100000;w=60;qu="tokens"',
        "ratelimit": '"requests";r=59;t=1, "tokens";r=99000;t=1',
    }


def test_a_dimension_without_a_limit_has_no_headers() -> None:
    headers = rate_headers(Rate(limit_tokens=10, remaining_tokens=10, reset_tokens_s=0, window_tokens_s=60))
    assert not [name for name in headers if "requests" in name]
    assert headers["ratelimit"] == '"tokens";r=10;t=0'


def test_without_limits_there_are_no_headers() -> None:
    assert rate_headers(None) == {}


def test_browsers_are_told_of_every_rate_header() -> None:
    assert (
        set(rate_headers(Rate(60, 59, 1.0, 60, 100_000, 99_000, 0.6, 60))) == set(RATE_HEADERS) <= set(EXPOSED_HEADERS)
    )


def test_browsers_are_told_of_whatever_else_a_gateway_says_in_headers() -> None:
    """Regression: a page could not see that its request had been answered by an earlier one's answer."""
    assert {"idempotency-replayed", "x-cache", "x-request-id", "retry-after"} <= set(EXPOSED_HEADERS)
