"""The embedding server with its real model, over HTTP."""

import asyncio
import base64
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
import orjson
import pytest

from tests.support.engines import EMBEDDING_QUEUE_TOKENS, Engine, start_embeddings


@pytest.fixture
async def client(embedding_engine: Engine) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(embedding_engine.url) as session:
        yield session


async def _post(client: aiohttp.ClientSession, body: Any, path: str = "/v1/embeddings") -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with client.post(path, data=io.BytesIO(data)) as response:
        return response.status, orjson.loads(await response.read())


async def _rows(client: aiohttp.ClientSession, texts: str | list[str]) -> npt.NDArray[np.float32]:
    status, body = await _post(client, {"input": texts})
    assert status == 200, body
    return np.array([row["embedding"] for row in body["data"]], dtype=np.float32)


async def _metric(client: aiohttp.ClientSession, name: str) -> float:
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


async def test_rows_have_384_dimensions_and_length_1(client: aiohttp.ClientSession) -> None:
    rows = await _rows(client, ["one", "a longer text about many things", "x" * 3000])
    assert rows.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


async def test_order_is_kept_and_company_changes_nothing(client: aiohttp.ClientSession) -> None:
    texts = [f"number {at} " + "and so on " * (at % 17) for at in range(60)]
    together = await _rows(client, texts)
    for at in (0, 16, 33, 59):
        alone = await _rows(client, texts[at])
        assert float(alone[0] @ together[at]) > 0.999
    assert len({tuple(row) for row in together.tolist()}) == 60


async def test_near_in_meaning_is_near_in_space(client: aiohttp.ClientSession) -> None:
    query, good, bad = await _rows(
        client, ["How do I reset my password?", "Steps to recover a forgotten login", "The soup needs more salt"]
    )
    assert float(query @ good) > 0.4 > float(query @ bad) + 0.2


