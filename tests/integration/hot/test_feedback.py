"""Feedback on real answers: the id that a client was told leads to the ledger's line."""

import time

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, body, new_key
from tests.support.gateway import Gateway


def rated(client: httpx.Client, request_id: str, **fields: str) -> httpx.Response:
    """Rate an answer, asking again while its line is on its way to SQL."""
    limit = time.monotonic() + 20
    while True:
        answer = client.post("/v1/feedback", json={"request_id": request_id, "rating": "up", **fields})
        if answer.status_code != 404 or time.monotonic() > limit:
            return answer
        time.sleep(0.1)


@pytest.mark.parametrize("own", [None, "mine:1", "mine-" + "x" * 123])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_rated_by_the_id_that_came_with_it(client: httpx.Client, own: str | None, stream: bool) -> None:
    headers = {} if own is None else {"x-request-id": own + ("s" if stream else "")[: 128 - len(own)]}
    answer = client.post("/v1/chat/completions", json=body(stream=stream), headers=headers)
    assert answer.status_code == 200
    word = rated(client, answer.headers["x-request-id"]).json()
    assert (word["request_id"], word["model"]) == (answer.headers["x-request-id"][:103], "mock")  # as the ledger has it


def test_what_is_said_stands_in_no_log_and_no_metric(gate: Gateway, client: httpx.Client) -> None:
    key = new_key(client)
    headers = {"authorization": f"Bearer {key['key']}"}
    answer = client.post("/v1/chat/completions", json=body(), headers=headers)
    await_lines(gate, 1, key_id=key["id"])
    given = {"request_id": answer.headers["x-request-id"], "rating": "down", "comment": "Quagga-4471 was missed"}
    assert client.post("/v1/feedback", json=given, headers=headers).status_code == 200
    too_long = client.post("/v1/feedback", json=given | {"comment": "Quagga-4471" * 200}, headers=headers)
    assert too_long.status_code == 400
    limit = time.monotonic() + 20
    while 'stoker_feedback_total{rating="down"} 1.0' not in (told := client.get("/metrics").text):
        assert time.monotonic() < limit, told
        time.sleep(0.1)
    assert "Quagga" not in gate.log + told
    assert given["request_id"] not in told
