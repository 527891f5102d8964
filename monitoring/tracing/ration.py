"""So many a second, and no more."""

from collections.abc import Callable
from time import monotonic


class Ration:
    """A bucket that fills steadily.

    Args:
        per_second: what it fills by; it holds what comes in a second, but room for one at least. 0: nothing is given.
        clock: seconds, monotonic.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = monotonic) -> None:
        self._per_second = per_second
        self._room = max(1.0, per_second) if per_second else 0.0
        self._left = self._room
        self._clock = clock
        self._at_s = clock()

    def spend(self) -> bool:
        """Take one, if one is left."""
        now_s = self._clock()
        self._left = min(self._room, self._left + (now_s - self._at_s) * self._per_second)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
