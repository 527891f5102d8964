"""Batches at a whole gateway: limits, keys, prices and the ledger hold in them, since they go through the one door."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from core.ids import new_id
from tests.support.batches import CHAT, Batcher, chat, check_whole, jsonl
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway

pytestmark = pytest.mark.slow

_PRICES = "input_cost_per_token: 0.000000151, output_cost_per_token: 0.0000006"


@pytest.fixture(scope="module")
def server() -> Iterator[ExactServer]:
    with exact_server_in_thread() as one:
        yield one


@pytest.fixture(scope="module")
def gate(server: ExactServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Model groups: `exact`, `narrow`, which takes one call at a time, and `vectors`."""
    base = f"model: hosted_vllm/exact, api_base: '{server.base_url}', {_PRICES}"
    configuration = (
        "model_list:\n"
        f"  - model_name: exact\n    litellm_params: {{{base}}}\n"
        f"  - model_name: narrow\n    litellm_params: {{{base}, max_parallel_requests: 1}}\n"
        f"  - model_name: vectors\n    litellm_params: {{{base}}}\n    model_info: {{mode: embedding}}\n"
    )
    settings = {"STOKER_BATCH_PRICE_FACTOR": "0.5", "STOKER_BATCH_PARALLEL": "3", "STOKER_KEY_TPM": "0"}
    folder = tmp_path_factory.mktemp("batches")
    with gateway(folder, 0, settings=settings, configuration=configuration) as one:
        yield one


@pytest.fixture
def admin(gate: Gateway) -> Batcher:
    return Batcher(gate, gate.key)


@pytest.fixture
def slow(server: ExactServer) -> Iterator[ExactServer]:
    server.log.clear()
    server.pause_s = 0.02
    yield server
    server.pause_s = 0.0


def with_key(admin: Batcher, **fields: Any) -> tuple[Batcher, str]:
    """A batcher with a key of its own, and the key's id."""
    limits = {"rpm": None, "tpm": None, "parallel": None, **fields.pop("limits", {})}
    made = admin.call("POST", "/v1/admin/keys", json={"name": "batches", "limits": limits, **fields}).json()
    return Batcher(admin.gate, made["key"]), made["id"]


