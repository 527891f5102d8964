"""An edge answers as its origin does: the same passages in the same order, the same answers, the same citations."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.edge.conftest import COLLECTION, Origin
from tests.support.edge import Served

_QUESTIONS = 50
_TOLD = ("answer", "citations", "degraded", "degraded_reason", "model", "finish_reason", "prompt_version")
_FOUND = ("document_id", "document_version", "filename", "text", "start", "end", "page", "metadata")


def _asked(origin: Origin) -> list[str]:
    return list(origin.judged.queries.values())[:_QUESTIONS]


def test_fifty_questions_get_the_same_answers_and_citations(
    origin: Origin, served: Served, figure: Callable[[str], None]
) -> None:
    same = cited = 0
    for question in _asked(origin):
        body = {"query": question, "collection": COLLECTION, "use_cache": False}
        central = origin.everyone.post("/v1/query", json=body).json()
        edge = served.query(**body)
        assert edge["answered_by"] == "edge"
        same += {name: edge.get(name) for name in _TOLD} == {name: central.get(name) for name in _TOLD}
        for citation in edge["citations"]:
            path = f"/v1/collections/{COLLECTION}/documents/{citation['document_id']}/content"
            text = served.client.get(path, params={"version": citation["document_version"]}).text
            assert text[citation["start"] : citation["end"]] == citation["quote"]
            cited += 1
    figure(
        f"{same} of {_QUESTIONS} answers equal the origin's in text and citations; {cited} quotes verify at the edge"
    )
    assert same == _QUESTIONS
    assert cited >= _QUESTIONS * 0.8


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_searches_find_the_same_passages_in_the_same_order(
    origin: Origin, served: Served, mode: str, figure: Callable[[str], None]
) -> None:
    same, passages, furthest = 0, 0, 0.0
    for question in _asked(origin):
        body = {"query": question, "collection": COLLECTION, "mode": mode, "top_k": 10, "use_cache": False}
        central = origin.everyone.post("/v1/search", json=body).json()["data"]
        edge = served.client.post("/v1/search", json=body).json()
        assert edge["collection_version"] == origin.desk.client.get(f"/v1/collections/{COLLECTION}").json()["version"]
        pairs = list(zip(edge["data"], central, strict=True))
        same += [_of(one) for one in edge["data"]] == [_of(one) for one in central]
        furthest = max([furthest, *(abs(one["score"] - other["score"]) for one, other in pairs)])
        passages += len(pairs)
    figure(f"{mode}: {same} of {_QUESTIONS} rankings equal, {passages} passages, scores within {furthest:.1e}")
    assert same == _QUESTIONS


def _of(passage: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(passage[name] for name in _FOUND)


@pytest.mark.parametrize(
    "more",
    [
        {"filter": {"type": "eq", "key": "place", "value": "pier"}},
        {"filter": {"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2020}]}},
        {"filter": {"type": "ne", "key": "place", "value": "harbour"}},
        {"facets": ["place"]},
        {"query": "When does the peir open?", "fuzzy": True},
        {"mmr_lambda": 0.5},
        {"per_document": 1},
        {"rerank": True},
        {"fusion": {"method": "rrf", "dense_weight": 0.3}},
    ],
)
def test_filters_facets_corrections_and_ways_are_the_same(origin: Origin, served: Served, more: dict[str, Any]) -> None:
    body = {"query": "When does the pier open?", "collection": COLLECTION, "use_cache": False, **more}
    central = origin.everyone.post("/v1/search", json=body).json()
    edge = served.client.post("/v1/search", json=body).json()
    for name in ("facets", "suggestions", "degraded"):
        assert edge.get(name) == central.get(name)
    assert central["data"]
    assert [_of(one) for one in edge["data"]] == [_of(one) for one in central["data"]]


def test_a_stream_tells_what_the_whole_answer_says(served: Served, origin: Origin) -> None:
    body = {"query": _asked(origin)[0], "collection": COLLECTION, "use_cache": False}
    whole = served.query(**body)
    streamed = served.client.post("/v1/query", json={**body, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in streamed.text.splitlines() if line.startswith("event: ")]
    assert names[0] == "retrieval"
    assert names[-2:] == ["usage", "done"]
    assert whole["answer"] in streamed.text.replace("\\n", "\n").replace('\\"', '"')


def test_errors_have_the_gateways_envelope(origin: Origin, served: Served) -> None:
    for path, body in (
        ("/v1/search", {"query": "x", "collection": "nothing"}),
        ("/v1/query", {"query": "x", "collection": "nothing"}),
        ("/v1/query", {"query": " ", "collection": COLLECTION}),
        ("/v1/search", {"query": "x", "collection": COLLECTION, "top_k": 1000}),
        ("/v1/search", {"query": "x", "collection": COLLECTION, "filter": {"type": "eq"}}),
        ("/v1/nowhere", {}),
    ):
        central, edge = (client.post(path, json=body) for client in (origin.everyone, served.client))
        assert (edge.status_code, edge.json()) == (central.status_code, central.json())
        assert edge.headers["x-request-id"]
    said = served.client.post("/v1/query", json={"query": "x", "collection": COLLECTION, "conversation_id": "conv_1"})
    assert said.status_code == 400
    assert "messages" in said.json()["error"]["message"]
