"""The queue before a model: bounded by tokens, drained in batches bounded by tokens.

Pure bookkeeping, no thread and no task: `inference/batcher.py` runs it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

_LOOK_AHEAD = 256  # entries among which a batch looks for texts of like length


class Work(Protocol):
    """What a model computes one result for: `inference.tokens.Tokenised`, for one."""

    @property
    def ids(self) -> list[int]: ...


@dataclass(slots=True, eq=False)
class Request:
    """What one client waits for.

    Attributes:
        results: one for each of its works, in their order; None until computed.
        done: set when all are there; cancelled when the client has left.
        urgent: somebody waits for a query; this is no bulk work.
    """

    results: list[Any]
    done: "asyncio.Future[None]"
    urgent: bool
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.results)

    def settle(self, at: int, result: Any) -> None:
        """Take one result."""
        self.results[at] = result
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True, eq=False)
class Entry:
    """One work on its way.

    Attributes:
        work: its tokens, at least 1.
        at: its place in its request.
    """

    work: Work
    request: Request
    at: int

    @property
    def tokens(self) -> int:
        return len(self.work.ids)

    @property
    def abandoned(self) -> bool:
        """Its client has left, or another of its request's works has failed."""
        return self.request.done.done()


class QueueFull(Exception):
    """More tokens would wait than may.

    Attributes:
        waiting_tokens: how many wait now.
    """

    def __init__(self, waiting_tokens: int) -> None:
        super().__init__(f"{waiting_tokens} tokens are waiting")
        self.waiting_tokens = waiting_tokens


class _Lane:
    """Entries in order of arrival."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.tokens = 0

    def window(self) -> tuple[list[Entry], int]:
        """Drop abandoned entries at the front. Returns: the next ones that are not, and how many were dropped.

        There are none only where nothing waits.
        """
        kept: list[Entry] = []
        dropped = 0
        while self.entries and not kept:
            seen = [self.entries.popleft() for _ in range(min(len(self.entries), _LOOK_AHEAD))]
            kept = [entry for entry in seen if not entry.abandoned]
            self.tokens -= sum(entry.tokens for entry in seen if entry.abandoned)
            dropped += len(seen) - len(kept)
        self.entries.extendleft(reversed(kept))
        return kept, dropped

    def remove(self, taken: set[int]) -> None:
        """Take entries out of the window, by their `id`."""
        seen = [self.entries.popleft() for _ in range(min(len(self.entries), _LOOK_AHEAD))]
        self.tokens -= sum(entry.tokens for entry in seen if id(entry) in taken)
        self.entries.extendleft(reversed([entry for entry in seen if id(entry) not in taken]))


class TokenQueue:
    """Urgent entries ahead of bulk work, each in order of arrival.

    Args:
        max_queue_tokens: tokens that may wait, of urgent entries and of bulk work each: bulk work keeps no question
            out. An empty queue takes any one request, so that a large one isn't refused for ever.
        max_batch_tokens: tokens of one batch, padding included; a longer text makes a batch of its own.
    """

    def __init__(self, max_queue_tokens: int, max_batch_tokens: int) -> None:
        self._max_queue_tokens = max_queue_tokens
        self._max_batch_tokens = max_batch_tokens
        self._urgent, self._bulk = _Lane(), _Lane()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._urgent.entries) + len(self._bulk.entries)

    @property
    def waiting_tokens(self) -> int:
        return self._urgent.tokens + self._bulk.tokens

    def put(self, works: Sequence[Work], request: Request) -> None:
        """Queue all of one request's works, or none.

        Raises: QueueFull: they don't fit beside what waits.
        """
        lane = self._urgent if request.urgent else self._bulk
        tokens = sum(len(work.ids) for work in works)
        if lane.tokens and lane.tokens + tokens > self._max_queue_tokens:
            raise QueueFull(self.waiting_tokens)
        lane.entries.extend(Entry(work, request, at) for at, work in enumerate(works))
        lane.tokens += tokens

    def take(self, most_tokens: int | None = None, *, urgent_only: bool = False, mixed: bool = True) -> list[Entry]:
        """The next batch, shortest text first; empty only when nothing waits.

        Args:
            most_tokens: of this batch, where it is less than of any.
            urgent_only: bulk work is left where it is.
            mixed: bulk work may fill a batch of urgent entries, which then take longer.

        The oldest waiting entry is always in it, so that nothing starves among its like; the rest are those of the
        nearest lengths, so that little is padded. Entries whose client left are dropped and counted.
        """
        urgent, urgent_dropped = self._urgent.window()
        bulk, bulk_dropped = self._bulk.window()
        self.dropped += urgent_dropped + bulk_dropped
        alone = urgent_only or (urgent and not mixed)
        candidates = (urgent if alone else [*urgent, *bulk])[:_LOOK_AHEAD]
        if not candidates:
            return []
        oldest = candidates[0]
        most = self._max_batch_tokens if most_tokens is None else min(most_tokens, self._max_batch_tokens)
        batch = _nearest(oldest, candidates, most)
        taken = {id(entry) for entry in batch}
        self._urgent.remove(taken)
        self._bulk.remove(taken)
        return sorted(batch, key=lambda entry: entry.tokens)


def _nearest(oldest: Entry, candidates: Iterable[Entry], most_tokens: int) -> list[Entry]:
    """The oldest entry and those nearest to it in length, urgent ones first, as far as they fit."""
    by_fit = sorted(candidates, key=lambda entry: (not entry.request.urgent, abs(entry.tokens - oldest.tokens)))
    batch, longest = [oldest], oldest.tokens
    for entry in by_fit:
        if entry is oldest:
            continue
        longest = max(longest, entry.tokens)
        if longest * (len(batch) + 1) > most_tokens:
            break
        batch.append(entry)
    return batch