async def test_base64_holds_the_same_floats(client: aiohttp.ClientSession) -> None:
    _, plain = await _post(client, {"input": "the same"})
    _, packed = await _post(client, {"input": "the same", "encoding_format": "base64"})
    row = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(row, plain["data"][0]["embedding"], atol=1e-6)
    assert plain["usage"] == packed["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert plain["model"] == "all-minilm-l6-v2"


@pytest.mark.parametrize("cut", ["START", "end"])
async def test_a_long_text_is_cut_at_256_tokens_where_it_is_asked_for_and_said(
    client: aiohttp.ClientSession, cut: str
) -> None:
    before = await _metric(client, "stoker_embedding_truncated_texts_total")
    _, body = await _post(client, {"input": ["short", "word " * 1000], "truncate": cut})
    assert body["usage"]["prompt_tokens"] == 3 + 256
    assert body["truncated"] == [1]
    assert await _metric(client, "stoker_embedding_truncated_texts_total") == before + 1
    _, whole = await _post(client, {"input": "short", "truncate": cut})
    assert "truncated" not in whole


async def test_the_two_ends_of_a_long_text_are_not_the_same(client: aiohttp.ClientSession) -> None:
    text = "cats and dogs " * 200 + "stocks and bonds " * 200
    rows = [
        (await _post(client, {"input": text, "truncate": cut}))[1]["data"][0]["embedding"] for cut in ("START", "END")
    ]
    (start, end), parts = rows, await _rows(client, ["cats and dogs " * 50, "stocks and bonds " * 50])
    assert np.dot(start, parts[1]) > 0.8 > 0.5 > np.dot(start, parts[0])
    assert np.dot(end, parts[0]) > 0.8 > 0.5 > np.dot(end, parts[1])


async def test_token_ids_are_texts(client: aiohttp.ClientSession) -> None:
    """`the same` is 1996 2168 between 101 and 102."""
    (text,) = await _rows(client, "the same")
    for tokens in ([1996, 2168], [101, 1996, 2168, 102], [[1996, 2168]]):
        status, body = await _post(client, {"input": tokens})
        assert (status, body["usage"]["prompt_tokens"]) == (200, 4)
        assert np.dot(body["data"][0]["embedding"], text) > 0.9999


async def test_the_models_say_what_they_are(client: aiohttp.ClientSession) -> None:
    async with client.get("/v1/models") as response:
        embedding, reranking = (await response.json())["data"]
    assert (embedding["id"], embedding["dimensions"], embedding["max_tokens"]) == ("all-minilm-l6-v2", 384, 256)
    assert (reranking["id"], reranking["task"]) == ("all-minilm-l6-v2-late-interaction", "rerank")
    assert reranking["method"] == "late interaction over the token vectors of all-minilm-l6-v2"


async def test_documents_are_ranked_the_best_first(client: aiohttp.ClientSession) -> None:
    documents = ["The soup needs salt.", {"text": "Reset a forgotten password in the settings."}, "word " * 500]
    asked = {"query": "How do I reset my password?", "documents": documents, "return_documents": True}
    status, body = await _post(client, {**asked, "truncate": "END", "top_n": 2}, "/v1/rerank")
    assert status == 200, body
    best, second = body["results"]
    assert (best["index"], best["document"]["text"]) == (1, documents[1]["text"])  # type: ignore[index]
    assert 1 >= best["relevance_score"] > 0.5 > second["relevance_score"] >= -1
    assert (body["model"], body["truncated"]) == ("all-minilm-l6-v2-late-interaction", [2])
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 256
    assert body["id"].startswith("rerank-")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"documents": ["a"]}, 400, "query"),
        ({"query": "", "documents": ["a"]}, 400, "`query` must hold"),
        ({"query": "a", "documents": []}, 400, "at least one text"),
        ({"query": "a", "documents": ["a", ""]}, 400, "no empty one"),
        ({"query": "a", "documents": ["a", 3]}, 400, "documents"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, 400, "top_n"),
        ({"query": "a", "documents": ["b", "word " * 300]}, 400, "`documents[1]` has 302 tokens"),
        ({"query": "word " * 300, "documents": ["b"], "truncate": "END"}, 400, "`query` has 302 tokens"),
        ({"query": "a", "documents": ["a"], "model": "other"}, 404, "'other' is not served here"),
        ({"query": "a", "documents": ["a"], "model": "all-minilm-l6-v2"}, 400, "is for /v1/embeddings"),
        ({"query": "a", "documents": ["a"] * 2049}, 400, "at most 2048"),
    ],
)
async def test_a_bad_ranking_is_refused(client: aiohttp.ClientSession, body: Any, status: int, words: str) -> None:
    got, answer = await _post(client, body, "/v1/rerank")
    assert (got, words in answer["error"]["message"]) == (status, True), answer


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"input":', 400, "not valid JSON"),
        (b'{"input":"\\ud800"}', 400, "not valid JSON"),
        (b"[]", 400, "body"),
        ({}, 400, "input"),
        ({"input": []}, 400, "at least one text"),
        ({"input": ["a", ""]}, 400, "no empty one"),
        ({"input": ["a"] * 100_000}, 400, "at most 2048"),
        ({"input": "a" * 1_000_000}, 400, "at most 200000"),
        ({"input": "a", "dimensions": 8}, 400, "was trained for 384"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions"),
        ({"input": ["a", [1]]}, 400, "texts alone"),
        ({"input": [1, True]}, 400, "texts alone"),
        ({"input": [1, 1.5]}, 400, "texts alone"),
        ({"input": {"a": 1}}, 400, "input"),
        ({"input": [5, 30522]}, 400, "`input[0]` holds the token id 30522"),
        ({"input": [[5], [-1]]}, 400, "`input[1]` holds the token id -1"),
        ({"input": [[5], []]}, 400, "no empty one"),
        ({"input": ["a", "word " * 300]}, 400, "`input[1]` has 302 tokens and the model takes 256"),
        ({"input": "a", "truncate": "MIDDLE"}, 400, "truncate"),
        ({"input": "a", "input_type": "poem"}, 400, "input_type"),
        ({"input": "a", "model": "all-minilm-l6-v2-late-interaction"}, 400, "is for /v1/rerank"),
        ({"input": "a", "model": "other"}, 404, "'other' is not served here"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "a", "surprise": 1}, 400, "surprise"),
        (b" " * (17 * 1024 * 1024), 413, "larger than"),
    ],
)
async def test_bad_input_is_refused_and_the_server_unhurt(
    client: aiohttp.ClientSession, body: Any, status: int, words: str
) -> None:
    got, answer = await _post(client, body)
    assert got == status
    assert words in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert (await _post(client, {"input": "still here"}))[0] == 200


