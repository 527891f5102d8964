"""Requests that carry an `Idempotency-Key`, through a gateway of two workers."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import body, new_key
from tests.support.gateway import Gateway, Upstream

CHAT = "/v1/chat/completions"
KEYS = "/v1/admin/keys"


def post(client: httpx.Client, path: str, asked: Any, key: str, **fields: Any) -> httpx.Response:
    headers = {"idempotency-key": key, **fields.pop("headers", {})}
    return client.post(path, json=asked, headers=headers, **fields)


def test_what_was_made_is_not_made_again(client: httpx.Client) -> None:
    asked = {"name": "made once"}
    first, second = (post(client, KEYS, asked, "make-1") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert post(client, KEYS, asked, "make-2").json()["id"] != first.json()["id"]
    assert client.post(KEYS, json=asked).json()["id"] != first.json()["id"]


def test_what_goes_to_another_tenant_is_done_there(client: httpx.Client) -> None:
    made = client.post("/v1/admin/tenants", json={"name": "idempotent"}).json()["id"]
    asked = {"name": "for whom"}
    first = post(client, KEYS, asked, "tenant-1")
    other = post(client, KEYS, asked, "tenant-1", params={"tenant": made})
    assert "idempotency-replayed" not in other.headers
    assert (first.status_code, other.status_code) == (201, 201)


def test_another_body_is_refused_and_changes_nothing(client: httpx.Client) -> None:
    first = post(client, KEYS, {"name": "mine"}, "body-1")
    other = post(client, KEYS, {"name": "another"}, "body-1")
    assert (other.status_code, other.json().get("error", {}).get("code")) == (422, "idempotency_key_reused")
    assert post(client, KEYS, {"name": "mine"}, "body-1").json() == first.json()
    assert post(client, KEYS, {"name": "x"}, "k" * 256).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_models_answer_is_paid_once_and_told_again_byte_for_byte(
    client: httpx.Client, upstream: Upstream, stream: bool
) -> None:
    before, asked = len(upstream.log), body(stream=stream, max_tokens=9)
    first, second = (post(client, CHAT, asked, f"chat-{stream}") for _ in range(2))
    assert len(upstream.log) == before + 1
    assert second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]


def test_a_refusal_of_what_was_asked_is_told_again_and_one_that_passes_is_not(
    gate: Gateway, client: httpx.Client
) -> None:
    wrong = body(max_tokens=0)
    assert [post(client, CHAT, wrong, "wrong").headers.get("idempotency-replayed") for _ in range(2)] == [None, "true"]
    limited = new_key(client, limits={"rpm": 1, "tpm": None, "parallel": None})["key"]
    with httpx.Client(base_url=gate.url, headers={"x-api-key": limited}, timeout=30) as caller:
        told = [post(caller, CHAT, body(), f"limit-{at}") for at in (0, 1, 1)]
        assert [one.status_code for one in told] == [200, 429, 429]
        assert "idempotency-replayed" not in told[2].headers
        assert post(caller, CHAT, body(), "limit-0").headers["idempotency-replayed"] == "true"


def test_each_caller_has_keys_of_its_own_and_a_revoked_one_is_told_nothing(gate: Gateway, client: httpx.Client) -> None:
    made = [new_key(client) for _ in range(2)]
    answers = [
        post(client, CHAT, body(), "shared", headers={"authorization": f"Bearer {one['key']}"}).headers for one in made
    ]
    assert ["idempotency-replayed" in headers for headers in answers] == [False, False]
    client.delete(f"{KEYS}/{made[0]['id']}").raise_for_status()
    limit_s = time.monotonic() + 10
    while True:
        gone = post(client, CHAT, body(), "shared", headers={"authorization": f"Bearer {made[0]['key']}"})
        if gone.status_code == 401:
            break
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    assert "idempotency-replayed" not in gone.headers


async def test_of_two_hundred_at_once_one_is_done(
    gate: Gateway, client: httpx.Client, figure: Callable[[str], None]
) -> None:
    headers = {"x-api-key": gate.key, "idempotency-key": "crowd"}
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=gate.url, headers=headers, timeout=60, limits=limits) as many:
        answers = await asyncio.gather(*(many.post(KEYS, json={"name": "crowded"}) for _ in range(200)))
    kinds = Counter((answer.status_code, answer.headers.get("idempotency-replayed", "done")) for answer in answers)
    figure(f"200 at once: {json.dumps({f'{status} {kind}': number for (status, kind), number in kinds.items()})}")
    assert kinds == {(201, "done"): 1, (201, "true"): 199}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_client_that_leaves_in_the_middle_may_send_it_again(
    gate: Gateway, client: httpx.Client, upstream: Upstream
) -> None:
    asked, headers = body(stream=True, max_tokens=200, seed=20), {"x-api-key": gate.key, "idempotency-key": "left"}
    async with (
        httpx.AsyncClient(base_url=gate.url, headers=headers, timeout=30) as leaving,
        leaving.stream("POST", CHAT, json=asked) as answer,
    ):
        await anext(answer.aiter_bytes())
    again = post(client, CHAT, {**asked, "seed": 0, "max_tokens": 2}, "left", headers={"x-api-key": gate.key})
    assert again.status_code == 200
    assert "idempotency-replayed" not in again.headers


def test_a_body_that_does_not_come_holds_nobody(gate: Gateway, client: httpx.Client) -> None:
    post(client, CHAT, body(), "slow")
    began_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as raw:
        head = [f"POST {CHAT} HTTP/1.1", "host: gate", f"x-api-key: {gate.key}", "idempotency-key: slow"]
        raw.sendall("\r\n".join([*head, "content-length: 50", "", "{"]).encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began_s < 15
