"""Guards in a whole gateway: what is made and not told is billed, on every way, and ends no batch."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, events, new_key
from tests.support.batches import Batcher, jsonl
from tests.support.gateway import Gateway, entry, gateway, models
from tests.support.openai_server import OpenAiServer, openai_server_in_thread

pytestmark = pytest.mark.slow

GUARD = "[{use: 'tests.support.guards:Judges', options: {refused: secret, broken: broken}}]"
PRICES = "0.000001", "0.000002"


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAiServer]:
    with openai_server_in_thread() as one:
        yield one


def configured(server: OpenAiServer, **guards: str) -> str:
    entries = models(entry("g", server.base_url, *PRICES), entry("late", server.base_url, *PRICES))
    return f"{entries}stoker:\n  guards:\n" + "".join(f"    {group}: {guard}\n" for group, guard in guards.items())


@pytest.fixture(scope="module")
def gate(server: OpenAiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Before `g`, which is guarded, and `late`, which is not yet."""
    settings = {"STOKER_BATCH_ATTEMPTS": "2", "STOKER_CONFIG_POLL_S": "0.1"}
    folder = tmp_path_factory.mktemp("guarded")
    with gateway(folder, 1, settings=settings, configuration=configured(server, g=GUARD)) as one:
        yield one


@pytest.fixture
def client(gate: Gateway) -> Iterator[httpx.Client]:
    """With a key of its own, whose name is in the lines of the ledger."""
    headers = {"authorization": f"Bearer {gate.key}"}
    with httpx.Client(base_url=gate.url, headers=headers, timeout=30) as admin:
        key = new_key(admin, limits={"rpm": None, "tpm": None, "parallel": None})
    headers = {"authorization": f"Bearer {key['key']}", "x-test-key": key["id"]}
    with httpx.Client(base_url=gate.url, headers=headers, timeout=30) as one:
        yield one


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "g", "messages": [{"role": "user", "content": text}], "max_tokens": 20, **fields}


def billed(gate: Gateway, client: httpx.Client, count: int) -> list[tuple[str, int, int, int]]:
    """Outcome, status, tokens and price of the key's lines."""
    found = await_lines(gate, count, key_id=client.headers["x-test-key"])
    return [(one["outcome"], one["status"], one["tokens_out"], one["nano_usd"]) for one in found]


@pytest.mark.parametrize(
    ("text", "code", "status"), [("broken", "guard_failed", 503), ("secret", "guard_refused", 400)]
)
def test_an_answer_that_a_guard_lets_nobody_have_is_paid_for(
    gate: Gateway, client: httpx.Client, server: OpenAiServer, text: str, code: str, status: int
) -> None:
    conversation = client.post("/v1/conversations", json={}).raise_for_status().json()["id"]
    asked = server.requests
    for number, (path, body) in enumerate(
        [
            ("/v1/chat/completions", chat(f"the {text} pier")),
            ("/v1/chat/completions", chat(f"the {text} pier", conversation_id=conversation)),
            ("/v1/responses", {"model": "g", "input": f"the {text} pier", "max_output_tokens": 20}),
        ]
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == status, path
        assert answer.json()["error"]["code"] == code
        assert "pier" not in answer.text
        outcome, told, tokens, nano_usd = billed(gate, client, number + 1)[number]
        assert (outcome, told) == ("failed", status)
        assert tokens >= 1
        assert nano_usd >= 2000
    assert server.requests == asked + 3
    streamed = client.post("/v1/responses", json={"model": "g", "input": f"the {text} pier", "stream": True})
    assert events(streamed.text)[-2]["code"] == code
    streamed = client.post("/v1/chat/completions", json=chat(f"the {text} pier", stream=True))
    assert events(streamed.text)[-1]["error"]["code"] == code


def test_a_line_at_which_a_guard_breaks_or_refuses_keeps_no_other_of_its_batch(
    gate: Gateway, client: httpx.Client, server: OpenAiServer
) -> None:
    batcher = Batcher(gate, client.headers["authorization"].removeprefix("Bearer "))
    asked = len(server.bodies)
    texts = ["it is broken", "a secret", *(f"fine {number}" for number in range(10))]
    batch = batcher.until(batcher.create(jsonl([chat(text) for text in texts]))["id"])
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 12, "completed": 10, "failed": 2})
    sent = [body["messages"][-1]["content"] for body in server.bodies[asked:]]
    assert (sent.count("it is broken"), sent.count("a secret"), len(sent)) == (2, 1, 13)
    assert sum(outcome == "failed" for outcome, *_ in billed(gate, client, 13)) == 3
    line = {"model": "g", "input": "a secret", "max_output_tokens": 20}
    batch = batcher.until(batcher.create(jsonl([line], "/v1/responses"), endpoint="/v1/responses")["id"])
    assert batch["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert len(billed(gate, client, 14)) == 14


def test_what_was_kept_before_a_guard_came_is_not_told(
    gate: Gateway, client: httpx.Client, server: OpenAiServer
) -> None:
    def ask(cache: str) -> httpx.Response:
        return client.post("/v1/chat/completions", json=chat("the secret pier", model="late", cache=cache))

    file = gate.folder / "stoker.yaml"
    ask("exact").raise_for_status()
    assert ask("exact").headers["x-cache"] == "exact"
    file.write_text(configured(server, g=GUARD, late=GUARD))
    by_s = time.monotonic() + 60
    while ask("off").status_code == 200:
        assert time.monotonic() < by_s
        time.sleep(0.1)
    assert ask("exact").status_code == 400
    file.write_text(configured(server, g=GUARD))
    while ask("off").status_code != 200:
        assert time.monotonic() < by_s
        time.sleep(0.1)
    assert ask("exact").headers["x-cache"] == "exact"
