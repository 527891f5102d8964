"""Requests into batches and back, with a model that is only arithmetic."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from inference.batcher import Batcher, Overloaded, Pace, Stopped, open_batcher
from inference.tokens import Tokenised


class LengthModel:
    """A text's result is its length and its first token; waits for `go` before each batch."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.computed = 0
        self.threads: set[str] = set()

    def compute(self, batch: Sequence[Tokenised]) -> list[list[int]]:
        assert self.go.wait(5)
        self.threads.add(threading.current_thread().name)
        self.computed += len(batch)
        first = batch[0].ids[0]
        if first == ord("!"):
            raise RuntimeError("out of memory")
        if first == ord("?"):
            raise KeyError("a defect of the model's own code")
        if first == ord("-"):
            batch = []  # a row too few
        return [[len(work.ids), work.ids[0]] for work in batch]


@contextmanager
def threads(count: int) -> Iterator[list[ThreadPoolExecutor]]:
    """A thread for each lane."""
    with ExitStack() as stack:
        yield [stack.enter_context(ThreadPoolExecutor(1, f"lane-{lane}")) for lane in range(count)]


def works(*texts: str) -> list[Tokenised]:
    return [Tokenised([ord(letter) for letter in text]) for text in texts]


@asynccontextmanager
async def running(
    model: LengthModel, most_waiting: int, most_at_once: int, pace: Pace | None = None
) -> AsyncIterator[Batcher]:
    with threads(1) as lanes:
        async with open_batcher(model, lanes, most_waiting, most_at_once, pace) as batcher:
            yield batcher


async def test_results_come_back_in_input_order_from_one_thread() -> None:
    model = LengthModel()
    async with running(model, 1000, 10) as batcher:
        results = await batcher.compute(works("aaaa", "b", "cccccccc", "dd"), urgent=False)
    assert results == [[4, 97], [1, 98], [8, 99], [2, 100]]
    assert len(model.threads) == 1


async def test_of_nothing_nothing_is_computed() -> None:
    async with running(LengthModel(), 1000, 10) as batcher:
        async with asyncio.timeout(5):
            assert await batcher.compute([], urgent=False) == []


async def test_what_a_client_left_is_never_computed() -> None:
    model = LengthModel()
    async with running(model, 1000, 4) as batcher:
        model.go.clear()
        first = asyncio.create_task(batcher.compute(works("aaaa"), urgent=True))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(batcher.compute(works("bbbb", "cccc"), urgent=False))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        model.go.set()
        await first
        await batcher.compute(works("dddd"), urgent=False)
    assert model.computed == 2


async def test_a_full_queue_says_when_to_come_back() -> None:
    model = LengthModel()
    async with running(model, 8, 4) as batcher:
        model.go.clear()
        tasks = [asyncio.create_task(batcher.compute(works("aaaa"), urgent=False))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(batcher.compute(works("bbbb"), urgent=False)) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded) as caught:
            await batcher.compute(works("cccc"), urgent=False)
        assert caught.value.retry_after_s >= 1
        model.go.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("text", ["!", "?", "-"])
async def test_a_batch_that_fails_fails_its_works_and_no_others(text: str) -> None:
    async with running(LengthModel(), 1000, 1) as batcher:
        with pytest.raises(Stopped):
            async with asyncio.timeout(20):
                await batcher.compute(works(text), urgent=False)
        assert await batcher.compute(works("a"), urgent=False) == [[1, 97]]


class SlowModel(LengthModel):
    """Takes 2 ms for a token."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def compute(self, batch: Sequence[Tokenised]) -> list[list[int]]:
        self.batches.append(len(batch))
        time.sleep(0.002 * sum(len(work.ids) for work in batch))
        return super().compute(batch)


async def test_batches_grow_no_longer_than_a_question_may_wait() -> None:
    model = SlowModel()
    async with running(model, 100_000, 1000, Pace(batch_s=0.04, asked_batch_s=0.04)) as batcher:  # 20 tokens, 5 texts
        await batcher.compute(works(*["aaaa"] * 200), urgent=False)
        assert max(model.batches[-10:]) <= 6
        model.go.clear()
        bulk = asyncio.create_task(batcher.compute(works(*["aaaa"] * 50), urgent=False))
        await asyncio.sleep(0.05)  # its first batch has begun
        question = asyncio.create_task(batcher.compute(works("bbbb"), urgent=True))
        await asyncio.sleep(0.05)
        before = len(model.batches)
        model.go.set()
        await question
        assert len(model.batches) - before <= 2  # its own, and the one that has begun since
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)


async def test_batches_are_short_while_questions_come_and_long_else() -> None:
    model = SlowModel()
    async with running(model, 100_000, 1000, Pace(batch_s=0.08, asked_batch_s=0.016)) as batcher:
        await batcher.compute(works(*["aaaa"] * 200), urgent=False)
        assert min(model.batches[:-1]) > 8  # of 8 ms each
        await batcher.compute(works("bbbb"), urgent=True)
        model.batches.clear()
        await batcher.compute(works(*["aaaa"] * 30), urgent=False)
        assert max(model.batches) <= 5


def test_a_question_is_forgotten_after_ten_seconds() -> None:
    pace = Pace(0.1, 0.01, asked_at_s=100.0)
    assert [pace.limit_s(now_s) for now_s in (99.0, 100.0, 109.9, 110.0)] == [0.01, 0.01, 0.01, 0.1]


async def test_what_waits_at_the_end_is_told() -> None:
    model = LengthModel()
    model.go.clear()
    async with running(model, 1000, 4) as batcher:
        first = asyncio.create_task(batcher.compute(works("aaaa"), urgent=False))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(batcher.compute(works("bbbb"), urgent=False))
        await asyncio.sleep(0.05)
        model.go.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, Stopped) for result in results)


async def test_two_models_that_share_a_thread_take_turns() -> None:
    """Bulk work of one model does not make the other's question wait for all of it."""
    one, other = SlowModel(), SlowModel()
    with threads(1) as lanes:
        async with (
            open_batcher(one, lanes, 100_000, 4) as busy,
            open_batcher(other, lanes, 100_000, 4) as free,
        ):
            bulk = asyncio.create_task(busy.compute(works(*["aaaa"] * 50), urgent=False))
            await asyncio.sleep(0.02)
            before = len(one.batches)
            await free.compute(works("bbbb"), urgent=True)
            assert len(one.batches) - before <= 2
            bulk.cancel()
            await asyncio.gather(bulk, return_exceptions=True)