def test_each_line_is_answered_and_its_ledger_line_says_what_and_that_it_was_a_batch(admin: Batcher) -> None:
    one, key_id = with_key(admin)
    bodies = [chat(f"Question {at}.") for at in range(20)]
    made = one.create(jsonl(bodies), metadata={"team": "tide"})
    assert (made["object"], made["status"], made["metadata"]) == ("batch", "validating", {"team": "tide"})
    ended = one.until(made["id"])
    assert (ended["status"], ended["model"]) == ("completed", "exact")
    assert ended["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert ended["error_file_id"] is None
    output = one.lines(ended["output_file_id"])
    check_whole(output, bodies)
    lines = one.await_ledger(made["id"], 20)
    assert sorted(line[0] for line in lines) == sorted(line["response"]["request_id"] for line in output)
    assert {(line[1], line[2], line[6]) for line in lines} == {(CHAT, "ok", key_id)}
    for _, _, _, tokens_in, tokens_out, nano_usd, _ in lines:
        assert nano_usd == -(-(tokens_in * 75_500 + tokens_out * 300_000) // 1000)  # half, and up
    usage = ended["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (sum(x[3] for x in lines), sum(x[4] for x in lines))
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_no_client_can_have_a_ledger_line_that_looks_like_a_batchs(admin: Batcher) -> None:
    name = f"{new_id('batch')}-1-1"
    headers = {"authorization": f"Bearer {admin.key}", "x-request-id": name}
    answer = httpx.post(f"{admin.gate.url}{CHAT}", json=chat("Hello."), headers=headers, timeout=30)
    assert answer.headers["x-request-id"] == name
    limit = time.monotonic() + 20
    while not (found := admin.sql("SELECT request_id FROM ledger WHERE request_id LIKE ?", f"%{name}")):
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert all(not request_id.startswith("batch_") for (request_id,) in found)


def test_a_line_that_is_at_fault_stands_in_the_error_file_as_its_client_would_have_seen_it(admin: Batcher) -> None:
    bodies = [chat("Fine."), chat("No.", stream=True), chat("No.", model="nope"), {"model": "exact"}]
    ended = admin.until(admin.create(jsonl(bodies))["id"])
    assert (ended["status"], ended["model"]) == ("completed", None)
    assert ended["request_counts"] == {"total": 4, "completed": 1, "failed": 3}
    found = {
        line["custom_id"]: (line["response"]["status_code"], line["response"]["body"]["error"]["param"])
        for line in admin.lines(ended["error_file_id"])
    }
    assert found == {"line-1": (400, "stream"), "line-2": (404, "model"), "line-3": (400, "messages")}


def test_embeddings_and_completions_come_in_batches_too(admin: Batcher) -> None:
    vectors = jsonl([{"model": "vectors", "input": f"text {at}"} for at in range(3)], "/v1/embeddings")
    ended = admin.until(admin.create(vectors, "/v1/embeddings")["id"])
    assert ended["request_counts"]["completed"] == 3
    assert [len(line["response"]["body"]["data"][0]["embedding"]) for line in admin.lines(ended["output_file_id"])] == [
        32,
        32,
        32,
    ]
    old = jsonl([{"model": "exact", "prompt": "Once", "max_tokens": 5}], "/v1/completions")
    ended = admin.until(admin.create(old, "/v1/completions")["id"])
    assert ended["usage"]["output_tokens"] == 5


def test_responses_come_in_batches_too(admin: Batcher) -> None:
    bodies = [{"model": "exact", "input": f"Say {at}.", "max_output_tokens": 5, "store": False} for at in range(3)]
    ended = admin.until(
        admin.create(jsonl([*bodies, {"model": "nope", "input": "a"}], "/v1/responses"), "/v1/responses")["id"]
    )
    assert ended["request_counts"] == {"total": 4, "completed": 3, "failed": 1}
    assert ended["usage"]["output_tokens"] == 15
    told = [line["response"]["body"] for line in admin.lines(ended["output_file_id"])]
    assert [(body["object"], body["status"], body["usage"]["output_tokens"]) for body in told] == [
        ("response", "incomplete", 5)
    ] * 3
    assert admin.lines(ended["error_file_id"])[0]["response"]["status_code"] == 404


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"endpoint": "/v1/images/generations"}, 400, "endpoint"),
        ({"endpoint": "/v1/messages"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"input_file_id": "file_none"}, 404, None),
        ({"metadata": {str(at): "x" for at in range(17)}}, 400, "metadata"),
        ({"metadata": {"a": "x" * 513}}, 400, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, 400, "output_expires_after.seconds"),
        ({"surprise": 1}, 400, "surprise"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_a_batch_is_refused_at_once(
    admin: Batcher, change: dict[str, Any], status: int, param: str | None
) -> None:
    asked = {"input_file_id": admin.keep(jsonl([chat("a")])), "endpoint": CHAT, "completion_window": "24h"}
    answer = admin.call("POST", "/v1/batches", json={**asked, **change})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    if "endpoint" in change:
        assert CHAT in answer.json()["error"]["message"]


def test_a_file_for_another_purpose_is_refused_with_the_remedy(admin: Batcher) -> None:
    asked = {"input_file_id": admin.keep(b"{}", "assistants"), "endpoint": CHAT, "completion_window": "24h"}
    answer = admin.call("POST", "/v1/batches", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_file_id")
    assert "purpose batch" in answer.json()["error"]["message"]


def test_a_key_that_may_not_chat_can_have_no_batch_do_so(admin: Batcher) -> None:
    narrow, _ = with_key(admin, scopes=["batches", "embeddings"])
    asked = {"input_file_id": narrow.keep(jsonl([chat("a")])), "endpoint": CHAT, "completion_window": "24h"}
    answer = narrow.call("POST", "/v1/batches", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_not_allowed")


def test_a_key_that_is_revoked_in_the_middle_ends_its_batch(admin: Batcher, slow: ExactServer) -> None:
    one, key_id = with_key(admin)
    bodies = [chat(f"Question {at}.") for at in range(60)]
    made = one.create(jsonl(bodies))
    one.until(made["id"], lambda batch: batch["request_counts"]["completed"] >= 5)
    assert admin.call("DELETE", f"/v1/admin/keys/{key_id}").status_code == 200
    ended = admin.until(made["id"])
    assert ended["status"] == "failed"
    assert [one["code"] for one in ended["errors"]["data"]] == ["invalid_api_key"]
    done, left = admin.lines(ended["output_file_id"]), admin.lines(ended["error_file_id"])
    assert {line["custom_id"] for line in done + left} == {f"line-{at}" for at in range(60)}
    assert len(done) + len(left) == 60
    assert len(done) >= 5
    assert len(left) >= 5
    assert len(slow.log) <= len(done) + 3
    assert len(admin.await_ledger(made["id"], len(done))) == len(done)


def test_a_budget_that_is_used_up_makes_a_batch_wait_and_a_cancel_ends_it(admin: Batcher) -> None:
    bodies = [chat(f"Question {at}.", max_tokens=12) for at in range(40)]
    one, _ = with_key(admin, limits={"usd_per_day": "0.00008"})  # some twenty lines
    made = one.create(jsonl(bodies))
    resting = "SELECT 1 FROM batches WHERE id = ? AND not_before > ?"
    one.until(made["id"], lambda _: bool(one.sql(resting, made["id"], time.time())))
    time.sleep(1.5)
    waiting = one.get(made["id"])
    assert waiting["status"] == "in_progress"
    assert 0 < waiting["request_counts"]["completed"] < 40
    assert waiting["request_counts"]["failed"] == 0
    answer = one.call("POST", f"/v1/batches/{made['id']}/cancel")
    assert answer.json()["status"] == "cancelling"
    ended = one.until(made["id"])
    assert ended["status"] == "cancelled"
    done = len(one.lines(ended["output_file_id"]))
    assert done + len(one.lines(ended["error_file_id"])) == 40
    assert sum(line[5] for line in one.await_ledger(made["id"], done)) <= 80_000


def test_an_interactive_request_goes_before_every_line_that_waits(admin: Batcher, slow: ExactServer) -> None:
    made = admin.create(jsonl([chat(f"Question {at}.", model="narrow") for at in range(15)]))
    admin.until(made["id"], lambda batch: batch["request_counts"]["completed"] >= 2)
    began: list[int] = []

    def ask() -> None:
        began.append(len(slow.log))
        headers = {"authorization": f"Bearer {admin.key}", "x-request-id": "interactive"}
        httpx.post(f"{admin.gate.url}{CHAT}", json=chat("Now!", model="narrow"), headers=headers, timeout=60)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    at = [served.name for served in slow.log].index("interactive")
    assert at <= began[0] + 1  # the line that ran ended, and another may have begun while the request was on its way
    ended = admin.until(made["id"])
    assert ended["request_counts"]["completed"] == 15


def test_only_its_owner_sees_a_batch(admin: Batcher) -> None:
    user = admin.call("POST", "/v1/admin/users", json={"name": "somebody", "role": "admin"}).json()
    other, _ = with_key(admin, user=user["id"], role="admin")
    made = admin.create(jsonl([chat("a")]))
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = other.call(method, f"/v1/batches/{made['id']}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batch_not_found")
    assert other.call("GET", "/v1/batches").json()["data"] == []
    assert made["id"] in [one["id"] for one in admin.call("GET", "/v1/batches").json()["data"]]
    admin.until(made["id"])
    answer = admin.call("POST", f"/v1/batches/{made['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "batch_over")
    assert answer.headers["x-should-retry"] == "false"