async def test_an_overloaded_server_answers_429_with_retry_after_and_nothing_else(
    client: aiohttp.ClientSession,
) -> None:
    async def ask() -> tuple[int, str | None]:
        async with client.post("/v1/embeddings", data=orjson.dumps({"input": ["word " * 200] * 8})) as response:
            await response.read()
            return response.status, response.headers.get("retry-after")

    answers = await asyncio.gather(*(ask() for _ in range(20)))
    assert {status for status, _ in answers} == {200, 429}
    assert all(int(wait or 0) >= 1 for status, wait in answers if status == 429)


async def test_two_hundred_clients_at_once_hear_nothing_but_429_with_retry_after(
    embedding_engine: Engine, figure: Callable[[str], None]
) -> None:
    async def ask(session: aiohttp.ClientSession, number: int) -> tuple[int, str | None]:
        texts = [f"client {number} says " + "word " * (number % 60)] * (1 + number % 7)
        async with session.post("/v1/embeddings", data=orjson.dumps({"input": texts})) as response:
            await response.read()
            return response.status, response.headers.get("retry-after")

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(embedding_engine.url, connector=connector) as session:
        answers = await asyncio.gather(*(ask(session, number) for number in range(200)))
    statuses = Counter(status for status, _ in answers)
    figure(f"200 clients at once, {EMBEDDING_QUEUE_TOKENS} tokens may wait: {dict(statuses)}")
    assert set(statuses) <= {200, 429}
    assert statuses[200] > 0
    assert all(int(wait or 0) >= 1 for status, wait in answers if status == 429)


@pytest.mark.long
async def test_memory_stays_flat_over_fifty_thousand_texts(tmp_path: Path, figure: Callable[[str], None]) -> None:
    with start_embeddings(tmp_path) as engine:
        seen: dict[int, int] = {}
        async with aiohttp.ClientSession(engine.url) as session:
            for first in range(0, 50_000, 500):
                texts = [f"{number} " + "word " * (number * 7919 % 90) for number in range(first, first + 500)]
                async with session.post("/v1/embeddings", data=orjson.dumps({"input": texts})) as response:
                    assert response.status == 200
                    await response.read()
                if (first + 500) % 10_000 == 0:
                    seen[first + 500] = _resident_bytes(engine.pid)
    shown = ", ".join(f"{texts:,}: {resident / 1e6:.0f} MB" for texts, resident in seen.items())
    figure(f"resident after texts: {shown}")
    assert seen[50_000] < seen[10_000] * 1.05


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_what_its_client_left_is_not_computed(client: aiohttp.ClientSession) -> None:
    dropped = await _metric(client, 'stoker_embedding_texts_total{outcome="dropped"}')
    body = orjson.dumps({"input": ["word " * 200] * 60})  # a second's work; an empty queue takes it all

    async def leave() -> None:
        async with client.post("/v1/embeddings", data=body) as response:
            await response.read()

    leaving = asyncio.create_task(leave())
    for _ in range(500):
        if await _metric(client, "stoker_embedding_queue_tokens") > 0:
            break
        await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await _rows(client, "a query after it")
    for _ in range(500):
        if await _metric(client, 'stoker_embedding_texts_total{outcome="dropped"}') > dropped:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("what nobody waits for was computed")
