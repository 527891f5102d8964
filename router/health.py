"""What this process knows of a deployment's health beside its breaker, and what it has in flight there.

Two things take a deployment out of turn: the watch (`router/watch.py`), which sees its engine stand still, and its
failures, where the group's other members have none. `router/choice.py` leaves out whoever is ejected.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from core.clock import Clock
from monitoring.logs import logger
from monitoring.metrics import EJECTIONS
from monitoring.tally import tally
from router.holdings import Holdings

_log = logger(__name__)

Reason = Literal["wedged", "away", "asleep"]
OUTLIER = "outlier"
BUSY = "busy"

_WINDOW_S = 60.0
_SLOT_S = 5.0
_MIN_CALLS = 20
_BAD_SHARE = 0.5
_GOOD_SHARE = 0.1
_REST_S = 30.0
_MAX_REST_S = 300.0
_NEWEST = 0.2  # of the newest call in the average


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How engines are watched; all in seconds.

    Attributes:
        enabled: False leaves health to the breaker.
        poll_s: between two looks at an engine with work.
        idle_poll_s: the same at one that has had none for a while.
        standstill_s: without any progress, after which an engine with work is ejected; twice its slowest recent step
            where that is longer.
        standstill_cpu_s: the same for an engine on a CPU, whose single steps take seconds under load.
        cold_s: the least of both for an engine that has counted no token since it was started.
        deadline_s: for one look.
        away_s: without an answer to any look, after which an engine is ejected.
        probe_every_s: between two probes of an ejected engine.
        probe_s: for one probe.
    """

    enabled: bool = True
    poll_s: float = 0.5
    idle_poll_s: float = 2.0
    standstill_s: float = 3.0
    standstill_cpu_s: float = 10.0
    cold_s: float = 60.0
    deadline_s: float = 2.0
    away_s: float = 2.5
    probe_every_s: float = 1.0
    probe_s: float = 2.0


class Health:
    """One for each deployment of a process; safe within one event loop.

    Attributes:
        in_flight: calls that it has now.
        begun: calls that it was ever given.
        outcomes: of the calls that ended in the last minute.
        on_work: called when it is given a call and had none unanswered.
        moved_s: reading of the monotonic clock when its engine's figures were last seen to move; None: nobody looks.
        gone_since_s: the same when it was found to be away or asleep; None: it answers.
        wake_wanted: a call waits for it; if it sleeps, the watch wakes it.
        wanted_since_s: the same when it was first waited for; None, or before it was gone: nobody waits.
        holds: what its engine keeps between calls, as it says itself.
        first_token_s: seconds from a stream's request to its first token, on a moving average; None: there was none.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._stopped: Reason | None = None
        self._rests_until_s: float | None = None
        self._rests = 0
        self._alone_until_s = 0.0
        self._callbacks: dict[object, Callable[[str], None]] = {}
        self._unanswered: dict[Flight, float] = {}
        self.in_flight = 0
        self.begun = 0
        self.outcomes = Outcomes(clock)
        self.on_work: Callable[[], None] | None = None
        self.moved_s: float | None = None
        self.gone_since_s: float | None = None
        self.wake_wanted = False
        self.wanted_since_s: float | None = None
        self.holds = Holdings()
        self.first_token_s: float | None = None

    @property
    def ejected(self) -> str | None:
        """Why it gets no calls while another can take them: wedged, away, asleep, busy or outlier."""
        if self._stopped is not None:
            return self._stopped
        if self._clock.monotonic() < self._alone_until_s:
            return BUSY
        if self._rests_until_s is not None and self._clock.monotonic() < self._rests_until_s:
            return OUTLIER
        return None

    @property
    def stopped(self) -> Reason | None:
        """Why the watch has ejected it; its running streams stand still."""
        return self._stopped

    def begin(self) -> "Flight":
        """Count a call that is sent to it now; `end` it, whatever becomes of it."""
        self.in_flight += 1
        self.begun += 1
        flight = Flight(self)
        first = not self._unanswered
        self._unanswered[flight] = self._clock.monotonic()
        if first and self.on_work is not None:
            self.on_work()
        return flight

    @property
    def waiting_since_s(self) -> float | None:
        """Reading of the monotonic clock when the oldest call began that has had no sign of an answer."""
        return next(iter(self._unanswered.values()), None)

    def on_eject(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Have this called with the reason when the watch ejects it. Returns: what takes the callback back.

        An outlier is not told of: its calls fail often, but those that run may well end.
        """
        handle = object()
        self._callbacks[handle] = callback

        def remove() -> None:
            self._callbacks.pop(handle, None)

        return remove

    def eject(self, reason: Reason) -> None:
        """The watch saw it stop; a second time only the reason changes."""
        before, self._stopped = self._stopped, reason
        if reason != "wedged":
            self.gone()
        if before is not None:
            return
        self._count(reason)
        for callback in list(self._callbacks.values()):
            try:
                callback(reason)
            except Exception:  # one stream's mishap must not keep the others from hearing
                _log.exception("a callback failed", deployment=self._name)

    def readmit(self) -> None:
        """The watch saw it work again."""
        self._stopped = None
        self.gone_since_s = None

    def gone(self) -> None:
        """It was found to be away, or asleep."""
        if self.gone_since_s is None:
            self.gone_since_s = self._clock.monotonic()

    def wake(self) -> None:
        """Have the watch wake it, should it be asleep."""
        self.wake_wanted = True
        since_s, gone_s = self.wanted_since_s, self.gone_since_s
        if since_s is None or (gone_s is not None and since_s < gone_s):
            self.wanted_since_s = self._clock.monotonic()
        if self.on_work is not None:
            self.on_work()

    def leave_alone(self, seconds: float) -> None:
        """It asked for so much time; a longer one that it asked for before stays."""
        self._alone_until_s = max(self._alone_until_s, self._clock.monotonic() + seconds)

    def rest(self) -> None:
        """Eject it as an outlier: for 30 s, and 30 s longer each time that it comes back no better."""
        now_s = self._clock.monotonic()
        if self._rests_until_s is not None and now_s - self._rests_until_s > _MAX_REST_S:
            self._rests = 0
        self._rests += 1
        self._rests_until_s = now_s + min(_MAX_REST_S, _REST_S * self._rests)
        self.outcomes.clear()  # it comes back with a clean slate
        self._count(OUTLIER)

    def _count(self, reason: str) -> None:
        tally.add(EJECTIONS.labels(self._name, reason))
        _log.warning("deployment ejected", deployment=self._name, reason=reason, in_flight=self.in_flight)

    def _answered(self, flight: "Flight") -> None:
        began_s = self._unanswered.pop(flight, None)
        if began_s is not None:
            taken_s, before_s = self._clock.monotonic() - began_s, self.first_token_s
            self.first_token_s = taken_s if before_s is None else before_s + _NEWEST * (taken_s - before_s)

    def _silent(self, flight: "Flight") -> None:
        self._unanswered.pop(flight, None)

    def _ended(self, ok: bool | None) -> None:
        self.in_flight -= 1
        if ok:
            self.gone_since_s = None
        if ok is not None:
            self.outcomes.add(ok)


