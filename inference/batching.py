"""The queue before the model: bounded by tokens, drained in batches bounded by tokens.

Pure bookkeeping, no thread and no task: `inference/embedder.py` runs it.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Row = Sequence[float]

_LOOK_AHEAD = 256  # entries among which a batch looks for texts of like length


@dataclass(slots=True, eq=False)
class Entry:
    """One text on its way.

    Attributes:
        ids: its tokens, special ones included; at least 1.
        row: gets the embedding; cancelled when the client has left.
        urgent: it is its request's only text: somebody waits for a query, this is no bulk work.
    """

    ids: list[int]
    row: "asyncio.Future[Row]"
    urgent: bool

    @property
    def abandoned(self) -> bool:
        return self.row.done()


class QueueFull(Exception):
    """More tokens would wait than may.

    Attributes:
        waiting_tokens: how many wait now.
    """

    def __init__(self, waiting_tokens: int) -> None:
        super().__init__(f"{waiting_tokens} tokens are waiting")
        self.waiting_tokens = waiting_tokens


class TokenQueue:
    """Entries in order of arrival, urgent ones ahead of bulk work.

    Args:
        max_queue_tokens: tokens that may wait; an empty queue takes any one request, so that a large one isn't
            refused for ever.
        max_batch_tokens: tokens of one batch, padding included; a longer text makes a batch of its own.
    """

    def __init__(self, max_queue_tokens: int, max_batch_tokens: int) -> None:
        self._max_queue_tokens = max_queue_tokens
        self._max_batch_tokens = max_batch_tokens
        self._urgent: deque[Entry] = deque()
        self._bulk: deque[Entry] = deque()
        self.waiting_tokens = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk)

    def put(self, entries: Sequence[Entry]) -> None:
        """Queue all of one request's entries, or none.

        Raises: QueueFull: they don't fit beside what waits.
        """
        tokens = sum(len(entry.ids) for entry in entries)
        if self.waiting_tokens and self.waiting_tokens + tokens > self._max_queue_tokens:
            raise QueueFull(self.waiting_tokens)
        for entry in entries:
            (self._urgent if entry.urgent else self._bulk).append(entry)
        self.waiting_tokens += tokens

    def take(self, most_tokens: int | None = None) -> list[Entry]:
        """The next batch, shortest text first; empty only when nothing waits.

        Args:
            most_tokens: of this batch, where it is less than of any.

        The oldest waiting entry is always in it, so that nothing starves among its like; the rest are those of the
        nearest lengths, so that little is padded. Entries whose client left are dropped and counted.
        """
        urgent, bulk = self._drain(self._urgent), self._drain(self._bulk)
        candidates = [*urgent, *bulk][:_LOOK_AHEAD]
        if not candidates:
            return []
        oldest = candidates[0]
        most = self._max_batch_tokens if most_tokens is None else min(most_tokens, self._max_batch_tokens)
        by_fit = sorted(candidates, key=lambda entry: (not entry.urgent, abs(len(entry.ids) - len(oldest.ids))))
        batch = [oldest]
        longest = len(oldest.ids)
        for entry in by_fit:
            if entry is oldest:
                continue
            longest = max(longest, len(entry.ids))
            if longest * (len(batch) + 1) > most:
                break
            batch.append(entry)
        self._remove(batch)
        return sorted(batch, key=lambda entry: len(entry.ids))

    def _drain(self, entries: deque[Entry]) -> list[Entry]:
        """Drop abandoned entries at the front window; return what is left of it."""
        window = [entries.popleft() for _ in range(min(len(entries), _LOOK_AHEAD))]
        kept = [entry for entry in window if not entry.abandoned]
        self.dropped += len(window) - len(kept)
        self.waiting_tokens -= sum(len(entry.ids) for entry in window if entry.abandoned)
        entries.extendleft(reversed(kept))
        return kept

    def _remove(self, batch: Iterable[Entry]) -> None:
        taken = {id(entry) for entry in batch}
        for entries in (self._urgent, self._bulk):
            window = [entries.popleft() for _ in range(min(len(entries), _LOOK_AHEAD))]
            entries.extendleft(reversed([entry for entry in window if id(entry) not in taken]))
        self.waiting_tokens -= sum(len(entry.ids) for entry in batch)
