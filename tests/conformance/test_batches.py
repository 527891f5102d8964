"""Batches by the official `openai` package: upload, create, poll, read what came out, cancel."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.batches import CHAT, Batcher, chat, check_whole, jsonl
from tests.support.conformance import Observed, measure
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway
from tests.support.sdk import Sdk, sdk

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def provider() -> Iterator[ExactServer]:
    with exact_server_in_thread() as one:
        yield one


@pytest.fixture(scope="module")
def batch_gate(provider: ExactServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    parameters = f"{{model: hosted_vllm/exact, api_base: '{provider.base_url}'}}"
    configuration = f"model_list:\n  - model_name: exact\n    litellm_params: {parameters}\n"
    with gateway(tmp_path_factory.mktemp("batches"), 0, configuration=configuration) as one:
        yield one


@pytest.fixture(scope="module")
def user() -> Iterator[Sdk]:
    with sdk("batch-python") as one:
        yield one


@pytest.fixture
def whoever(batch_gate: Gateway) -> dict[str, Any]:
    return {"url": batch_gate.url, "key": batch_gate.key, "endpoint": CHAT}


def requests(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"custom_id": f"line-{at}", "method": "POST", "url": CHAT, "body": body} for at, body in enumerate(bodies)]


def test_a_batch_is_uploaded_made_polled_and_read(
    user: Sdk, whoever: dict[str, Any], figure: Callable[[str], None]
) -> None:
    figure(f"openai {user.ask('version')['version']}")
    bodies = [chat(f"Question {at}.") for at in range(12)] + [chat("No.", model="nope")]
    fields = {"metadata": {"for": "test"}, "output_expires_after": {"anchor": "created_at", "seconds": 7200}}
    made = user.ask("create", **whoever, requests=requests(bodies), fields=fields)["batch"]
    seen = user.ask("wait", **whoever, batch_id=made["id"])["seen"]
    ended = seen[-1]
    assert (made["status"], ended["status"]) == ("validating", "completed")
    assert ended["request_counts"] == {"total": 13, "completed": 12, "failed": 1}
    done = [one["request_counts"]["completed"] for one in seen]
    assert done == sorted(done)
    output = user.ask("content", **whoever, file_id=ended["output_file_id"])
    check_whole(output["lines"], bodies[:12])
    assert (output["file"]["purpose"], output["file"]["expires_at"]) == (
        "batch_output",
        output["file"]["created_at"] + 7200,
    )
    errors = user.ask("content", **whoever, file_id=ended["error_file_id"])["lines"]
    assert [(one["custom_id"], one["response"]["status_code"]) for one in errors] == [("line-12", 404)]
    assert made["id"] in user.ask("listed", **whoever, limit=1)["ids"]


def test_a_batch_is_cancelled_in_the_middle(user: Sdk, whoever: dict[str, Any], provider: ExactServer) -> None:
    provider.pause_s = 0.02
    try:
        bodies = [chat(f"Question {at}.") for at in range(80)]
        made = user.ask("create", **whoever, requests=requests(bodies))["batch"]
        user.ask("wait", **whoever, batch_id=made["id"], completed=3)
        assert user.ask("cancel", **whoever, batch_id=made["id"])["batch"]["status"] == "cancelling"
        ended = user.ask("wait", **whoever, batch_id=made["id"])["seen"][-1]
    finally:
        provider.pause_s = 0.0
    assert ended["status"] == "cancelled"
    output = user.ask("content", **whoever, file_id=ended["output_file_id"])["lines"]
    errors = user.ask("content", **whoever, file_id=ended["error_file_id"])["lines"]
    assert {one["custom_id"] for one in output + errors} == {f"line-{at}" for at in range(80)}
    assert len(output) + len(errors) == 80
    assert len(output) >= 3


def test_a_file_that_is_none_fails_with_its_lines(user: Sdk, whoever: dict[str, Any]) -> None:
    wrong = [{**one, "custom_id": "same"} for one in requests([chat("a"), chat("b")])]
    made = user.ask("create", **whoever, requests=wrong)["batch"]
    ended = user.ask("wait", **whoever, batch_id=made["id"])["seen"][-1]
    assert ended["status"] == "failed"
    assert [(one["code"], one["line"]) for one in ended["errors"]["data"]] == [("duplicate_custom_id", 2)]


def test_what_is_not_there_is_what_the_package_calls_so(user: Sdk, whoever: dict[str, Any]) -> None:
    for do in ("wait", "cancel"):
        error = user.ask(do, **whoever, batch_id="batch_none")["error"]
        assert (error["class"], error["status"], error["code"]) == ("NotFoundError", 404, "batch_not_found")
    order = {**whoever, "endpoint": "/v1/images/generations"}
    error = user.ask("create", **order, requests=requests([chat("a")]))["error"]
    assert (error["class"], error["param"]) == ("BadRequestError", "endpoint")


_LATER = {"in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at"}


def test_every_field_is_there_as_the_packages_types_have_it(batch_gate: Gateway, figure: Callable[[str], None]) -> None:
    one = Batcher(batch_gate, batch_gate.key)
    observed: list[Observed] = []

    def observe(route: str, value: dict[str, Any], *stateless: str, kind: str = "openai.types.Batch") -> None:
        observed.append(Observed(route, kind, value, frozenset(stateless)))

    everything = {"metadata": {"a": "b"}, "output_expires_after": {"anchor": "created_at", "seconds": 7200}}
    made = one.create(jsonl([chat("a"), chat("b", model="nope")]), **everything)
    observe("POST /v1/batches", made, *_LATER, "errors", "output_file_id", "error_file_id", "model")
    ended = one.until(made["id"])
    unmet = _LATER - {"in_progress_at", "finalizing_at", "completed_at"}
    observe("GET /v1/batches/{id}", ended, *unmet, "errors", "model")  # two models
    observe("GET /v1/batches", one.call("GET", "/v1/batches").json()["data"][0], *unmet, "errors", "model")
    same = one.until(one.create(jsonl([chat("a")]), **everything)["id"])
    observe("GET /v1/batches/{id}", same, *unmet, "errors", "error_file_id")
    wrong = one.until(one.create(b"{}", **everything)["id"])
    unmet = _LATER - {"failed_at"}
    observe("GET /v1/batches/{id}", wrong, *unmet, "output_file_id", "error_file_id", "model")
    gone = one.create(jsonl([chat("a", max_tokens=4000)] * 30), **everything)
    cancelled = one.call("POST", f"/v1/batches/{gone['id']}/cancel").json()
    unmet = _LATER - {"cancelling_at"}
    observe("POST /v1/batches/{id}/cancel", cancelled, *unmet, "errors", "output_file_id", "error_file_id", "model")
    one.until(gone["id"])
    file = one.call("GET", f"/v1/files/{ended['output_file_id']}").json()
    observe("GET /v1/files/{id}", file, "status_details", kind="openai.types.FileObject")
    measured = measure(observed)
    for line in measured.lines():
        figure(line)
    assert measured.share >= 0.95, measured.lines()
