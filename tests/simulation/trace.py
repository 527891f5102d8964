"""What happened in one schedule, line by line and counted; and what must hold but did not."""

from collections import Counter

from tests.simulation.loop import VirtualLoop


class Trace:
    """Of one schedule.

    Attributes:
        lines: what happened, with the virtual second.
        counts: how often things of a kind happened.
        broken: invariants that did not hold.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []

    def say(self, text: str, count: str | None = None) -> None:
        """Note an event, and count it."""
        self.lines.append(f"{self._loop.now_s - 1000:10.4f} {text}")
        if count is not None:
            self.counts[count] += 1

    def hold(self, ok: bool, invariant: str) -> None:
        """Note that an invariant is broken, if it is."""
        if not ok:
            self.broken.append(invariant)
            self.say(f"BROKEN: {invariant}")
