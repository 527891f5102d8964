"""The hot path over real sockets: answers, refusals, bounds on what clients may do, and what is written down of it."""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, body, events, lines, new_key
from tests.support.gateway import Gateway, Upstream

CHAT = "/v1/chat/completions"


def test_an_answer_passes_and_its_line_says_what_it_took(client: httpx.Client, gate: Gateway) -> None:
    key = new_key(client)
    answer = client.post(CHAT, json=body(), headers={"authorization": f"Bearer {key['key']}", "x-request-id": "mine"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == " word word word"
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-stoker-deployment"] == "mock-1"
    assert int(answer.headers["x-ratelimit-limit-requests"]) == 100
    assert int(answer.headers["x-ratelimit-remaining-requests"]) == 99
    (line,) = await_lines(gate, 1, key_id=key["id"])
    assert line["request_id"].endswith(".mine")
    assert (line["tokens_in"], line["tokens_out"], line["outcome"], line["status"]) == (9, 3, "ok", 200)
    assert line["nano_usd"] == 9 * 150 + 3 * 600
    assert (line["route"], line["model_group"], line["deployment"]) == (CHAT, "mock", "mock-1")
    assert line["latency_ms"] > 0


@pytest.mark.parametrize("sent", ["same", "req_0123456789abcdef01234567"])
def test_a_request_id_that_is_sent_twice_is_billed_twice(client: httpx.Client, gate: Gateway, sent: str) -> None:
    key = new_key(client)
    for _ in range(2):
        client.post(CHAT, json=body(), headers={"x-api-key": key["key"], "authorization": "", "x-request-id": sent})
    await_lines(gate, 2, key_id=key["id"])


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_passes_whole_and_its_line_counts_it(client: httpx.Client, gate: Gateway, usage: bool) -> None:
    key = new_key(client)
    options = {"stream_options": {"include_usage": True}} if usage else {}
    headers = {"authorization": f"Bearer {key['key']}"}
    with client.stream("POST", CHAT, json=body(stream=True, max_tokens=40, **options), headers=headers) as answer:
        found = events(answer.read().decode())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert found[-1] == "[DONE]"
    words = [each["choices"][0]["delta"].get("content") for each in found[:-1] if each["choices"]]
    assert words.count(" word") == 40
    assert sum("usage" in each for each in found[:-1]) == usage
    (line,) = await_lines(gate, 1, key_id=key["id"])
    assert (line["tokens_in"], line["tokens_out"], line["outcome"]) == (9, 40, "ok")
    assert line["ttft_ms"] is not None


def test_a_client_that_leaves_cancels_the_upstream_and_pays_for_what_it_could_have_read(
    client: httpx.Client, gate: Gateway, upstream: Upstream, figure: Callable[[str], None]
) -> None:
    key = new_key(client)
    headers = {"authorization": f"Bearer {key['key']}"}
    wanted = body(stream=True, max_tokens=500, seed=20, user=key["id"])
    with client.stream("POST", CHAT, json=wanted, headers=headers) as answer:
        pieces = answer.iter_bytes()  # kept: httpx closes an answer whose iterator is gone
        next(pieces)
        time.sleep(0.5)
        spent = next(one for one in upstream.log if one.name == key["id"])
        left_s = time.monotonic()
    while not spent.cancelled and time.monotonic() < left_s + 5:
        time.sleep(0.001)
    figure(f"the upstream was cancelled {(time.monotonic() - left_s) * 1000:.0f} ms after its client had left")
    assert spent.cancelled
    assert not spent.ended
    (line,) = await_lines(gate, 1, key_id=key["id"])
    assert line["outcome"] == "client_left"
    assert 0 < line["tokens_out"] <= spent.tokens_out
    usage = client.get("/v1/usage", headers=headers).json()["data"]
    assert sum(row["tokens_out"] for row in usage) == line["tokens_out"]


def test_parallel_places_come_back_after_answers_and_after_clients_that_left(client: httpx.Client) -> None:
    key = new_key(client, limits={"parallel": 2})
    headers = {"authorization": f"Bearer {key['key']}"}
    for _ in range(4):
        with client.stream("POST", CHAT, json=body(stream=True, max_tokens=300, seed=20), headers=headers) as answer:
            assert answer.status_code == 200
            pieces = answer.iter_bytes()
            next(pieces)
        time.sleep(0.3)
    held = [
        client.stream("POST", CHAT, json=body(stream=True, max_tokens=200, seed=20), headers=headers) for _ in range(2)
    ]
    opened = [one.__enter__() for one in held]
    assert [one.status_code for one in opened] == [200, 200]
    refused = client.post(CHAT, json=body(), headers=headers)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    for one in held:
        one.__exit__(None, None, None)
    time.sleep(0.3)
    assert client.post(CHAT, json=body(), headers=headers).status_code == 200


def test_a_refused_request_reaches_no_upstream_and_has_no_line(
    client: httpx.Client, gate: Gateway, upstream: Upstream
) -> None:
    key = new_key(client, limits={"rpm": 2, "burst": 2, "strict": True})
    headers = {"authorization": f"Bearer {key['key']}"}
    statuses = [client.post(CHAT, json=body(user=key["id"]), headers=headers).status_code for _ in range(5)]
    assert statuses == [200, 200, 429, 429, 429]
    assert sum(one.name == key["id"] for one in upstream.log) == 2
    await_lines(gate, 2, key_id=key["id"])
    time.sleep(1)
    assert len(lines(gate, key_id=key["id"])) == 2


def test_a_budget_holds_and_says_so(client: httpx.Client, gate: Gateway) -> None:
    limit = 30_000  # nano-USD; a request takes 3,150, and could take some 14,000: so much is left when it is admitted
    key = new_key(client, limits={"usd_per_day": "0.000030"})
    headers = {"authorization": f"Bearer {key['key']}"}
    answers = [client.post(CHAT, json=body(), headers=headers) for _ in range(12)]
    refused = [one for one in answers if one.status_code != 200]
    admitted = len(answers) - len(refused)
    assert {one.status_code for one in refused} == {429}
    assert refused[0].json()["error"]["code"] == "insufficient_quota"
    found = await_lines(gate, admitted, key_id=key["id"])
    spent = sum(line["nano_usd"] for line in found)
    assert 0 < spent <= limit - 10_000
    usage = client.get("/v1/usage", headers=headers).json()["data"]
    assert sum(row["nano_usd"] for row in usage) == spent


def test_a_budget_counts_what_was_spent_while_there_was_none(client: httpx.Client, gate: Gateway) -> None:
    """What admission knew from before was believed: a budget lifted for an hour did not count that hour."""
    key = new_key(client, limits={"usd_per_day": "1"})
    headers = {"authorization": f"Bearer {key['key']}"}
    budget = f"/v1/admin/limits/key/{key['id']}"
    assert client.post(CHAT, json=body(), headers=headers).status_code == 200
    assert client.put(budget, json={"rpm": 100}).status_code == 200
    for _ in range(9):
        assert client.post(CHAT, json=body(), headers=headers).status_code == 200
    await_lines(gate, 10, key_id=key["id"])
    assert client.put(budget, json={"usd_per_day": "0.000030"}).status_code == 200  # of 31,500 nano-USD
    refused = client.post(CHAT, json=body(), headers=headers)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize("path", ["key/{key}", "tenant/*"])
def test_a_first_budget_counts_what_ran_when_it_was_set(client: httpx.Client, gate: Gateway, path: str) -> None:
    """A request that began before it was never held to it, so admission was told nothing of what it cost."""
    key = new_key(client)
    headers = {"authorization": f"Bearer {key['key']}"}
    budget = "/v1/admin/limits/" + path.format(key=key["id"])
    wanted = body(stream=True, max_tokens=100, seed=10)  # a second, and 61,350 nano-USD
    spent = sum(line["nano_usd"] for line in lines(gate)) if path == "tenant/*" else 0
    left = {"usd_per_day": f"{(spent + 60_000) / 1e9:.9f}"}
    with client.stream("POST", CHAT, json=wanted, headers=headers) as answer:
        pieces = answer.iter_bytes()
        next(pieces)
        assert client.put(budget, json=left).status_code == 200
        try:
            first = client.post(CHAT, json=body(max_tokens=1), headers=headers)
            assert first.status_code == 200, "what runs is not yet counted"
            b"".join(pieces)
            for _ in range(12):  # at 1,950 nano-USD each, which alone don't reach the budget
                refused = client.post(CHAT, json=body(max_tokens=1), headers=headers)
                if refused.status_code == 429:
                    break
                time.sleep(0.5)
        finally:
            assert client.delete(budget).status_code == 200
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize(("path", "query"), [("model/mock", {"tenant": "*"}), ("tenant/*", {})])
def test_what_all_tenants_share_holds_over_tenants_and_workers(
    client: httpx.Client, path: str, query: dict[str, str]
) -> None:
    made = [client.post("/v1/admin/tenants", json={"name": f"{path} {at}"}).json() for at in range(3)]
    keys = [new_key(client, tenant=one["id"])["key"] for one in made]
    bounds = {"rpm": 1, "burst": 12}
    assert client.put(f"/v1/admin/limits/{path}", params=query, json=bounds).status_code == 200
    try:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda at: _chat(client, keys[at % 3]), range(36)))
    finally:
        assert client.delete(f"/v1/admin/limits/{path}", params=query).status_code == 200
    assert Counter(one.status_code for one in answers) == {200: 12, 429: 24}
    refused = next(one for one in answers if one.status_code == 429)
    assert "all tenants" in refused.json()["error"]["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 60
    told = [int(one.headers["x-ratelimit-remaining-requests"]) for one in answers if one.status_code == 200]
    assert min(told) > 12, "what is left of the shared limit would tell of other tenants"
    assert _chat(client, keys[0]).status_code == 200


def _chat(client: httpx.Client, key: str) -> httpx.Response:
    return client.post(CHAT, json=body(), headers={"authorization": f"Bearer {key}"})


def test_a_bound_that_nobody_can_count_is_refused_as_too_many_tokens(client: httpx.Client) -> None:
    """It was a 500."""
    headers = {"authorization": f"Bearer {new_key(client)['key']}"}
    answer = client.post(CHAT, json=body(max_tokens=10**15), headers=headers)
    assert (answer.status_code, "retry-after" in answer.headers) == (429, False), answer.text


def test_a_list_of_prompts_is_reserved_prompt_by_prompt(client: httpx.Client) -> None:
    key = new_key(client, limits={"tpm": 1000})
    headers = {"authorization": f"Bearer {key['key']}"}
    wanted = {"model": "mock", "prompt": ["a"] * 20, "max_tokens": 50}
    answer = client.post("/v1/completions", json=wanted, headers=headers)
    assert answer.status_code == 429, answer.text
    assert client.post("/v1/completions", json={**wanted, "prompt": "a"}, headers=headers).status_code != 429


def test_a_revoked_key_fails_on_its_next_request_in_every_worker(client: httpx.Client) -> None:
    key = new_key(client)
    headers = {"authorization": f"Bearer {key['key']}"}
    assert {client.post(CHAT, json=body(), headers=headers).status_code for _ in range(10)} == {200}
    assert client.delete(f"/v1/admin/keys/{key['id']}").status_code == 200
    with httpx.Client(base_url=client.base_url, headers=headers) as other:
        assert {other.post(CHAT, json=body(), headers={"connection": "close"}).status_code for _ in range(10)} == {401}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "nope"}, 404, "model_not_found"),
        ({"model": None}, 400, "invalid_request"),
        ({"messages": []}, 400, "invalid_request"),
        ({"max_tokens": 0}, 400, "invalid_request"),
        ({"max_tokens": True}, 400, "invalid_request"),
        ({"n": 9}, 400, "invalid_request"),
        ({"api_base": "http://elsewhere"}, 400, "invalid_request"),
        ({"kv_transfer_params": {}}, 400, "invalid_request"),
    ],
)
def test_a_bad_request_has_openais_error(client: httpx.Client, change: dict[str, Any], status: int, code: str) -> None:
    answer = client.post(CHAT, json=body(**change))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-request-id"]


