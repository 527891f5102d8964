"""The default model, writing in an edge's process."""

from collections.abc import Callable, Iterator

import pytest

from edge.manifest import Manifest
from tests.integration.edge.conftest import COLLECTION, Origin
from tests.support import edge
from tests.support.engines import prepare_model

pytestmark = pytest.mark.slow

_ASKED = 8


@pytest.fixture(scope="module")
def writing(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge.Served]:
    """An edge with SmolLM2, whose origin has models write."""
    folder = tmp_path_factory.mktemp("writing")
    llm, _ = prepare_model("llm")
    to = folder / "handbook.edge"
    origin.export(to, "--llm", llm)
    manifest = Manifest.read(to)
    assert manifest.models["llm"] == "smollm2-135m"
    about = {**manifest.collection, "answers": {"generate": "model"}}
    edge.resign(to, collection=about)
    with edge.serve(to, folder / "edge.log") as one:
        yield one


def test_it_writes_answers_that_are_checked(
    origin: Origin, writing: edge.Served, figure: Callable[[str], None]
) -> None:
    written = 0
    for question in list(origin.judged.queries.values())[:_ASKED]:
        answer = writing.query(query=question, collection=COLLECTION)
        assert answer["model"] == "smollm2-135m" or answer["degraded"]
        assert answer["usage"]["completion_tokens"] > 0 or answer["degraded"]
        written += not answer["degraded"]
        for cited in answer["citations"]:
            path = f"/v1/collections/{COLLECTION}/documents/{cited['document_id']}/content"
            text = writing.client.get(path).text
            assert text[cited["start"] : cited["end"]] == cited["quote"]
    figure(f"{written} of {_ASKED} answers are the model's own and supported; the others are quoted, and say so")


def test_it_streams_sentences(origin: Origin, writing: edge.Served) -> None:
    body = {"query": next(iter(origin.judged.queries.values())), "collection": COLLECTION, "stream": True}
    with writing.client.stream("POST", "/v1/query", json=body) as answer:
        names = [line for line in answer.iter_lines() if line.startswith("event: ")]
    assert names[0] == "event: retrieval"
    assert "event: token" in names
    assert names[-1] == "event: done"
    assert writing.client.get("/v1/models").json()["data"][0]["id"] == "smollm2-135m"
