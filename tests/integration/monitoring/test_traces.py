"""Traces of a gateway and its ingestion worker, read back from a store that others wrote, over OTLP."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.answers.planted import FORMATS, facts, file_of
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.answering import Desk, desk
from tests.support.network import free_port
from tests.support.openai_server import Fault, OpenAiServer, openai_server_in_thread
from tests.support.tracestore import Told, TraceStore, trace_store
from tests.support.waiting import until

__all__ = ["servers"]

pytestmark = pytest.mark.slow

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FORMAT = FORMATS[0]
FACT = facts(FORMAT)[0]
COLLECTION = "traced"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TraceStore]:
    with trace_store(tmp_path_factory.mktemp("phoenix")) as one:
        yield one


@pytest.fixture(scope="module")
def words() -> Iterator[OpenAiServer]:
    with openai_server_in_thread() as one:
        one.script = lambda _, __: FACT.right
        yield one


@pytest.fixture(scope="module")
def opened(
    servers: Servers, words: OpenAiServer, store: TraceStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    settings = {"STOKER_OTLP_ENDPOINT": store.url, "STOKER_TRACES_PER_SECOND": "100"}
    folder = tmp_path_factory.mktemp("traced")
    addresses = servers.milvus_uri, servers.embedding_url
    with desk(folder, *addresses, settings, words=words.base_url) as one:
        one.fill(COLLECTION, [file_of(FORMAT, facts(FORMAT))])
        yield one


def test_one_question_s_trace_has_every_stage_where_it_belongs(
    opened: Desk, store: TraceStore, words: OpenAiServer
) -> None:
    body = {"query": FACT.question, "collection": COLLECTION, "model": "words"}
    body["query_work"] = {"multi_query": 1}
    before = len(words.headers)
    answer = opened.client.post(
        "/v1/query", json=body, headers={"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "traced.1"}
    )
    assert answer.status_code == 200, answer.text
    spans = store.trace("POST /v1/query", "generate", "cite", trace_id=TRACE)
    parents = _parents(spans)
    search = "retrieval"
    assert parents["POST /v1/query"] == [CALLER]
    assert parents["multi_query"] == ["POST /v1/query"]
    assert parents["retrieve"] == ["POST /v1/query"]
    assert parents[search] == ["retrieve"]
    for stage in ("pin", "dense", "lexical", "accept"):
        assert set(parents[stage]) == {search}, stage
    assert parents["embed"] == [search]
    assert parents["embeddings all-minilm-l6-v2"] == ["embed"]
    assert parents["pack"] == ["POST /v1/query"]
    assert parents["generate"] == ["POST /v1/query"]
    assert sorted(parents["chat words"]) == ["generate", "multi_query"]
    assert {"generate"} == set(parents["verify"]) == set(parents["cite"])
    assert set(parents["admit"]) == {"POST /v1/query", "multi_query"}

    by_name = {span.name: span for span in spans}
    by_id = {span.id: span for span in spans}
    for span in spans:
        above = by_id.get(span.parent_id)
        assert above is None or (above.begin <= span.begin and span.end <= above.end), (span.name, above.name)
    root = by_name["POST /v1/query"]
    assert root.attributes["stoker.request_id"] == "traced.1"
    assert root.attributes["http.route"] == "/v1/query"
    assert int(root.attributes["http.response.status_code"]) == 200
    assert not any(span.error for span in spans)
    written = next(span for span in spans if span.name == "chat words" and by_id[span.parent_id].name == "generate")
    assert written.attributes["gen_ai.operation.name"] == "chat"
    assert int(written.attributes["gen_ai.usage.output_tokens"]) == len(FACT.right.split())
    assert int(written.attributes["gen_ai.usage.input_tokens"]) > 0

    # What stands in the trace is what the engine was told, so that its own spans stand below ours.
    sent = [headers.get("traceparent", "") for headers in words.headers[before:]]
    asked = [span.id for span in spans if span.name == "chat words"]
    assert sorted(sent) == sorted(f"00-{TRACE}-{span_id}-01" for span_id in asked)


def test_no_text_of_questions_answers_or_documents_stands_in_traces(opened: Desk, store: TraceStore) -> None:
    body = {"query": FACT.question, "collection": COLLECTION, "model": "words"}
    secret = "the caller's own words xyzzy"
    sent = [{"role": "user", "content": secret}]
    opened.client.post("/v1/chat/completions", json={"model": "words", "messages": sent}).raise_for_status()
    opened.client.post("/v1/query", json=body).raise_for_status()
    store.trace("POST /v1/chat/completions")
    told = str([(span.name, span.attributes) for span in map(Told, store.spans())])
    for text in ("xyzzy", FACT.value, FACT.question, FACT.right, opened.gate.key):
        assert text not in told


def test_a_call_that_failed_is_kept_with_what_failed(opened: Desk, store: TraceStore, words: OpenAiServer) -> None:
    words.fault = Fault.ERROR_500
    try:
        body = {"model": "words", "messages": [{"role": "user", "content": "a b"}]}
        headers = {"traceparent": f"00-{'1' * 32}-{CALLER}-00"}  # the caller keeps no trace of this
        answer = opened.client.post("/v1/chat/completions", json=body, headers=headers)
    finally:
        words.fault = None
    assert answer.status_code >= 500
    spans = store.trace("POST /v1/chat/completions", "chat words", trace_id="1" * 32)
    failed = {span.name: span.attributes.get("error.type") for span in spans if span.error}
    assert failed.keys() == {"POST /v1/chat/completions", "chat words"}
    assert failed["chat words"] == "failed"


def test_a_document_s_trace_shows_the_stages_of_its_ingestion(opened: Desk, store: TraceStore) -> None:
    spans = store.trace("ingest document", "indexing")
    parents = _parents(spans)
    assert {stage: set(parents[stage]) for stage in ("parsing", "embedding", "indexing")} == {
        "parsing": {"ingest document"},
        "embedding": {"ingest document"},
        "indexing": {"ingest document"},
    }
    assert parents["embeddings all-minilm-l6-v2"] == ["embedding"]
    (root,) = (span for span in spans if span.name == "ingest document")
    assert root.attributes["stoker.status"] == "ready"


def test_lines_of_the_log_name_the_trace(opened: Desk) -> None:
    headers = {"traceparent": f"00-{'2' * 32}-{CALLER}-01"}
    opened.client.get("/v1/models", headers=headers).raise_for_status()
    until(lambda: "2" * 32 in opened.gate.log, "the line is written")
    lines = [line for line in opened.gate.log.splitlines() if "2" * 32 in line]
    assert len(lines) == 1
    assert '"route":"/v1/models"' in lines[0]


def test_a_collector_that_is_away_costs_nobody_an_answer(servers: Servers, words: OpenAiServer, tmp_path: Path) -> None:
    settings = {"STOKER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "STOKER_TRACES_PER_SECOND": "100"}
    with desk(tmp_path, servers.milvus_uri, servers.embedding_url, settings, words=words.base_url) as lonely:
        body = {"model": "words", "messages": [{"role": "user", "content": "a b"}]}
        for _ in range(20):
            lonely.client.post("/v1/chat/completions", json=body).raise_for_status()


def _parents(spans: Sequence[Told]) -> dict[str, list[str]]:
    """The names of their parents by the names of spans; of a parent that is somebody else's, its id."""
    names = {span.id: span.name for span in spans}
    found: dict[str, list[str]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(names.get(span.parent_id, span.parent_id))
    return found
