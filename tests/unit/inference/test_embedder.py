"""Requests into batches and back, with a model that is only arithmetic."""

import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from inference.embedder import EmbeddingOverloaded, EmbeddingStopped, open_embedder
from inference.encoder import Tokenised


class LengthModel:
    """Embeds a text as its length; waits for `go` before each batch."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.embedded = 0
        self.threads: set[str] = set()

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        return [Tokenised([ord(letter) for letter in text][:8], len(text) > 8) for text in texts]

    def embed(self, batch: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        assert self.go.wait(5)
        self.threads.add(threading.current_thread().name)
        self.embedded += len(batch)
        if batch[0] == [ord("!")]:
            raise RuntimeError("out of memory")
        if batch[0] == [ord("?")]:
            raise KeyError("a defect of the model's own code")
        if batch[0] == [ord("-")]:
            batch = []  # a row too few
        return np.array([[len(ids), ids[0]] for ids in batch], dtype=np.float32)


async def test_rows_come_back_in_input_order_with_their_tokens_counted() -> None:
    model = LengthModel()
    async with open_embedder(model, 1000, 10) as embedder:
        result = await embedder.embed(["aaaa", "b", "cccccccccccc", "dd"])
    assert result.rows.tolist() == [[4, 97], [1, 98], [8, 99], [2, 100]]
    assert (result.tokens, result.truncated) == (15, 1)
    assert len(model.threads) == 1


async def test_what_a_client_left_is_never_computed() -> None:
    model = LengthModel()
    async with open_embedder(model, 1000, 4) as embedder:
        model.go.clear()
        running = asyncio.create_task(embedder.embed(["aaaa"]))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(embedder.embed(["bbbb", "cccc"]))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        model.go.set()
        await running
        await embedder.embed(["dddd"])
    assert model.embedded == 2


async def test_a_full_queue_says_when_to_come_back() -> None:
    model = LengthModel()
    async with open_embedder(model, 8, 4) as embedder:
        model.go.clear()
        tasks = [asyncio.create_task(embedder.embed(["aaaa"]))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(embedder.embed(["bbbb"])) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(EmbeddingOverloaded) as caught:
            await embedder.embed(["cccc"])
        assert caught.value.retry_after_s >= 1
        model.go.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("text", ["!", "?", "-"])
async def test_a_batch_that_fails_fails_its_texts_and_no_others(text: str) -> None:
    async with open_embedder(LengthModel(), 1000, 1) as embedder:
        with pytest.raises(EmbeddingStopped):
            async with asyncio.timeout(20):
                await embedder.embed([text])
        assert (await embedder.embed(["a"])).rows.tolist() == [[1, 97]]


class SlowModel(LengthModel):
    """Takes 2 ms for a token; texts are told apart by their first letter."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.asked = threading.Event()

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]:
        if texts == ["bbbb"]:
            self.asked.set()
        return super().tokenise(texts)

    def embed(self, batch: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        self.batches.append(len(batch))
        time.sleep(0.002 * sum(len(ids) for ids in batch))
        return super().embed(batch)


async def test_batches_grow_no_longer_than_a_question_may_wait() -> None:
    model = SlowModel()
    async with open_embedder(model, 100_000, 1000, batch_s=0.04) as embedder:  # 20 tokens, 5 texts
        await embedder.embed(["aaaa"] * 200)
        assert max(model.batches[-10:]) <= 6
        model.go.clear()
        bulk = asyncio.create_task(embedder.embed(["aaaa"] * 50))
        question = asyncio.create_task(embedder.embed(["bbbb"]))
        assert await asyncio.to_thread(model.asked.wait, 5)
        await asyncio.sleep(0.05)  # both wait now, the bulk's first batch half done
        before = len(model.batches)
        model.go.set()
        await question
        assert len(model.batches) - before <= 2  # its own, and the one that has begun since
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)


async def test_what_waits_at_the_end_is_told() -> None:
    model = LengthModel()
    model.go.clear()
    async with open_embedder(model, 1000, 4) as embedder:
        first = asyncio.create_task(embedder.embed(["aaaa"]))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(embedder.embed(["bbbb"]))
        await asyncio.sleep(0.05)
        model.go.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, EmbeddingStopped) for result in results)
