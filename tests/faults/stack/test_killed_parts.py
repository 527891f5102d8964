"""Parts of a running stack are killed: what needs them says so, what does not goes on, and they come back."""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.stack import Stack


def until(look: Callable[[], bool], seconds: float, pause_s: float = 0.2) -> None:
    limit = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(pause_s)


def ready(stack: Stack) -> bool:
    return stack.client.get("/health/ready").status_code == 200


@contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """Stop a part as if its machine hung: it holds its connections and answers nothing."""
    group = stack.process(name)["pid"]
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)
        until(lambda: ready(stack), 60)


@pytest.fixture
def collection(plain_stack: Stack) -> str:
    name = f"f-{secrets.token_hex(4)}"
    plain_stack.ingest(name, [{"title": "owl", "content": "The owl sleeps in the bell tower."}])
    return name


QUERY = {"query": "Where does the owl sleep?"}


@pytest.mark.parametrize(
    "name",
    [
        "worker",
        *(pytest.param(name, marks=pytest.mark.heavy) for name in ("milvus", "valkey", "keeper")),
    ],
)
def test_a_killed_part_is_started_again_and_the_stack_is_whole(plain_stack: Stack, collection: str, name: str) -> None:
    before = plain_stack.process(name)
    os.kill(before["pid"], signal.SIGKILL)
    time.sleep(1)  # a look by the command line takes half a second of a processor
    until(lambda: plain_stack.process(name)["restarts"] == before["restarts"] + 1, 30, pause_s=1)
    until(lambda: plain_stack.process(name)["state"] == "ready" and ready(plain_stack), 60, pause_s=1)
    assert plain_stack.process(name)["pid"] != before["pid"]

    def answers() -> bool:
        found = [plain_stack.client.post("/v1/search", json={**QUERY, "collection": collection}) for _ in range(8)]
        return all(answer.status_code == 200 and "bell tower" in answer.text for answer in found)

    until(answers, 15)  # each worker connects anew
    plain_stack.ingest(collection, [{"title": "cat", "content": "The cat sleeps on the stove."}])


def test_without_milvus_a_question_is_503_and_keys_still_work(plain_stack: Stack, collection: str) -> None:
    with frozen(plain_stack, "milvus"):
        for route in ("/v1/search", "/v1/query"):
            answer = plain_stack.client.post(route, json={**QUERY, "collection": collection})
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "part_unavailable"
        assert plain_stack.client.get("/v1/models").status_code == 200
        assert plain_stack.client.get("/health/live").status_code == 200


def test_without_embeddings_the_lexical_leg_answers_and_says_so(plain_stack: Stack, collection: str) -> None:
    with frozen(plain_stack, "embeddings"):
        asked = {**QUERY, "collection": collection, "use_cache": False}  # the question's vector may be known
        found = plain_stack.client.post("/v1/search", json=asked).json()
        assert found["degraded"] is True
        assert "embeddings" in found["degraded_reason"]
        assert "bell tower" in found["data"][0]["text"]


def test_without_valkey_everything_goes_on(plain_stack: Stack, collection: str) -> None:
    with frozen(plain_stack, "valkey"):
        assert plain_stack.client.post("/v1/search", json={**QUERY, "collection": collection}).status_code == 200
        plain_stack.ingest(collection, [{"title": "dog", "content": "The dog sleeps under the stairs."}])
    found = plain_stack.client.post("/v1/search", json={"query": "dog stairs", "collection": collection}).json()
    assert "stairs" in found["data"][0]["text"]


@pytest.mark.heavy
def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(
    plain_stack: Stack, figure: Callable[[str], None]
) -> None:
    name = f"f-{secrets.token_hex(4)}"
    plain_stack.client.post("/v1/collections", json={"name": name}).raise_for_status()
    documents = [
        {"title": f"note {i}", "content": "\n\n".join(f"Note {i}, line {j}: crates of tea." * 9 for j in range(12))}
        for i in range(16)
    ]
    worker = plain_stack.process("worker")["pid"]
    accepted = plain_stack.client.post("/v1/ingest", json={"collection": name, "documents": documents}).json()

    def statuses() -> list[str]:
        job = plain_stack.client.get(f"/v1/jobs/{accepted['job_id']}").json()
        return [document["status"] for document in job["documents"]]

    until(lambda: statuses().count("ready") >= 2, 60)
    os.kill(worker, signal.SIGKILL)
    at_kill = statuses()
    job = plain_stack.await_job(accepted["job_id"], 180)
    assert job["status"] == "succeeded", job
    collection = plain_stack.client.get(f"/v1/collections/{name}").json()
    listed = plain_stack.client.get(f"/v1/collections/{name}/documents", params={"limit": 100}).json()["data"]
    assert collection["documents"] == len(listed) == 16
    assert all(document["version"] == 1 for document in listed)
    passages = plain_stack.client.post("/v1/search", json={"query": "tea", "collection": name, "top_k": 100}).json()
    spans = [(passage["document_id"], passage["start"]) for passage in passages["data"]]
    assert len(spans) == len(set(spans)) == min(100, collection["chunks"])
    figure(f"at the kill {at_kill.count('ready')} of 16 documents were ready")
    assert "ready" in at_kill
    assert set(at_kill) != {"ready"}, "the kill came too late to show anything"
