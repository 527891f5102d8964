"""Embed texts: tokenise in one thread, wait in the queue, compute in another thread.

EmbeddingError
├── EmbeddingOverloaded   the queue is full
└── EmbeddingStopped      the server is shutting down, or the model failed
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference import metrics
from inference.batching import Entry, QueueFull, TokenQueue
from inference.encoder import Tokenised
from monitoring.logs import logger

_log = logger(__name__)


class EmbeddingError(Exception):
    """Texts could not be embedded."""


class EmbeddingOverloaded(EmbeddingError):
    """The queue holds more than `max_queue_tokens`.

    Attributes:
        retry_after_s: seconds that what waits is expected to take, at least 1.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the embedding queue is full")
        self.retry_after_s = max(1.0, retry_after_s)


class EmbeddingStopped(EmbeddingError):
    """The texts were queued, and the model could not compute them."""


class Model(Protocol):
    """What computes: `inference.encoder.Encoder`."""

    def tokenise(self, texts: Sequence[str]) -> list[Tokenised]: ...

    def embed(self, batch: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Embedded:
    """One request's result.

    Attributes:
        rows: float32[n, dimensions], in input order, L2-normalised.
        tokens: tokens computed, special ones included.
        truncated: texts that were cut at the model's limit.
    """

    rows: npt.NDArray[np.float32]
    tokens: int
    truncated: int


class Embedder:
    """Turns requests into batches; made by `open_embedder`."""

    def __init__(self, model: Model, queue: TokenQueue, batch_s: float) -> None:
        self._model = model
        self._queue = queue
        self._batch_s = batch_s
        self._waiting = asyncio.Event()
        self._tokenising = ThreadPoolExecutor(1, thread_name_prefix="tokenise")
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="torch")
        self._tokens_per_s = 2000.0  # a cautious start; measured from the first batch on

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed texts in input order; cancel it and what has not been computed never will be.

        Raises:
            EmbeddingOverloaded: the queue holds more than it may.
            EmbeddingStopped: the model failed on these texts.
        """
        loop = asyncio.get_running_loop()
        tokenised = await loop.run_in_executor(self._tokenising, self._model.tokenise, texts)
        entries = [Entry(row.ids, loop.create_future(), urgent=len(tokenised) == 1) for row in tokenised]
        try:
            self._queue.put(entries)
        except QueueFull as error:
            metrics.TEXTS.labels("refused").inc(len(texts))
            raise EmbeddingOverloaded(error.waiting_tokens / self._tokens_per_s) from error
        metrics.QUEUE_TOKENS.set(self._queue.waiting_tokens)
        self._waiting.set()
        try:
            rows = await asyncio.gather(*(entry.row for entry in entries))
        finally:
            for entry in entries:
                entry.row.cancel()  # does nothing to a row that is there
        truncated = sum(row.truncated for row in tokenised)
        metrics.TRUNCATED.inc(truncated)
        return Embedded(np.asarray(rows, dtype=np.float32), sum(len(row.ids) for row in tokenised), truncated)

    async def run(self) -> None:
        """Compute batches until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._waiting.wait()
            dropped = self._queue.dropped
            batch = self._queue.take(int(self._tokens_per_s * self._batch_s))
            metrics.TEXTS.labels("dropped").inc(self._queue.dropped - dropped)
            metrics.QUEUE_TOKENS.set(self._queue.waiting_tokens)
            if not batch:
                self._waiting.clear()
                continue
            started = time.perf_counter()
            try:
                rows = await loop.run_in_executor(self._computing, self._model.embed, [entry.ids for entry in batch])
                self._record(batch, time.perf_counter() - started)
                for entry, row in zip(batch, rows, strict=True):
                    if not entry.row.done():
                        entry.row.set_result(row)
            except Exception as error:  # whatever it was: the next batch must find somebody who computes it
                _log.exception("a batch failed", texts=len(batch))
                _fail(batch, error)
            except asyncio.CancelledError as error:  # the server ends: nobody may wait for ever
                _fail(batch, error)
                raise

    def close(self) -> None:
        """Let both threads end; a batch that runs is finished first."""
        self._tokenising.shutdown()
        self._computing.shutdown()

    def _record(self, batch: list[Entry], seconds: float) -> None:
        tokens = sum(len(entry.ids) for entry in batch)
        metrics.TEXTS.labels("embedded").inc(len(batch))
        metrics.TOKENS.inc(tokens)
        metrics.PADDED_TOKENS.inc(len(batch) * len(batch[-1].ids))
        metrics.BATCH_SECONDS.observe(seconds)
        self._tokens_per_s += 0.2 * (tokens / max(seconds, 1e-6) - self._tokens_per_s)


@asynccontextmanager
async def open_embedder(
    model: Model, max_queue_tokens: int, max_batch_tokens: int, batch_s: float = 0.1
) -> AsyncIterator[Embedder]:
    """Run an embedder; at the end, what waits gets `EmbeddingStopped`.

    Args:
        batch_s: seconds that a batch may take, by the speed of those before; one text is always a batch.
    """
    queue = TokenQueue(max_queue_tokens, max_batch_tokens)
    embedder = Embedder(model, queue, batch_s)
    running = asyncio.create_task(embedder.run(), name="embedder")
    try:
        yield embedder
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        while left := queue.take():
            _fail(left, RuntimeError("the server is shutting down"))
        embedder.close()


def _fail(batch: list[Entry], cause: BaseException) -> None:
    for entry in batch:
        if not entry.row.done():
            stopped = EmbeddingStopped("the model failed on this batch")
            stopped.__cause__ = cause
            entry.row.set_exception(stopped)
