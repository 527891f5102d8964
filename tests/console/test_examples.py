"""The clients' examples against a real stack, and what it answers against the shapes that they know."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from tests.clients.test_clients import PYTHON, commands, compiled, shapes
from tests.support.answering import Desk

__all__ = ["commands", "compiled"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("commands", ["python", "typescript"], indirect=True)
def test_the_examples_ingest_follow_search_and_ask(
    commands: Callable[..., list[str]], desk: Desk, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "ferry.md"
    file.write_text("# Ferry\n\nThe ferry to Wellhaven leaves at 07:45 every day.")
    collection = f"examples-{request.node.callspec.id}"
    reached = {"STOKER_URL": desk.gate.url, "STOKER_API_KEY": desk.gate.key, "PYTHONPATH": str(PYTHON)}

    def printed(name: str, *words: str) -> str:
        done = subprocess.run(
            commands(name, *words),
            env={**os.environ, **reached},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    job = printed("ingest", collection, str(file))
    assert job.startswith("job_")
    assert printed("follow", job).splitlines()[-1].startswith("succeeded")
    assert "07:45" in printed("search", collection, "ferry")
    answer = printed("ask", collection, "When does the ferry to Wellhaven leave?")
    assert "leaves at 07:45" in answer
    assert "[ferry.md: The ferry to Wellhaven leaves at 07:45 every day.]" in answer


def test_what_the_stack_answers_has_the_fields_that_the_clients_know(desk: Desk) -> None:
    client = desk.client
    found = client.post("/v1/search", json={"query": "ferry", "collection": "harbour", "facets": ["x"]}).json()
    question = {"query": "When does the ferry to Wellhaven leave?", "collection": "harbour"}
    answer = client.post("/v1/query", json=question).json()
    accepted = client.post(
        "/v1/ingest", json={"collection": "harbour", "documents": [{"title": "tide", "content": "The tide is high."}]}
    ).json()
    job = client.get(f"/v1/jobs/{accepted['job_id']}").json()
    seen: list[tuple[str, dict[str, Any]]] = [
        ("Collection", client.get("/v1/collections/harbour").json()),
        ("Accepted", accepted),
        ("Job", job),
        ("JobDocument", job["documents"][0]),
        ("Found", found),
        ("Passage", found["data"][0]),
        ("Answer", answer),
        ("Citation", answer["citations"][0]),
    ]
    for name, said in seen:
        shape = getattr(shapes, name)
        assert shape.__required_keys__ <= set(said), name
        assert set(get_type_hints(shape)) >= shape.__required_keys__
