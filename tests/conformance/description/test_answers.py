"""What our own routes answer, held against their description: every field of it, and no other."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from api.answer_forms import FORMS
from tests.faults.chaos.plain import Plain
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # every part is started


def test_answers_are_described_whole(house: Plain, figure: Callable[[str], None]) -> None:
    """Each answer of our own routes that has a form has it, and no field besides: what is not described is unknown."""
    with httpx.Client(base_url=house.gate.url, headers={"x-api-key": house.gate.key}, timeout=120) as caller:
        about = caller.get("/openapi.json").json()
        seen: Counter[tuple[str, str]] = Counter()
        for (method, path), answer in _walk(caller):
            assert answer.is_success, (method, path, answer.text)
            made = about["paths"][path][method]["responses"][str(answer.status_code)]
            schema = {**made["content"]["application/json"]["schema"], "components": _closed(about["components"])}
            wrong = [
                f"{one.json_path}: {one.message}" for one in Draft202012Validator(schema).iter_errors(answer.json())
            ]
            assert wrong == [], (method, path)
            seen[method, path] += 1
    assert set(seen) == set(FORMS)
    figure(f"{sum(seen.values())} answers of {len(seen)} operations are as described, and hold nothing else")


def _closed(schema: Any) -> Any:
    """The same, with every object that has properties allowing no others."""
    if isinstance(schema, dict):
        inner = {name: _closed(one) for name, one in schema.items()}
        return {**inner, "additionalProperties": False} if "properties" in schema and "type" in schema else inner
    return [_closed(one) for one in schema] if isinstance(schema, list) else schema


def _walk(caller: httpx.Client) -> Iterator[tuple[tuple[str, str], httpx.Response]]:
    """Meet every operation whose answer is described, on a collection of its own."""
    collections, collection = "/v1/collections", "/v1/collections/{name}"
    documents, document, job = f"{collection}/documents", f"{collection}/documents/{{document_id}}", "/v1/jobs/{job_id}"

    def call(method: str, path: str, body: Any = None, **ids: str) -> tuple[tuple[str, str], httpx.Response]:
        return (method, path), caller.request(method, path.format(name="owls", **ids), json=body)

    def ended(job_id: str) -> httpx.Response:
        until(lambda: caller.get(f"/v1/jobs/{job_id}").json()["status"] not in ("queued", "running"), "the job ends")
        return caller.get(f"/v1/jobs/{job_id}")

    yield call("post", collections, {"name": "owls", "description": "of the tower"})
    yield call("get", collections)
    yield call("patch", collection, {"metadata": {"of": "owls"}, "search": {"mode": "lexical"}})
    owl = {"content": "The owl sleeps in the bell tower.", "title": "owl.txt", "metadata": {"kind": "bird"}}
    sent = call("post", "/v1/ingest", {"collection": "owls", "documents": [{**owl, "acl": {"groups": ["keepers"]}}]})
    yield sent
    yield ("get", job), ended(sent[1].json()["job_id"])
    many = [{"content": "The cat sleeps in the nave.", "title": "cat.txt", "metadata": {"kind": "cat"}}]
    batch = call("post", "/v1/ingest/batch", {"collection": "owls", "items": many})
    yield batch
    ended(batch[1].json()["job_id"])
    yield call("post", f"{job.removesuffix('/{job_id}')}/{{job_id}}/retry", job_id=batch[1].json()["job_id"])
    yield call("get", documents)
    found = caller.get("/v1/collections/owls/documents").json()["data"]
    yield call("get", document, document_id=found[0]["id"])
    yield call("patch", document, {"acl": None}, document_id=found[0]["id"])
    search = {"collection": "owls", "query": "where does the owl slep", "facets": ["kind"]}
    for more in ({}, {"fuzzy": True}, {"mode": "hybrid"}):
        yield call("post", "/v1/search", {**search, **more})
    for more in ({}, {"grounding": "mark"}, {"query_work": {"rewrite": True, "multi_query": 2}}):
        yield call("post", "/v1/query", {"collection": "owls", "query": "Where does the owl sleep?", **more})
    model = caller.get("/v1/collections/owls").json()["embedding_model"]
    yield call("post", f"{collection}/reindex", {"embedding_model": model, "chunking": {"characters": 500}})
    yield call("get", collection)
    yield call("post", f"{collection}/reindex/retry")
    yield call("delete", f"{collection}/reindex")
    yield call("delete", document, document_id=found[0]["id"])
    slow = call("post", "/v1/ingest", {"collection": "owls", "documents": [{**owl, "title": "late.txt"}]})
    yield slow
    yield call("delete", job, job_id=slow[1].json()["job_id"])
    yield call("delete", collection)