def test_a_priority_that_there_is_not_is_400(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=body(), headers={"x-stoker-priority": "urgent"})
    assert answer.status_code == 400
    assert "interactive, normal, batch" in answer.json()["error"]["message"]


def test_names_of_ignored_fields_cannot_break_the_answer(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=body(**{"a\r\nset-cookie: x": 1, "中": 2, "x" * 5000: 3}))
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-stoker-ignored"].startswith("a%0D%0Aset-cookie%3A%20x, x")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model": NaN}', b"\xff"])
def test_what_is_no_json_object_is_400(client: httpx.Client, data: bytes) -> None:
    assert client.post(CHAT, content=data).status_code == 400


def test_a_body_nested_too_deeply_is_400(client: httpx.Client) -> None:
    deep = "[" * 300 + "]" * 300
    text = json.dumps(body())[:-1] + f', "metadata": {deep}}}'
    assert client.post(CHAT, content=text).status_code == 400


def test_no_key_and_a_wrong_key_are_401_whatever_the_body(client: httpx.Client) -> None:
    for headers in ({}, {"authorization": "Bearer sk-stoker-wrong"}):
        answer = httpx.post(f"{client.base_url}{CHAT}", content=b"{", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_role_that_may_not_chat_is_403(client: httpx.Client) -> None:
    key = new_key(client, role="ingest")
    answer = client.post(CHAT, json=body(), headers={"authorization": f"Bearer {key['key']}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "role_not_allowed")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_413(client: httpx.Client, chunked: bool) -> None:
    data = json.dumps(body(user="x" * 200_000)).encode()
    content = iter([data[at : at + 50_000] for at in range(0, len(data), 50_000)]) if chunked else data
    answer = client.post(CHAT, content=content)
    assert answer.status_code == 413, answer.text
    assert answer.json()["error"]["code"] == "body_too_large"


def raw(gate: Gateway, data: bytes, seconds: float = 10) -> bytes:
    """What comes back until the server closes or `seconds` have passed."""
    with socket.create_connection(("127.0.0.1", gate.port), timeout=seconds) as connection:
        connection.sendall(data)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except TimeoutError:
            pass
        return found


def test_a_body_that_never_comes_is_408(gate: Gateway) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gate.key}\r\ncontent-length: 100\r\n\r\n{{"
    assert b" 408 " in raw(gate, head.encode(), 5).split(b"\r\n")[0]


def test_a_body_that_declares_too_much_is_413_before_it_comes(gate: Gateway) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gate.key}\r\ncontent-length: 200001\r\n\r\n"
    assert b" 413 " in raw(gate, head.encode(), 1).split(b"\r\n")[0]


def test_a_head_that_is_too_large_is_431(gate: Gateway) -> None:
    found = raw(gate, b"POST / HTTP/1.1\r\n" + b"a: " + b"x" * 100_000)
    assert found.startswith(b"HTTP/1.1 431 ")


def test_an_allowed_origin_may_read_and_another_may_not(client: httpx.Client) -> None:
    for origin, expected in (("https://allowed.example", "https://allowed.example"), ("https://evil.example", None)):
        answer = client.post(CHAT, json=body(), headers={"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == expected
        refused = client.post(CHAT, json={}, headers={"origin": origin})
        assert refused.headers.get("access-control-allow-origin") == expected
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = client.options(CHAT, headers=asked)
        assert (preflight.status_code == 200) == (expected is not None)


def test_other_methods_are_405_and_the_schema_describes_the_routes(client: httpx.Client) -> None:
    assert client.get(CHAT).status_code == 405
    paths = client.get("/openapi.json").json()["paths"]
    assert {CHAT, "/v1/completions", "/v1/embeddings", "/v1/messages"} <= set(paths)
    assert paths[CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]["required"] == [
        "messages",
        "model",
    ]


def test_anthropics_errors_have_anthropics_form(client: httpx.Client) -> None:
    answer = client.post("/v1/messages", json={"model": "mock", "messages": [{"role": "user", "content": "x"}]})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert "max_tokens" in answer.json()["error"]["message"]


def test_every_request_is_counted_and_logged_once(client: httpx.Client, gate: Gateway) -> None:
    for name in ("seen-1", "seen-2"):
        client.post(CHAT, json=body(), headers={"x-request-id": name})
    client.post(CHAT, content=b"{", headers={"x-request-id": "seen-3"})
    limit = time.monotonic() + 5
    while gate.log.count('"seen-') < 3 and time.monotonic() < limit:
        time.sleep(0.05)  # the record is closed after the answer has left
    log = [json.loads(line) for line in gate.log.splitlines() if '"seen-' in line]
    assert [(line["request_id"], line["status"]) for line in log] == [("seen-1", 200), ("seen-2", 200), ("seen-3", 400)]
    assert {line["route"] for line in log} == {CHAT}
