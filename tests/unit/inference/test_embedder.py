"""Texts to rows: prompts, urgency, cut texts and shorter rows, with a model that is only arithmetic."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from inference.batcher import open_batcher
from inference.embedder import Embedder
from inference.loaded import Matrix
from inference.reranker import Against, LateModel, LateReranker
from inference.tokens import Cut, TextTooLong, Tokenised, Tokeniser
from tests.unit.inference.test_tokens import ids, tokeniser

_PROMPTS = {"": "", "query": "query: ", "document": ""}


class CountModel:
    """A row counts each of the vocabulary's tokens; remembers what it was given, in order."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.seen: list[list[int]] = []

    def compute(self, batch: Sequence[Tokenised]) -> list[Matrix]:
        assert self.go.wait(5)
        self.seen += [work.ids for work in batch]
        return [self._row(work) for work in batch]

    def vectors(self, batch: Sequence[Tokenised]) -> list[Matrix]:
        return [np.eye(25, dtype=np.float32)[work.ids] for work in batch]

    def _row(self, work: Tokenised) -> Matrix:
        row = np.bincount(work.ids, minlength=25).astype(np.float32)
        return np.asarray(row / np.linalg.norm(row), dtype=np.float32)


@asynccontextmanager
async def embedding(model: CountModel, most: int = 6) -> AsyncIterator[Embedder]:
    with ThreadPoolExecutor(1) as computing, ThreadPoolExecutor(1) as tokenising:
        async with open_batcher(model, [computing], 1000, 8) as batcher:
            yield Embedder(batcher, tokeniser(most), _PROMPTS, tokenising)


async def test_a_text_gets_the_prompt_of_what_it_is_for() -> None:
    model = CountModel()
    async with embedding(model) as embedder:
        for purpose in (None, "query", "document"):
            await embedder.embed(["w1"], purpose)
    plain = ids("[CLS]", "w1", "[SEP]")
    assert model.seen == [plain, ids("[CLS]", "query", ":", "w1", "[SEP]"), plain]


async def test_texts_are_tokenised_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question's tokens come between two slices of bulk work."""
    sizes: list[int] = []
    texts = Tokeniser.texts

    def counted(self: Tokeniser, given: Sequence[str], *more: Any) -> list[Tokenised]:
        sizes.append(len(given))
        return texts(self, given, *more)

    monkeypatch.setattr(Tokeniser, "texts", counted)
    async with embedding(CountModel()) as embedder:
        bulk = asyncio.create_task(embedder.embed(["w1"] * 100, "document"))
        await asyncio.sleep(0)
        await embedder.embed(["w2"], "query")
        await bulk
    assert max(sizes) <= 8
    assert 1 in sizes[:-1]


async def test_texts_beyond_a_slice_keep_their_order_and_their_places_in_errors() -> None:
    texts = [f"w{at % 20}" for at in range(150)]
    async with embedding(CountModel()) as embedder:
        rows = (await embedder.embed(texts)).rows
        assert [int(np.argmax(row[5:])) for row in rows] == [at % 20 for at in range(150)]
        with pytest.raises(TextTooLong) as caught:
            await embedder.embed([*texts, "w1 w2 w3 w4 w5"])
        assert caught.value.index == 150
        cut = await embedder.embed([*texts, "w1 w2 w3 w4 w5"], cut=Cut.END)
    assert (cut.truncated, cut.tokens) == ([150], 150 * 3 + 6)


async def test_shorter_rows_have_length_1() -> None:
    async with embedding(CountModel()) as embedder:
        (row,) = (await embedder.embed(["w1 w2"], dimensions=7)).rows
        (none,) = (await embedder.embed([ids("w9")], dimensions=7)).rows
    assert (len(row), pytest.approx(float(np.linalg.norm(row)))) == (7, 1)
    assert np.isfinite(none).all()


@pytest.mark.parametrize(
    ("purpose", "texts", "ahead"),
    [
        (None, ["w9"], True),
        ("query", ["w9", "w9"], True),
        ("query", ["w9"] * 101, False),
        ("document", ["w9"], False),
        (None, ["w9", "w9"], False),
    ],
)
async def test_questions_go_ahead_of_documents(purpose: str | None, texts: list[str], ahead: bool) -> None:
    model = CountModel()
    async with embedding(model) as embedder:
        model.go.clear()
        bulk = asyncio.create_task(embedder.embed(["w1"] * 40, "document"))
        await asyncio.sleep(0.05)
        asked = asyncio.create_task(embedder.embed(texts, purpose))
        await asyncio.sleep(0.05)
        model.go.set()
        await asyncio.gather(bulk, asked)
    place = next(at for at, tokens in enumerate(model.seen) if ids("w9")[0] in tokens)
    assert (place < 10) is ahead


async def test_late_interaction_scores_each_of_the_querys_tokens_by_its_nearest() -> None:
    with ThreadPoolExecutor(1) as computing, ThreadPoolExecutor(1) as tokenising:
        async with open_batcher(LateModel(CountModel()), [computing], 1000, 100) as batcher:
            reranker = LateReranker(batcher, tokeniser(), tokenising)
            ranked = await reranker.rank("w1 w2", ["w3", "w2 w9", "w2 w1", "w1 w1 w1 w1 w1"], Cut.END)
    assert ranked.scores == [0.0, 0.5, 1.0, 0.5]
    assert (ranked.truncated, ranked.tokens) == ([3], 4 + 3 + 4 + 4 + 6)


def test_a_query_that_is_against_nothing_gives_its_vectors() -> None:
    (vectors,) = LateModel(CountModel()).compute([Against(ids("w1", "w2"), None)])
    assert vectors.shape == (2, 25)
