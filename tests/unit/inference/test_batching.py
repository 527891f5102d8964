"""The queue before the embedding model."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import Entry, QueueFull, TokenQueue


def _entry(length: int, urgent: bool = False) -> Entry:
    return Entry([7] * length, asyncio.Future(loop=_LOOP), urgent)


_LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module", autouse=True)
def _close_loop() -> object:
    yield
    _LOOP.close()


@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=400), st.integers(1, 2000))
def test_everything_comes_out_once_sorted_by_length_and_within_the_budget(
    texts: list[tuple[int, bool]], budget: int
) -> None:
    queue = TokenQueue(1_000_000, budget)
    entries = [_entry(length, urgent) for length, urgent in texts]
    queue.put(entries)
    seen: list[Entry] = []
    while batch := queue.take():
        lengths = [len(entry.ids) for entry in batch]
        assert lengths == sorted(lengths)
        assert len(batch) == 1 or len(batch) * lengths[-1] <= budget
        seen += batch
    assert {id(entry) for entry in seen} == {id(entry) for entry in entries}
    assert len(seen) == len(entries)
    assert queue.waiting_tokens == len(queue) == 0


def test_the_oldest_is_always_in_the_next_batch() -> None:
    queue = TokenQueue(10_000, 100)
    first = _entry(90)
    queue.put([first, *(_entry(3) for _ in range(50))])
    assert first in queue.take()


def test_a_query_goes_ahead_of_bulk_work() -> None:
    queue = TokenQueue(10_000, 10)
    queue.put([_entry(5) for _ in range(10)])
    query = _entry(5, urgent=True)
    queue.put([query])
    assert query in queue.take()


def test_a_full_queue_refuses_a_whole_request_and_keeps_what_it_has() -> None:
    queue = TokenQueue(10, 10)
    queue.put([_entry(8)])
    with pytest.raises(QueueFull) as caught:
        queue.put([_entry(1), _entry(2)])
    assert caught.value.waiting_tokens == 8
    assert len(queue) == 1


def test_an_empty_queue_takes_a_request_that_is_larger_than_itself() -> None:
    queue = TokenQueue(10, 10)
    queue.put([_entry(8), _entry(8)])
    assert queue.waiting_tokens == 16


def test_what_its_client_left_is_dropped_and_counted() -> None:
    queue = TokenQueue(100, 100)
    entries = [_entry(5) for _ in range(4)]
    queue.put(entries)
    entries[0].row.cancel()
    entries[2].row.cancel()
    assert set(map(id, queue.take())) == {id(entries[1]), id(entries[3])}
    assert (queue.dropped, queue.waiting_tokens) == (2, 0)
