"""A worker alone admits its share and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.admission.errors import Dimension
from api.admission.meters import metered
from api.admission.model import MINUTE_MS, Granted, Missing, Refused
from api.admission.share import Share
from core.clock import ManualClock
from core.limits import Limits, Subject, SubjectKind

DAY_START_MS = 1_790_035_200_000


def of(limits: Limits, *more: Limits) -> tuple[Subject, ...]:
    return tuple(Subject(SubjectKind.KEY, f"k{at}", each) for at, each in enumerate((limits, *more)))


class Worker:
    """One share on a clock that stands still."""

    def __init__(self, limits: Limits, workers: int = 4) -> None:
        self.clock = ManualClock(DAY_START_MS / 1000)
        self.share = Share(workers)
        self.wanted = metered("acme", of(limits))
        self.count = 0

    @property
    def now_ms(self) -> int:
        return round(self.clock.time() * 1000)

    def tell(self, *left: int) -> None:
        self.share.tell(self.now_ms, self.wanted, left)

    def ask(self, tokens: int = 0, nano_usd: int = 0) -> Granted | Refused | Missing:
        self.count += 1
        outcome = self.share.admit(self.now_ms, "acme", str(self.count), self.wanted, tokens, nano_usd)
        assert isinstance(outcome, Granted | Refused | Missing)
        return outcome

    def admitted(self, tokens: int = 0, nano_usd: int = 0) -> int:
        count = 0
        while isinstance(self.ask(tokens, nano_usd), Granted):
            count += 1
        return count


@given(left=st.integers(0, 200), workers=st.integers(1, 9), each=st.integers(1, 50))
def test_all_workers_together_never_spend_more_than_was_left(left: int, workers: int, each: int) -> None:
    total = 0
    for _ in range(workers):
        worker = Worker(Limits(nano_usd_per_day=20_000), workers)
        worker.tell(left)
        total += each * worker.admitted(nano_usd=each)
    assert total <= left
    assert total == workers * each * (left // workers // each)


def test_money_of_which_nothing_recent_is_known_comes_from_the_ledger() -> None:
    worker = Worker(Limits(nano_usd_per_day=1_000, nano_usd_per_month=1_000))
    worker.tell(400, 800)
    worker.clock.advance(10.1)
    outcome = worker.ask(nano_usd=1)
    assert isinstance(outcome, Missing)
    assert [counter.meter.dimension for counter in outcome.counters] == [Dimension.USD_DAY, Dimension.USD_MONTH]
    for counter in outcome.counters:
        worker.share.load(worker.now_ms, counter.meter, spent_nano_usd=800)
    assert worker.admitted(nano_usd=10) == 5


def test_a_day_that_turns_while_redis_is_silent_is_asked_of_the_ledger() -> None:
    worker = Worker(Limits(nano_usd_per_day=1_000))
    worker.tell(1_000)
    assert worker.admitted(nano_usd=250) == 1
    worker.clock.advance(86_400)
    assert isinstance(worker.ask(nano_usd=1), Missing)


@pytest.mark.parametrize("strict", [False, True])
def test_a_rate_starts_from_what_was_left_and_refills_at_its_share(strict: bool) -> None:
    worker = Worker(Limits(requests_per_minute=60, strict=strict))
    worker.tell(20 if strict else 20 * MINUTE_MS)
    assert worker.admitted() == 5
    worker.clock.advance(61)
    assert worker.admitted() == 15


def test_a_refusal_names_the_callers_own_limit() -> None:
    worker = Worker(Limits(tokens_per_minute=100))
    outcome = worker.ask(tokens=26)
    assert isinstance(outcome, Refused)
    assert outcome.meter is worker.wanted.meters[0]


def test_small_limits_shut_nobody_out() -> None:
    worker = Worker(Limits(requests_per_minute=1, parallel=1))
    assert worker.admitted() == 1


def test_what_is_given_back_can_be_used_again() -> None:
    worker = Worker(Limits(parallel=8, nano_usd_per_day=1_000))
    worker.tell(8, 400)
    assert worker.admitted(nano_usd=50) == 2
    worker.share.settle(worker.now_ms, "1", 0, 20)
    assert worker.admitted(nano_usd=30) == 1
    worker.share.release(worker.now_ms, "2")
    assert worker.admitted(nano_usd=50) == 1


def test_a_share_is_not_given_out_twice() -> None:
    worker = Worker(Limits(nano_usd_per_day=1_000))
    worker.tell(400)
    assert worker.admitted(nano_usd=10) == 10
    worker.share.close()
    assert isinstance(worker.ask(nano_usd=10), Missing)


def test_ends_after_redis_answered_again_are_no_error() -> None:
    worker = Worker(Limits(parallel=1))
    assert worker.admitted() == 1
    worker.share.close()
    worker.share.settle(worker.now_ms, "1", 0, 0)
    worker.share.release(worker.now_ms, "1")
    assert worker.admitted() == 1
