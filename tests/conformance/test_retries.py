"""What the SDKs do by themselves: they wait as long as they are told, and not where waiting is of no use."""

from collections.abc import Callable

import httpx
import pytest

from tests.conformance.conftest import REQUEST_DEADLINE_S, Order
from tests.support.openai_server import Fault, OpenAiServer
from tests.support.sdk import Sdk

pytestmark = pytest.mark.heavy


def together(sdks: list[Sdk], do: str, orders: list[Order], limit_s: float = 60) -> dict[str, Order]:
    """Give each its order, then wait for all. Returns: what came of it, by name."""
    for one, order in zip(sdks, orders, strict=True):
        one.start(do, **order)
    return {one.name: one.result(limit_s) for one in sdks}


def test_a_key_above_its_rate_waits_as_long_as_retry_after_says_and_then_succeeds(
    everyone: list[Sdk], whoever: Order, new_key: Callable[..., str], faulty: OpenAiServer
) -> None:
    """By themselves they would ask again after half a second, and give up."""
    for one in everyone:
        order = {**whoever, "key": new_key(limits={"rpm": 20, "burst": 1})}
        for retries in (0, 0, 1):  # all at once: a script that is still starting must not use up the wait
            one.start("whole", **order, retries=retries)
    for one in everyone:
        first, refused, waited = (one.result() for _ in range(3))
        assert "error" not in first, (one.name, first)
        error = refused["error"]
        assert (error["class"], error["status"], error["retry_after"]) == ("RateLimitError", 429, "3"), one.name
        assert "error" not in waited, (one.name, waited)
        assert waited["seconds"] > 1, one.name
    assert faulty.requests == 2 * len(everyone)


def test_an_upstream_that_is_busy_is_asked_again_after_retry_after(
    everyone: list[Sdk], whoever: Order, faulty: OpenAiServer
) -> None:
    seen = together(everyone, "whole", [{**whoever, "model": "away", "retries": 1} for _ in everyone])
    for name, one in seen.items():
        assert one["error"]["status"] == 503, name
        assert one["seconds"] > 0.95, f"{name} did not wait for the second that it was told"


def test_a_budget_that_is_used_up_is_told_at_once_and_not_asked_again_tomorrow(
    everyone: list[Sdk], whoever: Order, new_key: Callable[..., str], faulty: OpenAiServer
) -> None:
    """Anthropic's SDKs would sleep until the day ends."""
    text = "word " * 60  # about 440 are reserved and 120 used; a token costs a millionth
    orders = [
        {**whoever, "key": new_key(limits={"usd_per_day": "0.0005"}), "text": text, "fields": {"max_tokens": 64}}
        for _ in everyone
    ]
    for name, first in together(everyone, "whole", orders).items():
        assert "error" not in first, (name, first)
    for name, second in together(everyone, "whole", [{**order, "retries": 2} for order in orders], 30).items():
        assert (second["error"]["class"], second["error"]["code"]) == ("RateLimitError", "insufficient_quota"), name
        assert second["seconds"] < 5, name
    assert faulty.requests == len(everyone)


def test_what_waiting_cannot_mend_says_so(whoever: Order, admin: httpx.Client, new_key: Callable[..., str]) -> None:
    body = {"model": "words", "messages": [{"role": "user", "content": "one two"}]}
    too_small = httpx.post(
        f"{whoever['url']}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {new_key(limits={'tpm': 10})}"},
    )
    assert (too_small.status_code, too_small.headers["x-should-retry"]) == (429, "false")
    assert admin.post("/v1/admin/tenants", json={"name": "twice"}).status_code == 201
    twice = admin.post("/v1/admin/tenants", json={"name": "twice"})
    assert (twice.status_code, twice.headers["x-should-retry"]) == (409, "false")
    busy = admin.post("/v1/chat/completions", json={**body, "model": "away"})
    assert busy.status_code == 503
    assert "x-should-retry" not in busy.headers


def test_an_answer_that_the_gateway_itself_ends_raises_too(
    everyone: list[Sdk], whoever: Order, faulty: OpenAiServer
) -> None:
    """The request's deadline passes in mid-stream: the connection is closed, which no SDK takes for an end."""
    faulty.pause_s = REQUEST_DEADLINE_S / 2.5
    kinds = {
        "openai-python": "APIConnectionError",
        "openai-node": "foreign TypeError",
        "anthropic-python": "foreign RemoteProtocolError",
        "anthropic-node": "foreign TypeError",
    }
    for name, seen in together(everyone, "stream", [whoever for _ in everyone]).items():
        assert (seen["text"], seen["error"]["class"]) == ("one two", kinds[name]), name


def test_a_stream_that_falls_silent_ends_in_an_error_that_says_so(
    everyone: list[Sdk], whoever: Order, faulty: OpenAiServer
) -> None:
    faulty.fault = Fault.HANG_MID_STREAM
    for name, seen in together(everyone, "stream", [whoever for _ in everyone]).items():
        assert (seen["text"], seen["error"]["code"]) == ("one two", "stream_broken"), name
        assert "fell silent" in seen["error"]["message"]
