"""Compute works in batches: they wait in the queue, and one thread computes what is taken from it.

InferenceError
├── Overloaded   the queue is full
└── Stopped      the server is shutting down, or the model failed
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from inference import metrics
from inference.batching import Entry, QueueFull, Request, TokenQueue, Work
from monitoring.logs import logger

_log = logger(__name__)

_ATTENTIVE_S = 10.0


class InferenceError(Exception):
    """Works could not be computed."""


class Overloaded(InferenceError):
    """The queue holds more than it may.

    Attributes:
        retry_after_s: seconds that what waits is expected to take, at least 1.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_s = max(1.0, retry_after_s)


class Stopped(InferenceError):
    """The works were queued, and the model could not compute them."""


class Model(Protocol):
    """What computes: `inference.encoder.Encoder`, for one."""

    def compute(self, batch: Sequence[Any]) -> Iterable[Any]:
        """One result for each work, in their order; blocks."""


@dataclass(slots=True)
class Pace:
    """How long a batch may take; models that share threads share it, too.

    While questions come, each may wait for a batch that has begun, so batches are short; else they are long, which
    computes more in all.

    Args:
        batch_s: seconds, by the speed of the batches before; one text is always a batch.
        asked_batch_s: the same, within `_ATTENTIVE_S` after a question.
    """

    batch_s: float = 0.25
    asked_batch_s: float = 0.01
    asked_at_s: float = -math.inf

    def limit_s(self, now_s: float) -> float:
        return self.asked_batch_s if self.attentive_s(now_s) > 0 else self.batch_s

    def attentive_s(self, now_s: float) -> float:
        """Seconds for which another question is expected; 0: none is."""
        return max(0.0, self.asked_at_s + _ATTENTIVE_S - now_s)


class Batcher:
    """Turns requests into batches; made by `open_batcher`."""

    def __init__(self, model: Model, queue: TokenQueue, lanes: Sequence[Executor], pace: Pace) -> None:
        self._model = model
        self._lanes = lanes
        self._queue = queue
        self._pace = pace
        self._waiting = asyncio.Event()
        self._asked = asyncio.Event()
        self._tokens_per_s = 2000.0  # of one lane; a cautious start, measured from the first batch on

    async def compute(self, works: Sequence[Work], *, urgent: bool) -> list[Any]:
        """Results in the order of their works; cancel it and what has not been computed never will be.

        Args:
            urgent: ahead of all that is not.

        Raises:
            Overloaded: the queue holds more than it may.
            Stopped: the model failed on these works, or the server ends.
        """
        if not works:
            return []
        loop = asyncio.get_running_loop()
        request = Request([None] * len(works), loop.create_future(), urgent)
        try:
            self._queue.put(works, request)
        except QueueFull as error:
            metrics.TEXTS.labels("refused").inc(len(works))
            raise Overloaded(error.waiting_tokens / (self._tokens_per_s * len(self._lanes))) from error
        if urgent:
            self._pace.asked_at_s = loop.time()
            self._asked.set()
        metrics.QUEUE_TOKENS.set(self._queue.waiting_tokens)
        self._waiting.set()
        await request.done  # a cancel of ours cancels it, which is what abandons the entries
        return request.results

    async def run(self, lane: int = 0) -> None:
        """Compute one batch after the other until cancelled; each lane runs this.

        Of several lanes the last one leaves bulk work to the others while questions come.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._waiting.wait()
            dropped, now_s = self._queue.dropped, loop.time()
            expecting_s = self._pace.attentive_s(now_s) if 0 < lane == len(self._lanes) - 1 else 0.0
            most_tokens = int(self._tokens_per_s * self._pace.limit_s(now_s))
            batch = self._queue.take(most_tokens, urgent_only=expecting_s > 0, mixed=len(self._lanes) == 1)
            metrics.TEXTS.labels("dropped").inc(self._queue.dropped - dropped)
            metrics.QUEUE_TOKENS.set(self._queue.waiting_tokens)
            if not batch:
                await self._rest(expecting_s)
                continue
            try:
                results, seconds = await loop.run_in_executor(
                    self._lanes[lane], _timed, self._model, [entry.work for entry in batch]
                )
                self._record(batch, seconds)
                for entry, result in zip(batch, results, strict=True):
                    entry.request.settle(entry.at, result)
            except Exception as error:  # whatever it was: the next batch must find somebody who computes it
                _log.exception("a batch failed", texts=len(batch))
                _fail(batch, error)
            except asyncio.CancelledError as error:  # the server ends: nobody may wait for ever
                _fail(batch, error)
                raise

    async def _rest(self, expecting_s: float) -> None:
        """Wait for a question for so long, where one is expected; else for whatever comes."""
        if expecting_s == 0:
            self._waiting.clear()
            return
        self._asked.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(expecting_s):
                await self._asked.wait()

    def _record(self, batch: list[Entry], seconds: float) -> None:
        tokens = sum(entry.tokens for entry in batch)
        metrics.TEXTS.labels("computed").inc(len(batch))
        metrics.TOKENS.inc(tokens)
        metrics.PADDED_TOKENS.inc(len(batch) * batch[-1].tokens)
        metrics.BATCH_SECONDS.observe(seconds)
        self._tokens_per_s += 0.2 * (tokens / max(seconds, 1e-6) - self._tokens_per_s)


@asynccontextmanager
async def open_batcher(
    model: Model,
    lanes: Sequence[Executor],
    max_queue_tokens: int,
    max_batch_tokens: int,
    pace: Pace | None = None,
) -> AsyncIterator[Batcher]:
    """Run a batcher; at the end, what waits gets `Stopped`.

    Args:
        lanes: a thread for each batch that is computed at once; several models may share them.
        pace: shared by those that share the threads.
    """
    queue = TokenQueue(max_queue_tokens, max_batch_tokens)
    batcher = Batcher(model, queue, lanes, pace or Pace())
    running = [asyncio.create_task(batcher.run(lane), name=f"batcher-{lane}") for lane in range(len(lanes))]
    try:
        yield batcher
    finally:
        for lane in running:
            lane.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        while left := queue.take():
            _fail(left, RuntimeError("the server is shutting down"))


def _timed(model: Model, works: list[Work]) -> tuple[Iterable[Any], float]:
    started_s = time.perf_counter()
    results = model.compute(works)
    return results, time.perf_counter() - started_s


def _fail(batch: list[Entry], cause: BaseException) -> None:
    for entry in batch:
        stopped = Stopped("the model failed on this batch")
        stopped.__cause__ = cause
        entry.request.fail(stopped)
