"""The ledger of one worker process: what a request used is written down before its answer ends.

`ship.py` brings it to SQL, from the keeper. A line has left this process when `Entry.finish` returns; until then its
slot stands for it.
"""

import os
import secrets
from collections import deque
from pathlib import Path
from typing import Protocol

from api.ledger.files import Files, hold
from api.ledger.journal import ROTATE_BYTES, Journal
from api.ledger.line import Line, encode
from api.ledger.slots import Slot, Slots
from core.clock import Clock
from core.money import Price
from monitoring.logs import logger

_FREE_OF_CHARGE = Price()
_RETRY_S = 1.0
_log = logger(__name__)


class _Count(Protocol):
    def __call__(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> None: ...


class Entry:
    """One request under way. Only the first `finish` or `drop` counts, so `drop` may stand in a `finally`.

    Attributes:
        count: says how many tokens it is in all so far, each 0 to 2^64 - 1: `count(tokens_in, tokens_out,
            tokens_cached=0)`; after the end it does nothing.
    """

    __slots__ = ("_ledger", "_open", "_slot", "count")

    def __init__(self, ledger: "Ledger", slot: Slot) -> None:
        self._ledger = ledger
        self._slot = slot
        self._open = True
        self.count: _Count = slot.count

    def finish(self, line: Line) -> None:
        """Write the final line, under the name that was begun, and free the slot; on a full disk it waits there."""
        if self._open:
            self._open = False
            self._ledger.write(self._slot, line)

    def drop(self) -> None:
        """Nothing was used: free the slot and write no line."""
        if self._open:
            self._open = False
            self._slot.free()


class Ledger:
    """Slots and journal of one worker; of one event loop. Whoever opens it closes it.

    Args:
        folder: shared by all workers of the host and their keeper; made where it is missing.
        rotate_bytes: a journal that has grown beyond is followed by the next.

    Raises: OSError: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, clock: Clock, rotate_bytes: int = ROTATE_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = Files(folder, f"{os.getpid()}-{secrets.token_hex(4)}")
        self._clock = clock
        self._lock = hold(files.lock)
        self._slots = Slots(files.slots)
        self._journal = Journal(files, rotate_bytes)
        self._waiting: deque[tuple[Slot, bytes]] = deque()
        self._retry_at_s = 0.0

    def begin(self, line: Line, price: Price = _FREE_OF_CHARGE) -> Entry:
        """Write down that a request has begun: from here it survives this process.

        Args:
            price: at which its tokens count if the worker dies.

        Raises: LedgerFull: there is no room to account for it; refuse it.
        """
        return Entry(self, self.claim(line, price))

    def claim(self, line: Line, price: Price) -> Slot:
        """Keep a line that has begun; called by `begin`. Raises: LedgerFull."""
        return self._slots.claim(line, price)

    @property
    def slots_in_use(self) -> int:
        """Slots of requests that have begun and not ended, and of lines that wait for a disk with room."""
        return self._slots.claimed

    def write(self, slot: Slot, line: Line) -> None:
        """Append the line and free its slot; called by `Entry.finish`."""
        record = encode(line)
        if not self._waiting and self._appended(record):
            slot.free()
            return
        slot.count(line.tokens_in, line.tokens_out, line.tokens_cached)
        self._waiting.append((slot, record))
        if self._clock.monotonic() >= self._retry_at_s:
            self._write_waiting()

    def close(self) -> None:
        """Write what waits, sync, and give the lock back; what is still open becomes `lost`."""
        self._write_waiting()
        self._journal.close()
        self._slots.close()
        os.close(self._lock)

    def _write_waiting(self) -> None:
        while self._waiting:
            slot, record = self._waiting[0]
            if not self._appended(record):
                return
            slot.free()
            self._waiting.popleft()

    def _appended(self, record: bytes) -> bool:
        try:
            self._journal.append(record)
        except OSError as error:
            self._retry_at_s = self._clock.monotonic() + _RETRY_S
            _log.error(
                "lines of the ledger wait for room: free the disk of the data folder",
                reason=str(error),
                waiting=len(self._waiting),
            )
            return False
        return True
