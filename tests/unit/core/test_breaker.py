"""The breaker, driven by every order of events that hypothesis can think of, on a clock that stands still."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.breaker import Breaker, BreakerPolicy, BreakerState, Permit
from core.clock import ManualClock

POLICY = BreakerPolicy(failures_to_open=3, probe_after_s=10.0, successes_to_close=2, probe_lease_s=60.0)


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = Breaker(POLICY, self.clock)
        self.out: list[Permit] = []
        self.live_probes: list[tuple[Permit, float]] = []

    @rule()
    def acquire(self) -> None:
        before = self.breaker.state
        permit = self.breaker.acquire()
        if before is BreakerState.CLOSED:
            assert permit is not None
            assert not permit.probe
        if permit is not None:
            self.out.append(permit)
            if permit.probe:
                self.live_probes.append((permit, self.clock.monotonic()))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ok=st.booleans())
    def report(self, data: st.DataObject, ok: bool) -> None:
        permit = data.draw(st.sampled_from(self.out))
        self.out.remove(permit)
        self.breaker.report(permit, ok=ok)
        self.live_probes = [pair for pair in self.live_probes if pair[0] != permit]

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        permit = data.draw(st.sampled_from(self.out))
        self.out.remove(permit)
        self.breaker.withdraw(permit)
        self.live_probes = [pair for pair in self.live_probes if pair[0] != permit]

    @rule(seconds=st.floats(min_value=0, max_value=100))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def at_most_one_probe_within_its_lease(self) -> None:
        now = self.clock.monotonic()
        young = [start for _, start in self.live_probes if now - start < POLICY.probe_lease_s]
        assert len(young) <= 1

    @invariant()
    def a_refusal_says_when_to_come_back(self) -> None:
        assert 0 <= self.breaker.retry_after_s() <= POLICY.probe_lease_s


BreakerMachine.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase


def opened() -> tuple[Breaker, ManualClock]:
    clock = ManualClock()
    breaker = Breaker(POLICY, clock)
    for _ in range(POLICY.failures_to_open):
        permit = breaker.acquire()
        assert permit is not None
        breaker.report(permit, ok=False)
    return breaker, clock


def test_it_opens_after_the_failures_of_the_policy_in_a_row() -> None:
    breaker, _ = opened()
    assert breaker.state is BreakerState.OPEN
    assert breaker.acquire() is None
    assert breaker.retry_after_s() == POLICY.probe_after_s


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = Breaker(POLICY, ManualClock())
    for ok in (False, False, True, False, False):
        permit = breaker.acquire()
        assert permit is not None
        breaker.report(permit, ok=ok)
    assert breaker.state is BreakerState.CLOSED


def test_of_a_hundred_calls_one_is_let_through_as_the_probe() -> None:
    breaker, clock = opened()
    clock.advance(POLICY.probe_after_s)
    permits = [permit for permit in (breaker.acquire() for _ in range(100)) if permit is not None]
    assert len(permits) == 1
    assert permits[0].probe


def test_two_good_probes_close_it_and_a_bad_one_opens_it_again() -> None:
    breaker, clock = opened()
    clock.advance(POLICY.probe_after_s)
    for expected in (BreakerState.HALF_OPEN, BreakerState.CLOSED):
        permit = breaker.acquire()
        assert permit is not None
        breaker.report(permit, ok=True)
        assert breaker.state is expected
    breaker, clock = opened()
    clock.advance(POLICY.probe_after_s)
    permit = breaker.acquire()
    assert permit is not None
    breaker.report(permit, ok=False)
    assert breaker.state is BreakerState.OPEN


def test_reports_from_before_it_opened_do_not_close_it() -> None:
    clock = ManualClock()
    breaker = Breaker(POLICY, clock)
    late = [breaker.acquire() for _ in range(POLICY.successes_to_close)]
    for _ in range(POLICY.failures_to_open):
        permit = breaker.acquire()
        assert permit is not None
        breaker.report(permit, ok=False)
    for one in late:
        assert one is not None
        breaker.report(one, ok=True)
    assert breaker.state is BreakerState.OPEN


def test_a_forgotten_probe_frees_its_place_after_its_lease() -> None:
    breaker, clock = opened()
    clock.advance(POLICY.probe_after_s)
    assert breaker.acquire() is not None
    assert breaker.acquire() is None
    clock.advance(POLICY.probe_lease_s)
    assert breaker.acquire() is not None
