"""Requests that carry an `Idempotency-Key`, through a gateway of two workers."""

import asyncio
import base64
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from tests.integration.hot.conftest import body, new_key
from tests.support.gateway import Gateway, Upstream

CHAT = "/v1/chat/completions"
KEYS = "/v1/admin/keys"
TALKS = "/v1/conversations"


def post(client: httpx.Client, path: str, asked: Any, key: str, **fields: Any) -> httpx.Response:
    headers = {"idempotency-key": key, **fields.pop("headers", {})}
    return client.post(path, json=asked, headers=headers, **fields)


def test_what_was_made_is_not_made_again(client: httpx.Client) -> None:
    asked = {"metadata": {"name": "made once"}}
    first, second = (post(client, TALKS, asked, "make-1") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert post(client, TALKS, asked, "make-2").json()["id"] != first.json()["id"]
    assert client.post(TALKS, json=asked).json()["id"] != first.json()["id"]


def test_what_goes_to_another_tenant_is_done_there(client: httpx.Client) -> None:
    made = client.post("/v1/admin/tenants", json={"name": "idempotent"}).json()["id"]
    asked = {"name": "for whom"}
    first = post(client, KEYS, asked, "tenant-1")
    other = post(client, KEYS, asked, "tenant-1", params={"tenant": made})
    assert "idempotency-replayed" not in other.headers
    assert (first.status_code, other.status_code) == (201, 201)


def test_another_body_is_refused_and_changes_nothing(client: httpx.Client) -> None:
    first = post(client, TALKS, {"metadata": {"name": "mine"}}, "body-1")
    other = post(client, TALKS, {"metadata": {"name": "another"}}, "body-1")
    assert (other.status_code, other.json().get("error", {}).get("code")) == (422, "idempotency_key_reused")
    assert post(client, TALKS, {"metadata": {"name": "mine"}}, "body-1").json() == first.json()
    assert post(client, TALKS, {}, "k" * 256).status_code == 400


def test_a_secret_is_told_once_and_kept_nowhere(gate: Gateway, client: httpx.Client) -> None:
    first = post(client, KEYS, {"name": "a secret"}, "secret-1")
    again = post(client, KEYS, {"name": "a secret"}, "secret-1")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotent_answer_secret")
    made = [key["id"] for key in client.get(KEYS, params={"limit": 100}).json()["data"] if key["name"] == "a secret"]
    assert made == [first.json()["id"]]
    rotated = post(client, f"{KEYS}/{made[0]}/rotate", {}, "secret-2")
    assert post(client, f"{KEYS}/{made[0]}/rotate", {}, "secret-2").status_code == 409
    told = [first.json()["key"].encode(), rotated.json()["key"].encode()]
    with redis.Redis.from_url(gate.redis_url) as valkey:
        entries = [value for name in valkey.scan_iter("*") if (value := _text_of(valkey, name))]
    assert entries
    answers = b"".join(map(_unpacked, entries))
    assert b"idempotent_answer_secret" in answers
    assert not any(secret in answers or secret in b"".join(entries) for secret in told)


def test_what_reads_no_body_is_done_once_too(client: httpx.Client) -> None:
    first, second = (post(client, "/v1/admin/deployments/reload", None, "reload-1") for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200), first.text
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert post(client, "/v1/admin/deployments/reload", {"a": 1}, "reload-1").status_code == 422


def _text_of(valkey: "redis.Redis", name: bytes) -> bytes:
    """What stands under a name, whatever its kind; the parts of a hash one behind the other."""
    kind = valkey.type(name)
    if kind == b"string":
        return bytes(valkey.get(name) or b"")
    return b"".join(valkey.hgetall(name).values()) if kind == b"hash" else b""


def _unpacked(entry: bytes) -> bytes:
    """The body of an answer that is kept in it; empty: there is none."""
    try:
        kept, _ = json.JSONDecoder().raw_decode(entry[entry.index(b'{"') :].decode())
        return base64.b85decode(kept["body"])
    except (ValueError, KeyError):
        return b""


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
        answers = await asyncio.gather(*(many.post(TALKS, json={"metadata": {"name": "crowded"}}) for _ in range(200)))
    kinds = Counter((answer.status_code, answer.headers.get("idempotency-replayed", "done")) for answer in answers)
    figure(f"200 at once: {json.dumps({f'{status} {kind}': number for (status, kind), number in kinds.items()})}")
    assert kinds == {(200, "done"): 1, (200, "true"): 199}
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
