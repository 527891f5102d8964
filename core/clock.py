"""Time as a collaborator, so that whatever waits can be tested without waiting."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def time(self) -> float:
        """Seconds since the Unix epoch; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move; both readings move together."""

    def __init__(self, start_s: float = 1_000_000.0) -> None:
        self._now_s = start_s

    def time(self) -> float:
        return self._now_s

    def monotonic(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move on.

        Raises: ValueError: `seconds` is negative; a clock that goes back is another test's business.
        """
        if seconds < 0:
            raise ValueError(f"a clock moves forward, not by {seconds} s")
        self._now_s += seconds
