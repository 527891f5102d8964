"""Counts and observations of the hot path, held in memory and passed on to their series four times a second.

One count of prometheus_client costs a few microseconds, a request has half a dozen, and all but a few go to the same
series. A killed process loses its last quarter of a second of them: metrics only, never money.
"""

import asyncio

from prometheus_client import Counter, Gauge, Histogram

PERIOD_S = 0.25


class Tally:
    """One for each process. Outside an event loop every count is passed on at once."""

    def __init__(self) -> None:
        self._held: dict[Counter | Gauge, float] = {}
        self._seen: dict[Histogram, list[float]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will pass on what is held

    def add(self, series: Counter | Gauge, amount: float = 1) -> None:
        """Count in a series without labels, or in a labelled one's child; a negative amount in gauges only."""
        held = self._held
        held[series] = held.get(series, 0) + amount
        self._pass_on_soon()

    def observe(self, series: Histogram, value: float) -> None:
        """Note a value in a series without labels, or in a labelled one's child."""
        self._seen.setdefault(series, []).append(value)
        self._pass_on_soon()

    def _pass_on_soon(self) -> None:
        loop = asyncio._get_running_loop()
        if loop is None:
            self.flush()
        elif loop is not self._loop:
            self._loop = loop
            loop.call_later(PERIOD_S, self.flush)

    def flush(self) -> None:
        """Pass on what is held."""
        held, self._held, self._loop = self._held, {}, None
        seen, self._seen = self._seen, {}
        for series, amount in held.items():
            if amount:
                series.inc(amount)
        for histogram, values in seen.items():
            for value in values:
                histogram.observe(value)


tally = Tally()
