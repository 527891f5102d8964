"""What is watched of a deployment from outside, at every step: its one probe, and when it was last in trouble."""

from collections.abc import Callable

from core.breaker import BreakerState, Permit
from router.choice import Member
from router.health import Reason
from tests.simulation.loop import VirtualLoop
from tests.simulation.trace import Trace


class Monitor:
    """Listens to one member of one worker's router.

    Attributes:
        trouble_s: reading of the loop's clock when its breaker last opened, or it was last ejected or told to rest.
        on_eject: called when the watch ejects it.
    """

    def __init__(self, worker: str, member: Member, loop: VirtualLoop, trace: Trace) -> None:
        self.member = member
        self.trouble_s = 0.0
        self.on_eject: Callable[[], None] = lambda: None
        self._name = f"{worker}/{member.deployment.name}"
        self._loop = loop
        self._trace = trace
        self._probe: Permit | None = None
        self._probe_s = 0.0
        self._listen_to_breaker()
        self._listen_to_health()

    @property
    def fine(self) -> bool:
        """Nothing is known against it now."""
        return self.member.breaker.state is BreakerState.CLOSED and self.member.health.ejected is None

    @property
    def probing(self) -> bool:
        """A probe is out that nobody has ended."""
        return self._probe is not None

    def _listen_to_breaker(self) -> None:
        breaker = self.member.breaker
        acquire, report, withdraw, close = breaker.acquire, breaker.report, breaker.withdraw, breaker.close
        lease_s = self.member.deployment.breaker.probe_lease_s

        def acquired() -> Permit | None:
            permit = acquire()
            if permit is not None and permit.probe:
                self._trace.say(f"{self._name} is probed", "probes")
                alone = self._probe is None or self._loop.time() >= self._probe_s + lease_s
                self._trace.hold(alone, f"{self._name}: two probes at once")
                self._probe, self._probe_s = permit, self._loop.time()
            return permit

        def reported(permit: Permit, *, ok: bool) -> None:
            before = breaker.state
            if permit == self._probe:
                self._probe = None
            report(permit, ok=ok)
            if breaker.state is not before:
                self._trace.say(f"{self._name} is {breaker.state}", f"breaker {breaker.state}")
            if breaker.state is BreakerState.OPEN:
                self.trouble_s = self._loop.time()

        def withdrawn(permit: Permit) -> None:
            if permit == self._probe:
                self._probe = None
            withdraw(permit)

        def closed() -> None:
            self._probe = None
            close()

        breaker.acquire = acquired  # type: ignore[method-assign]
        breaker.report = reported  # type: ignore[method-assign]
        breaker.withdraw = withdrawn  # type: ignore[method-assign]
        breaker.close = closed  # type: ignore[method-assign]

    def _listen_to_health(self) -> None:
        health = self.member.health
        eject, rest, leave_alone = health.eject, health.rest, health.leave_alone

        def ejected(reason: Reason) -> None:
            if health.stopped is None:
                self._trace.say(f"{self._name} is ejected: {reason}", "ejections")
            self.trouble_s = self._loop.time()
            first = health.stopped is None
            eject(reason)
            if first:
                self.on_eject()

        def rested() -> None:
            self._trace.say(f"{self._name} is an outlier", "outliers")
            self.trouble_s = self._loop.time()
            rest()

        def left_alone(seconds: float) -> None:
            self.trouble_s = self._loop.time()
            leave_alone(seconds)

        health.eject = ejected  # type: ignore[method-assign]
        health.rest = rested  # type: ignore[method-assign]
        health.leave_alone = left_alone  # type: ignore[method-assign]