class TwoAtOnce(LengthModel):
    """Computes a batch only while another one is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2)

    def compute(self, batch: Sequence[Tokenised]) -> list[list[int]]:
        self.both.wait(5)
        return super().compute(batch)


async def test_lanes_compute_at_once_and_a_batch_that_fails_leaves_the_other_lane_alone() -> None:
    model = TwoAtOnce()
    with threads(2) as lanes:
        async with open_batcher(model, lanes, 1000, 4) as batcher:
            both = [asyncio.create_task(batcher.compute(works(text), urgent=False)) for text in ("aaaa", "bbb")]
            assert await asyncio.gather(*both) == [[[4, 97]], [[3, 98]]]
            bad, good = (asyncio.create_task(batcher.compute(works(text), urgent=False)) for text in ("!aaa", "bbbb"))
            with pytest.raises(Stopped):
                await bad
            assert await good == [[4, 98]]
    assert len(model.threads) == 2


class HeldModel(LengthModel):
    """Bulk work, which begins with `b`, waits for `go`; a question does not."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)

    def compute(self, batch: Sequence[Tokenised]) -> list[list[int]]:
        if batch[0].ids[0] == ord("b"):
            self.begun.release()
            assert self.go.wait(20)
        return [[len(work.ids), work.ids[0]] for work in batch]


async def test_while_questions_come_one_of_several_lanes_is_theirs() -> None:
    model, pace = HeldModel(), Pace()
    with threads(3) as lanes:
        async with open_batcher(model, lanes, 1000, 4, pace) as batcher:
            await batcher.compute(works("a?"), urgent=True)
            model.go.clear()
            bulk = asyncio.create_task(batcher.compute(works("bbbb", "bbbb", "bbbb", "bbbb"), urgent=False))
            for _ in range(2):
                assert await asyncio.to_thread(model.begun.acquire, timeout=20)
            async with asyncio.timeout(20):
                for _ in range(3):
                    assert await batcher.compute(works("a?"), urgent=True) == [[2, ord("a")]]
            assert not model.begun.acquire(blocking=False)
            pace.asked_at_s = -math.inf  # as ten seconds later
            batcher._asked.set()
            assert await asyncio.to_thread(model.begun.acquire, timeout=20)  # the third lane helps the others
            model.go.set()
            assert await bulk == [[4, ord("b")]] * 4


async def test_bulk_work_of_one_model_leaves_the_questions_lane_to_the_others() -> None:
    one, other, pace = HeldModel(), HeldModel(), Pace()
    with threads(2) as lanes:
        async with (
            open_batcher(one, lanes, 1000, 4, pace) as busy,
            open_batcher(other, lanes, 1000, 4, pace) as asked,
        ):
            await asked.compute(works("a?"), urgent=True)
            one.go.clear()
            bulk = asyncio.create_task(busy.compute(works("bbbb", "bbbb", "bbbb"), urgent=False))
            assert await asyncio.to_thread(one.begun.acquire, timeout=20)
            async with asyncio.timeout(20):
                assert await asked.compute(works("a?"), urgent=True) == [[2, ord("a")]]
            assert not one.begun.acquire(blocking=False)
            one.go.set()
            await bulk


async def test_a_lane_of_its_own_is_given_up_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.batcher._ATTENTIVE_S", 0.2)
    model = HeldModel()
    with threads(2) as lanes:
        async with open_batcher(model, lanes, 1000, 4) as batcher:
            await batcher.compute(works("a?"), urgent=True)
            model.go.clear()
            bulk = asyncio.create_task(batcher.compute(works("bbbb", "bbbb"), urgent=False))
            for _ in range(2):
                assert await asyncio.to_thread(model.begun.acquire, timeout=20)
            model.go.set()
            await bulk


async def test_what_waits_behind_many_abandoned_works_is_computed() -> None:
    model = HeldModel()
    with threads(2) as lanes:
        async with open_batcher(model, lanes, 100_000, 4) as batcher:
            model.go.clear()
            held = [asyncio.create_task(batcher.compute(works("bbbb"), urgent=False)) for _ in range(2)]
            for _ in range(2):
                assert await asyncio.to_thread(model.begun.acquire, timeout=20)
            left = asyncio.create_task(batcher.compute(works(*["bb"] * 2000), urgent=False))
            behind = asyncio.create_task(batcher.compute(works("aa"), urgent=False))
            await asyncio.sleep(0)
            left.cancel()
            model.go.set()
            async with asyncio.timeout(20):
                assert await behind == [[2, ord("a")]]
            await asyncio.gather(*held)
