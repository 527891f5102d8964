"""A circuit breaker as a pure state machine: no locks, no tasks, the clock passed in.

closed --(`failures_to_open` in a row)--> open --(`probe_after_s`)--> half-open: ONE call is let through,
the probe; every other is refused until it has reported. `successes_to_close` probes in a row close it,
a failed probe opens it again.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from core.clock import Clock


class BreakerState(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker moves.

    Attributes:
        failures_to_open: consecutive failures, at least 1.
        probe_after_s: seconds that an open breaker refuses before it lets one probe through.
        successes_to_close: consecutive successful probes, at least 1.
        probe_lease_s: seconds after which a probe that never reported counts as failed.
    """

    failures_to_open: int = 5
    probe_after_s: float = 1.0
    successes_to_close: int = 2
    probe_lease_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; hand it back with `Breaker.report` or `Breaker.withdraw`."""

    generation: int
    probe: bool


class Breaker:
    """Decides which calls may be made; safe within one event loop.

    Attributes:
        on_probe_end: called when a probe has ended, after the breaker has moved: whether it went well, None if it told
            nothing.
    """

    def __init__(self, policy: BreakerPolicy, clock: Clock) -> None:
        self.policy = policy
        self.on_probe_end: Callable[[bool | None], None] | None = None
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._successes = 0
        self._opened_s = 0.0
        self._probe_until_s: float | None = None
        self._generation = 0

    @property
    def state(self) -> BreakerState:
        return self._state

    def retry_after_s(self) -> float:
        """Seconds until a call may be let through; 0 when one may be now."""
        now = self._clock.monotonic()
        if self._state is BreakerState.OPEN:
            return max(0.0, self._opened_s + self.policy.probe_after_s - now)
        if self._state is BreakerState.HALF_OPEN and self._probe_until_s is not None:
            return max(0.0, self._probe_until_s - now)
        return 0.0

    def acquire(self) -> Permit | None:
        """Ask to make one call; None means: refuse it."""
        if self._state is BreakerState.CLOSED:
            return Permit(self._generation, probe=False)
        if self.retry_after_s() > 0:
            return None
        if self._state is BreakerState.OPEN:
            self._move(BreakerState.HALF_OPEN)
            self._successes = 0
        self._generation += 1  # what an earlier, forgotten probe reports no longer counts
        self._probe_until_s = self._clock.monotonic() + self.policy.probe_lease_s
        return Permit(self._generation, probe=True)

    def report(self, permit: Permit, *, ok: bool) -> None:
        """Say how the call went. A report from before the breaker last moved is ignored."""
        if permit.generation != self._generation:
            return
        if self._state is BreakerState.CLOSED:
            self._failures = 0 if ok else self._failures + 1
            if self._failures >= self.policy.failures_to_open:
                self._open()
            return
        self._probe_until_s = None
        if not ok:
            self._open()
        else:
            self._successes += 1
            if self._successes >= self.policy.successes_to_close:
                self._failures = 0
                self._move(BreakerState.CLOSED)
        self._tell(ok)

    def withdraw(self, permit: Permit) -> None:
        """Hand a permit back without a verdict: the caller left, so nothing was learnt."""
        if permit.probe and permit.generation == self._generation:
            self._probe_until_s = None
            self._tell(None)

    def elsewhere(self, permit: Permit, for_s: float) -> None:
        """Hand a probe's permit back because another process makes the probe; nobody is let through for so long."""
        if permit.generation == self._generation:
            self._probe_until_s = self._clock.monotonic() + for_s

    def learn(self, permit: Permit, *, ok: bool) -> None:
        """Hand a probe's permit back because another process's probe has shown whether it works."""
        if permit.generation == self._generation:
            if ok:
                self._close()
            else:
                self._open()

    def close(self) -> None:
        """Let calls through again: somebody saw it work. What earlier calls report no longer counts."""
        probing = self.probing
        self._close()
        if probing:
            self._tell(True)

    @property
    def probing(self) -> bool:
        """Its one probe is out, so that a verdict will come."""
        return self._state is BreakerState.HALF_OPEN and self._probe_until_s is not None

    @property
    def open_for_s(self) -> float:
        """Seconds since it opened last."""
        return self._clock.monotonic() - self._opened_s

    def _open(self) -> None:
        self._opened_s = self._clock.monotonic()
        self._probe_until_s = None
        self._move(BreakerState.OPEN)

    def _close(self) -> None:
        self._failures = 0
        self._probe_until_s = None
        if self._state is not BreakerState.CLOSED:
            self._move(BreakerState.CLOSED)

    def _tell(self, ok: bool | None) -> None:
        if self.on_probe_end is not None:
            self.on_probe_end(ok)

    def _move(self, state: BreakerState) -> None:
        self._state = state
        self._generation += 1