class Flight:
    """One call that a deployment has; made by `Health.begin`."""

    __slots__ = ("_health",)

    def __init__(self, health: Health) -> None:
        self._health: Health | None = health

    def answered(self) -> None:
        """The first of its answer is here: what it still takes shows in the engine's own figures, or is the client's.

        A stream that waits for a slow client is in flight long after its engine has finished it.
        """
        if self._health is not None:
            self._health._answered(self)
            self._health.gone_since_s = None

    def end(self, ok: bool | None = None) -> None:
        """It is over; a second time does nothing. `ok` is None where nothing was learnt of the deployment."""
        health, self._health = self._health, None
        if health is not None:
            health._silent(self)
            health._ended(ok)


class Outcomes:
    """How calls ended within the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: deque[tuple[int, list[int]]] = deque()  # number of the slot; calls and failures in it

    def add(self, ok: bool) -> None:
        slot = int(self._clock.monotonic() // _SLOT_S)
        if not self._slots or self._slots[-1][0] != slot:
            self._forget(slot)
            self._slots.append((slot, [0, 0]))
        counts = self._slots[-1][1]
        counts[0] += 1
        counts[1] += not ok

    def count(self) -> tuple[int, int]:
        """Calls, and how many of them failed."""
        self._forget(int(self._clock.monotonic() // _SLOT_S))
        return sum(counts[0] for _, counts in self._slots), sum(counts[1] for _, counts in self._slots)

    def clear(self) -> None:
        self._slots.clear()

    def _forget(self, slot: int) -> None:
        while self._slots and self._slots[0][0] <= slot - _WINDOW_S // _SLOT_S:
            self._slots.popleft()


def is_outlier(own: tuple[int, int], others: tuple[int, int]) -> bool:
    """Whether a member fails where its siblings don't: more than half of its calls against less than a tenth of theirs.

    Args:
        own: calls and failures of the last minute; `others`: the same of its siblings together.
    """
    (calls, failures), (sibling_calls, sibling_failures) = own, others
    if calls < _MIN_CALLS or sibling_calls < _MIN_CALLS:
        return False
    return failures > _BAD_SHARE * calls and sibling_failures < _GOOD_SHARE * sibling_calls


def rest_outliers(members: list[Health]) -> None:
    """Eject the outliers among a group's members, but never the last one that is not ejected."""
    counts = [health.outcomes.count() for health in members]
    calls, failures = sum(each[0] for each in counts), sum(each[1] for each in counts)
    for health, own in zip(members, counts, strict=True):
        alone = all(other.ejected for other in members if other is not health)
        if not alone and not health.ejected and is_outlier(own, (calls - own[0], failures - own[1])):
            health.rest()
