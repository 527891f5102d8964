"""The gate in front of a group of deployments: as many calls at once as they can take, the others wait or are refused.

An engine that is asked for more than it can do makes everybody wait until nobody's answer comes in time. Here those
wait who can still be served in time, the dearest class first, and the others are told at once to come later: so the
number of answers that come in time stays what it is without overload.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

from core.clock import Clock
from core.priority import Priority
from monitoring import metrics
from router.errors import Overloaded

_WEIGHT = 0.1  # of the newest call in what calls take on average
_SURE = 3.0  # standard deviations within which a turn comes in time, or its call is refused at once


class Place:
    """A call under way; `leave` in a `finally`."""

    __slots__ = ("_gate", "_since_s")

    def __init__(self, gate: "Gate", since_s: float) -> None:
        self._gate: Gate | None = gate
        self._since_s = since_s

    def leave(self) -> None:
        """Let the next one in; once more does nothing."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.left(self._since_s)


class Gate:
    """Of one group in one worker, and of one event loop.

    Args:
        places: calls at once; None: as many as come.
        patience_s: how long a call may wait.
        elsewhere: how many of those inside are at deployments whose places are not counted any more.
    """

    def __init__(
        self, group: str, places: int | None, patience_s: float, clock: Clock, elsewhere: Callable[[], int] = int
    ) -> None:
        self._group = group
        self._places = places
        self._patience_s = patience_s
        self._clock = clock
        self._elsewhere = elsewhere
        self._running = 0
        self._waiting: Sequence[deque[asyncio.Future[None]]] = [deque() for _ in Priority]
        self._takes_s: float | None = None
        self._varies_s2 = 0.0  # the variance of what calls take

    def resize(self, places: int | None) -> None:
        """Let so many in at once from now on; those who are in stay."""
        self._places = places
        self._let_in()

    @property
    def has_room(self) -> bool:
        """Whether a call may enter that need not wait behind others."""
        return self._places is None or self._running - self._elsewhere() < self._places

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting))

    async def enter(self, priority: Priority) -> Place:
        """Wait for a place, behind those of the same class and of dearer ones.

        Raises: Overloaded: it would not come in time, or did not.
        """
        if self._places is not None and (self.waiting or not self.has_room):
            await self._wait(priority, self._places)  # whoever let it in has counted it
        else:
            self._running += 1
        return Place(self, self._clock.monotonic())

    def left(self, since_s: float) -> None:
        """A call is over that began then; called by its place."""
        took_s = self._clock.monotonic() - since_s
        if self._takes_s is None:
            self._takes_s = took_s
        else:
            other_s = took_s - self._takes_s
            self._takes_s += _WEIGHT * other_s
            self._varies_s2 += _WEIGHT * (other_s * other_s - self._varies_s2)
        self._free()

    def _free(self) -> None:
        self._running -= 1
        self._let_in()

    def _let_in(self) -> None:
        """Let those in who are next, as many as there is room for."""
        for queue in self._waiting:
            while queue and self.has_room:
                future = queue.popleft()
                if not future.done():
                    self._running += 1
                    future.set_result(None)

    async def _wait(self, priority: Priority, places: int) -> None:
        turn = 1 + sum(len(queue) for queue in self._waiting[: priority.rank + 1])
        expected_s = turn * (self._takes_s or 0.0) / places
        surely_s = expected_s + _SURE * math.sqrt(turn * self._varies_s2) / places
        if surely_s > self._patience_s:
            self._refuse(priority, max(0.0, expected_s - self._patience_s))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting[priority.rank]
        queue.append(future)
        try:
            async with asyncio.timeout(self._patience_s):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self._free()  # the place came in the same moment
            elif future in queue:
                queue.remove(future)
            if isinstance(error, TimeoutError):
                self._refuse(priority, self._takes_s or 0.0)
            raise

    def _refuse(self, priority: Priority, retry_after_s: float) -> NoReturn:
        metrics.SHED.labels(self._group, priority.value).inc()
        raise Overloaded(self._group, priority, retry_after_s)
