"""The queue before a model."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import Entry, QueueFull, Request, TokenQueue


@dataclass
class Text:
    ids: list[int]


_LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def _close_loop() -> Iterator[None]:
    yield
    _LOOP.close()


def _put(queue: TokenQueue, *lengths: int, urgent: bool = False) -> tuple[Request, list[Text]]:
    request = Request([None] * len(lengths), asyncio.Future(loop=_LOOP), urgent)
    works = [Text([7] * length) for length in lengths]
    queue.put(works, request)
    return request, works


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.booleans()), max_size=30),
    st.integers(1, 2000),
)
def test_everything_comes_out_once_sorted_by_length_and_within_the_budget(
    requests: list[tuple[list[int], bool]], budget: int
) -> None:
    queue = TokenQueue(1_000_000, budget)
    works = [work for lengths, urgent in requests for work in _put(queue, *lengths, urgent=urgent)[1]]
    seen: list[Entry] = []
    while batch := queue.take():
        lengths = [entry.tokens for entry in batch]
        assert lengths == sorted(lengths)
        assert len(batch) == 1 or len(batch) * lengths[-1] <= budget
        seen += batch
    assert {id(entry.work) for entry in seen} == {id(work) for work in works}
    assert len(seen) == len(works)
    assert queue.waiting_tokens == len(queue) == 0


def test_the_oldest_is_always_in_the_next_batch() -> None:
    queue = TokenQueue(10_000, 100)
    _, works = _put(queue, 90, *([3] * 50))
    assert works[0] in [entry.work for entry in queue.take()]


def test_a_query_goes_ahead_of_bulk_work() -> None:
    queue = TokenQueue(10_000, 10)
    _put(queue, *([5] * 10))
    _, (query,) = _put(queue, 5, urgent=True)
    assert query in [entry.work for entry in queue.take()]


def test_bulk_work_fills_no_batch_of_a_question_unless_it_may() -> None:
    queue = TokenQueue(10_000, 100)
    _, bulk = _put(queue, 3, 3, 3)
    _, asked = _put(queue, 2, urgent=True)
    assert [entry.work for entry in queue.take(mixed=False)] == asked
    assert [entry.work for entry in queue.take(mixed=False)] == bulk
    _put(queue, 3, 3, 3)
    _put(queue, 2, urgent=True)
    assert len(queue.take()) == 4


def test_a_full_queue_refuses_a_whole_request_and_keeps_what_it_has() -> None:
    queue = TokenQueue(10, 10)
    _put(queue, 8)
    with pytest.raises(QueueFull) as caught:
        _put(queue, 1, 2)
    assert caught.value.waiting_tokens == 8
    assert len(queue) == 1


def test_bulk_work_that_fills_the_queue_keeps_no_question_out() -> None:
    queue = TokenQueue(10, 10)
    _put(queue, 10)
    _put(queue, 10, urgent=True)
    with pytest.raises(QueueFull):
        _put(queue, 1, urgent=True)
    assert queue.waiting_tokens == 20


def test_an_empty_queue_takes_a_request_that_is_larger_than_itself() -> None:
    queue = TokenQueue(10, 10)
    _put(queue, 8, 8)
    assert queue.waiting_tokens == 16


@pytest.mark.parametrize("urgent", [False, True])
def test_what_its_client_left_is_dropped_and_counted(urgent: bool) -> None:
    queue = TokenQueue(100, 100)
    left, _ = _put(queue, 5, 5, urgent=urgent)
    _, kept = _put(queue, 5, urgent=urgent)
    left.done.cancel()
    assert [entry.work for entry in queue.take()] == kept
    assert (queue.dropped, queue.waiting_tokens) == (2, 0)


def test_a_request_is_done_with_its_last_result_and_keeps_their_order() -> None:
    request = Request([None] * 2, asyncio.Future(loop=_LOOP), urgent=False)
    request.settle(1, "b")
    assert not request.done.done()
    request.settle(0, "a")
    assert (request.done.done(), request.results) == (True, ["a", "b"])
