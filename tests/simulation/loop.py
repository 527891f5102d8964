"""An event loop on a virtual clock: nothing ever waits, and the same program takes the same steps each time."""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

WALL_S = 1_790_035_200.0  # what the wall clock says at the loop's 0, a noon in UTC
_START_S = 1_000.0
_MOST_TURNS = 200_000  # without any time passing


class Deadlock(RuntimeError):
    """Somebody waits for what will never come, or nothing but the loop itself moves."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """With nothing ready it jumps to the next timer.

    Raises: Deadlock: from `run_until_complete`, when there is neither a timer nor anything ready.
    """

    def __init__(self) -> None:
        self.now_s = _START_S
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now_s

    # A loop wakes itself by a socket when another thread calls it: here there are no threads, and no sockets.
    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class _Jump(selectors.BaseSelector):
    """Where a loop would wait for its sockets."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("deadlock: nothing is ready, and no timer runs")
        if timeout > 0:
            self._loop.now_s += timeout
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > _MOST_TURNS:
                raise Deadlock(f"livelock: {_MOST_TURNS} turns of the loop, and no time has passed")
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise RuntimeError("a simulation opens no sockets")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}

    def close(self) -> None:
        pass


class LoopClock:
    """A `core.clock.Clock` that reads a virtual loop.

    Args:
        skew_s: by which its wall clock is ahead of the loop's.
    """

    def __init__(self, loop: VirtualLoop, skew_s: float = 0.0) -> None:
        self._loop = loop
        self._ahead_s = WALL_S + skew_s

    def time(self) -> float:
        return self._ahead_s + self._loop.now_s

    def monotonic(self) -> float:
        return self._loop.now_s
