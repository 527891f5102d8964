"""Engines that may be asleep or scaled to zero: how long until one is back, and calls that are held so long."""

import asyncio
import random
from collections.abc import Callable, Iterable

from core.clock import Clock
from monitoring.metrics import ENGINE_WANTED
from router.choice import Member

_SOONEST_S = 1.0
_LOOK_S = 0.5


def back_in_s(members: Iterable[Member], now_s: float) -> float | None:
    """Seconds until the first of those that are gone and may be asleep is back, at least 1; None: there is none.

    It begins to come back when it is wanted: one that nobody has called for hours has not begun.

    Args:
        now_s: reading of the monotonic clock.
    """
    waits = [
        _wanted_since_s(member, gone_s, now_s) + wakes_in_s - now_s
        for member in members
        if (wakes_in_s := member.deployment.wakes_in_s) is not None
        and (gone_s := member.health.gone_since_s) is not None
    ]
    return max(_SOONEST_S, min(waits)) if waits else None


def note_wanted(members: Iterable[Member]) -> None:
    """Tell whoever scales engines which of those that are gone would have been asked."""
    for member in members:
        if member.deployment.wakes_in_s is not None and member.health.gone_since_s is not None:
            ENGINE_WANTED.labels(member.deployment.group).set_to_current_time()


def _wanted_since_s(member: Member, gone_s: float, now_s: float) -> float:
    since_s = member.health.wanted_since_s
    return now_s if since_s is None or since_s < gone_s else since_s


class Hold:
    """Made for one call.

    Args:
        members: those that might answer it.
        most_s: how long to hold it at most.
    """

    def __init__(self, members: Callable[[], list[Member]], most_s: float, clock: Clock) -> None:
        self._members = members
        self._most_s = most_s
        self._clock = clock
        self._until_s: float | None = None

    async def wait(self) -> bool:
        """Have those that sleep woken, and wait a moment. Returns: whether to ask again, as it may be back in time."""
        now_s, members = self._clock.monotonic(), self._members()
        back_s = back_in_s(members, now_s)
        if back_s is None:
            return False
        for member in members:
            member.health.wake()
        if self._until_s is None:
            self._until_s = now_s + self._most_s
            if back_s > self._most_s:
                return False
        if now_s >= self._until_s:
            return False
        await asyncio.sleep(random.uniform(0, _LOOK_S))  # noqa: S311 - so that they don't all come at once
        return True
