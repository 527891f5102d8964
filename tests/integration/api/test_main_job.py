"""The main job on the whole stack: real model, real documents, answers that can be checked."""

import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo import FIRST_QUESTION
from tests.support.stack import Stack

pytestmark = pytest.mark.vllm

MODEL = "smollm2-135m"


def ask(stack: Stack, collection: str, question: str, **fields: Any) -> dict[str, Any]:
    answer = stack.client.post("/v1/query", json={"query": question, "collection": collection, **fields})
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    assert said["citations"], said
    for citation in said["citations"]:
        content = stack.content(collection, citation["document_id"], citation["document_version"])
        assert content[citation["start"] : citation["end"]] == citation["quote"]
    return said


def test_the_projects_own_documentation_answers_which_port(stack: Stack, figure: Callable[[str], None]) -> None:
    said = ask(stack, "demo", "Which port does the gateway listen on?")
    assert "8080" in said["answer"]
    assert any("8080" in citation["quote"] for citation in said["citations"])
    figure(f"answered {said['answer']!r}, degraded: {said['degraded']}")


def test_the_command_line_answers_with_sources(stack: Stack) -> None:
    asked = stack.cli("ask", FIRST_QUESTION)  # as README has it
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "logs" in asked.stdout
    assert "|" not in asked.stdout.partition("\nSources")[0], "a row of a table is no answer for a newcomer"
    assert re.search(r"1\W.*\.md", asked.stdout), asked.stdout


def test_a_random_planted_fact_comes_back_cited(stack: Stack) -> None:
    number, collection = secrets.randbelow(9000) + 1000, f"planted-{secrets.token_hex(3)}"
    text = f"# Harbour\n\nThe harbour office opens at nine.\n\nThe code of the boat shed is {number}. Keep it secret."
    stack.ingest(collection, [{"title": "harbour", "content": text}])
    said = ask(stack, collection, "What is the code of the boat shed?")
    assert str(number) in said["answer"]
    assert any(str(number) in citation["quote"] for citation in said["citations"])


def test_a_pdf_ingested_by_the_command_line_is_cited_with_its_page(stack: Stack, documents: Path) -> None:
    collection = f"pdf-{secrets.token_hex(3)}"
    done = stack.cli("ingest", str(documents / "multi_page.pdf"), "--collection", collection)
    assert done.returncode == 0, done.stdout + done.stderr
    found = stack.client.post(
        "/v1/search", json={"query": "Who patented a typewriter in 1868?", "collection": collection}
    )
    assert found.json()["data"][0]["page"] == 1
    said = ask(stack, collection, "Who patented the typewriter in 1868?")
    assert "Sholes" in said["answer"]
    assert [citation["page"] for citation in said["citations"]] == [1]


def test_streamed_events_tell_the_same_answer(stack: Stack) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    body = {"query": "Which port does the gateway listen on?", "collection": "demo", "stream": True}
    with stack.client.stream("POST", "/v1/query", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in "".join(answer.iter_text()).strip().split("\n\n"):
            name, data = block.split("\n", 1)
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    names = [name for name, _ in events]
    assert names[0] == "retrieval"
    assert names[-2:] == ["usage", "done"]
    done = events[-1][1]
    assert "".join(data["text"] for name, data in events if name == "token").strip() == done["answer"]
    assert [data for name, data in events if name == "citation"] == done["citations"]
    assert "8080" in done["answer"]


def chat(stack: Stack, **fields: Any) -> httpx.Response:
    return stack.client.post("/v1/chat/completions", json={"model": MODEL, "max_tokens": 16, **fields})


def test_a_chat_answers_and_counts_its_tokens(stack: Stack) -> None:
    answer = chat(stack, messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0).json()
    assert answer["choices"][0]["message"]["content"].strip()  # in bfloat16 the small model does not say Paris
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["model"] == MODEL


def test_an_unknown_field_is_dropped_and_named(stack: Stack) -> None:
    answer = chat(stack, messages=[{"role": "user", "content": "Hi"}], made_up_field=1)
    assert answer.status_code == 200
    assert answer.headers["x-stoker-ignored"] == "made_up_field"


def test_an_over_long_prompt_is_400_with_the_limit_named(stack: Stack) -> None:
    answer = chat(stack, messages=[{"role": "user", "content": "word " * 6000}])
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert "4096" in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_a_client_that_leaves_cancels_the_generation(stack: Stack) -> None:
    metrics = f"http://127.0.0.1:{stack.process('vllm')['port']}/metrics"

    def runs(count: int) -> bool:
        """Within 15 s: the engine brings its gauges up to date now and then."""
        limit = time.monotonic() + 15
        while time.monotonic() < limit:
            lines = httpx.get(metrics).raise_for_status().text.splitlines()
            found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running")]
            assert found, lines
            if sum(found) == count:
                return True
            time.sleep(0.1)
        return False

    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Count."}],
    }
    with stack.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        pieces = answer.iter_bytes()  # kept: httpx closes the answer when its iterator is dropped
        first = next(pieces)
        assert answer.status_code == 200, first
        assert runs(1), (first + b"".join(pieces))[-2000:]
    assert runs(0)


def test_metrics_know_the_first_token_and_the_tokens(stack: Stack) -> None:
    text = httpx.get(f"{stack.url}/metrics").text
    for wanted in (
        f'stoker_tokens_total{{direction="out",model_group="{MODEL}"}}',
        f'stoker_time_to_first_token_seconds_count{{model_group="{MODEL}"}}',
    ):
        (line,) = [line for line in text.splitlines() if line.startswith(wanted)]
        assert float(line.rsplit(" ", 1)[1]) > 0
