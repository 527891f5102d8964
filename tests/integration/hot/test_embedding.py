"""Embeddings and rankings through a whole gateway, from the real embedding server."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, new_key
from tests.support.engines import Engine
from tests.support.gateway import Gateway, gateway

RANKS = "all-minilm-l6-v2-late-interaction"


@pytest.fixture(scope="module")
def gate(embedding_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    entries = "".join(
        f"  - model_name: {name}\n"
        f"    litellm_params: {{model: hosted_vllm/{name}, api_base: '{embedding_engine.url}/v1',\n"
        f"                     input_cost_per_token: 0.000001}}\n"
        f"    model_info: {{mode: {mode}}}\n"
        for name, mode in ((embedding_engine.model, "embedding"), (RANKS, "rerank"))
    )
    with gateway(tmp_path_factory.mktemp("gate"), 1, configuration=f"model_list:\n{entries}") as one:
        yield one


@pytest.fixture
def client(gate: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gate.url, headers={"authorization": f"Bearer {gate.key}"}, timeout=30) as one:
        yield one


def test_documents_are_ranked_and_the_line_says_what_it_took(client: httpx.Client, gate: Gateway) -> None:
    key = new_key(client)
    asked = {"model": RANKS, "query": "a lost password", "documents": ["salted soup", "reset your password"]}
    answer = client.post("/v1/rerank", json=asked, headers={"authorization": f"Bearer {key['key']}"})
    assert answer.status_code == 200, answer.text
    assert [one["index"] for one in answer.json()["results"]] == [1, 0]
    (line,) = await_lines(gate, 1, key_id=key["id"])
    assert line["tokens_in"] == answer.json()["usage"]["total_tokens"] > 10
    assert line["nano_usd"] == line["tokens_in"] * 1000
    assert (line["route"], line["model_group"], line["tokens_out"]) == ("/v1/rerank", RANKS, 0)


def test_texts_are_embedded_as_the_server_takes_them(client: httpx.Client) -> None:
    asked: dict[str, Any] = {"model": "all-minilm-l6-v2", "input": ["short", "word " * 400]}
    refused = client.post("/v1/embeddings", json=asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    cut = client.post("/v1/embeddings", json={**asked, "truncate": "END", "input_type": "document"})
    assert (cut.status_code, cut.json()["truncated"]) == (200, [1])
    assert "x-stoker-ignored" not in cut.headers


@pytest.mark.parametrize(
    ("route", "asked", "words"),
    [
        ("/v1/rerank", {"model": "all-minilm-l6-v2", "query": "a", "documents": ["b"]}, "is for /v1/embeddings"),
        ("/v1/embeddings", {"model": RANKS, "input": "a"}, "is for /v1/rerank"),
        ("/v1/rerank", {"model": RANKS, "query": "a", "documents": []}, "documents must be a list"),
        ("/v1/rerank", {"model": RANKS, "query": "", "documents": ["a"]}, "query must be a text"),
    ],
)
def test_what_cannot_be_ranked_or_embedded_is_refused(
    client: httpx.Client, route: str, asked: dict[str, Any], words: str
) -> None:
    answer = client.post(route, json=asked)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (400, True), answer.text


def test_a_ranking_reserves_the_query_once_for_each_document(client: httpx.Client) -> None:
    """A cross-encoder reads it so often: a limit below that refuses before anything is computed."""
    limits = {"tpm": 2_000, "rpm": 100, "parallel": 10}
    key = new_key(client, limits=limits)
    asked = {"model": RANKS, "query": "q" * 100, "documents": ["a"] * 100}
    answer = client.post("/v1/rerank", json=asked, headers={"authorization": f"Bearer {key['key']}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    asked["documents"] = ["a"] * 5
    answer = client.post("/v1/rerank", json=asked, headers={"authorization": f"Bearer {key['key']}"})
    assert answer.status_code == 200
