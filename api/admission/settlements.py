"""How reservations end: those of one turn of the event loop travel together, and wait in memory while Redis is away."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from api.admission.meters import Metered
from api.admission.scripts import LATE, Scripts, adopt_args
from core.dependency import DependencyError, DependencyTimeout
from monitoring.logs import logger
from storage.scripts import Argument, Call, ScriptLine

_AT_ONCE = 1_000
_PAUSE_S = 0.2
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Adopted:
    """Taken by a worker alone, at a time by the server's clock: Redis is to take it too."""

    id: str
    metered: Metered
    tokens: int
    nano_usd: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Settled, or released (then nothing was used)."""

    id: str
    metered: Metered
    tokens: int
    nano_usd: int
    released: bool


class Settlements:
    """A queue in front of Redis.

    Args:
        not_after_ms: the moment, by the server's clock, after which a call made now must have no effect.
        on_answer: called with the server's clock, in ms, when Redis has answered.
        most: entries held; beyond, the oldest are dropped, and what their subjects spent is loaded anew.
    """

    def __init__(
        self,
        line: ScriptLine,
        scripts: Scripts,
        not_after_ms: Callable[[], int],
        on_answer: Callable[[int], None],
        *,
        deadline_s: float,
        lease_ms: int,
        most: int,
    ) -> None:
        self._line = line
        self._scripts = scripts
        self._not_after_ms = not_after_ms
        self._on_answer = on_answer
        self._deadline_s = deadline_s
        self._lease_ms = lease_ms
        self._most = most
        self._queue: deque[Adopted | Ended] = deque()
        self._sending: list[Adopted | Ended] = []
        self._dropped: dict[str, set[str]] = {}
        self._wake = asyncio.Event()
        self._told = asyncio.Event()  # cleared while what Redis did not take is to be sent again
        self._told.set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._queue) + len(self._sending) + len(self._dropped)

    @property
    def late(self) -> bool:
        """Whether Redis counts reservations that have ended: it did not take the last batch."""
        return not self._told.is_set()

    async def told(self, wait_s: float) -> bool:
        """Wait until Redis has taken what it did not take. Returns: whether it has, within the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._told.wait()
        return self._told.is_set()

    def put(self, entry: Adopted | Ended) -> None:
        """Queue an entry; it leaves in the next turn of the event loop."""
        self._queue.append(entry)
        if len(self._queue) > self._most:
            self._drop(self._queue.popleft())
        self._wake.set()

    async def run(self) -> None:
        """Send what is queued, until told to stop; then send the rest, unless Redis is away."""
        while not self._stopping or len(self):
            await self._wake.wait()
            self._wake.clear()
            while len(self):
                try:
                    await self._flush()
                    self._told.set()
                except DependencyError as error:
                    self._told.clear()
                    if self._stopping:
                        _log.error("settlements are lost", queued=len(self), reason=str(error))
                        return
                    _log.warning("settlements wait for redis", queued=len(self), reason=str(error))
                    await asyncio.sleep(_PAUSE_S)

    def stop(self) -> None:
        """Have `run` end. It is not cancelled: a batch sent twice has the ledger asked anew."""
        self._stopping = True
        self._wake.set()

    async def _flush(self) -> None:
        """Send one batch. Raises: DependencyError: nothing is lost; an entry that arrived twice has no effect."""
        self._sending = [self._queue.popleft() for _ in range(min(_AT_ONCE, len(self._queue)))]
        dropped = {prefix: set(names) for prefix, names in self._dropped.items()}
        calls = calls_of(self._sending, dropped, self._scripts, self._not_after_ms(), self._lease_ms)
        taken = False
        try:
            replies = await self._line.run_all(calls, self._deadline_s)
            taken = not any(isinstance(reply, list) and reply[0] == LATE for reply in replies)
        finally:
            if not taken:
                self._queue.extendleft(reversed(self._sending))
            self._sending = []
        if taken:
            for prefix, names in dropped.items():
                self._dropped[prefix] -= names
                if not self._dropped[prefix]:
                    del self._dropped[prefix]
        for reply in replies:
            if isinstance(reply, list):
                self._on_answer(reply[1])
        if not taken:
            raise DependencyTimeout("redis", "settlements came too late by the server's clock, which is known now")

    def _drop(self, entry: Adopted | Ended) -> None:
        if entry.metered.money:
            self._dropped.setdefault(entry.metered.prefix, set()).update(entry.metered.record.split()[::2])


def calls_of(
    batch: list[Adopted | Ended], dropped: dict[str, set[str]], scripts: Scripts, not_after_ms: int, lease_ms: int
) -> list[Call]:
    """One call for each adopted one, then one for all endings of a tenant: what ends was adopted before."""
    calls: list[Call] = []
    endings: dict[str, list[Argument]] = {}
    for entry in batch:
        common = (entry.id, entry.metered, entry.tokens, entry.nano_usd)
        if isinstance(entry, Adopted):
            args = adopt_args(*common, admitted_ms=entry.at_ms, lease_ms=lease_ms, not_after_ms=not_after_ms)
            calls.append((scripts.admit, entry.metered.prefix, args))
        else:
            ends = endings.setdefault(entry.metered.prefix, [not_after_ms])
            ends += [entry.id, "r" if entry.released else "s", entry.tokens, entry.nano_usd]
            ends.append(entry.metered.record if entry.metered.money else "")
    calls += [(scripts.settle, prefix, args) for prefix, args in endings.items()]
    calls += [(scripts.forget, prefix, sorted(names)) for prefix, names in dropped.items()]
    return calls
