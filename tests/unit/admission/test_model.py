"""The model keeps what limits promise, whatever happens in whatever order; scripts are compared with it elsewhere."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from api.admission.errors import Dimension
from api.admission.meters import Metered, metered
from api.admission.model import (
    Book,
    Granted,
    Late,
    Load,
    Missing,
    Refused,
    Stale,
    period_end_ms,
    period_name,
    period_of,
)
from core.limits import Limits, Subject, SubjectKind

START_MS = 1_790_000_000_000
STRICT = Subject(SubjectKind.KEY, "strict", Limits(requests_per_minute=4, tokens_per_minute=100, strict=True))
BUCKET = Subject(SubjectKind.USER, "bucket", Limits(requests_per_minute=6, burst=3, parallel=3))
PURSE = Subject(SubjectKind.TEAM, "purse", Limits(nano_usd_per_day=100, nano_usd_per_month=250))


class Promises(RuleBasedStateMachine):
    """What was used is reckoned here a second time, from what the callers did."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.now_ms = START_MS
        self.live: dict[str, tuple[Metered, int, int]] = {}
        self.count = 0
        self.admitted_ms: dict[str, list[int]] = defaultdict(list)
        self.tokens: dict[str, tuple[int, int]] = {}
        self.lines: list[tuple[int, int]] = []
        self.began_ms: dict[str, int] = {}

    @rule(ms=st.integers(0, 1_500) | st.integers(57_000, 60_500) | st.sampled_from([70_000, 86_400_000]))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule(
        subjects=st.sampled_from([{STRICT}, {BUCKET}, {PURSE}, {STRICT, BUCKET}, {STRICT, BUCKET, PURSE}]),
        tokens=st.integers(0, 60),
        nano_usd=st.integers(0, 60),
    )
    def admit(self, subjects: set[Subject], tokens: int, nano_usd: int) -> None:
        self.count += 1
        name, wanted = str(self.count), metered("acme", tuple(sorted(subjects, key=lambda one: one.id)))
        outcome = self.book.admit(self.now_ms, name, wanted, tokens, nano_usd, lease_ms=10**12)
        if isinstance(outcome, Missing):
            loads = [
                Load(counter.meter, period, counter.late, self.billed(counter.meter.dimension, period))
                for counter in outcome.counters
                for period in [period_of(counter.meter.dimension, self.now_ms)]
            ]
            outcome = self.book.admit(self.now_ms, name, wanted, tokens, nano_usd, lease_ms=10**12, loads=loads)
        if isinstance(outcome, Granted):
            assert all(left >= 0 for left in outcome.left)
            self.live[name] = (wanted, tokens, nano_usd)
            self.began_ms[name] = self.now_ms
            self.tokens[name] = (self.now_ms, tokens if STRICT in subjects else 0)
            for subject in subjects:
                self.admitted_ms[subject.id].append(self.now_ms)

    @precondition(lambda self: self.live)
    @rule(part=st.floats(0, 1), data=st.data())
    def settle(self, part: float, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.live)))
        wanted, tokens, nano_usd = self.live.pop(name)
        self.tokens[name] = (self.tokens[name][0], min(self.tokens[name][1], int(tokens * part)))
        if PURSE in wanted.subjects:
            self.lines.append((self.began_ms[name], int(nano_usd * part)))
        assert self.book.settle(self.now_ms, name, wanted, int(tokens * part), int(nano_usd * part))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.live)))
        wanted, _, _ = self.live.pop(name)
        self.book.release(self.now_ms, name)
        self.tokens[name] = (self.now_ms, 0)
        for subject in wanted.subjects:
            self.admitted_ms[subject.id].remove(self.began_ms[name])

    @rule()
    def forget(self) -> None:
        self.book.forget([metered("acme", (PURSE,)).meters[0].key])

    def billed(self, dimension: Dimension, period: int) -> int:
        return sum(nano_usd for at_ms, nano_usd in self.lines if period_of(dimension, at_ms) == period)

    @invariant()
    def no_sliding_minute_holds_more_than_its_limit(self) -> None:
        recent = [at_ms for at_ms in self.admitted_ms[STRICT.id] if at_ms > self.now_ms - 60_000]
        assert len(recent) <= 4
        assert sum(count for at_ms, count in self.tokens.values() if at_ms > self.now_ms - 60_000) <= 100

    @invariant()
    def no_bucket_gives_more_than_it_held_and_got(self) -> None:
        times = self.admitted_ms[BUCKET.id]
        for first in range(len(times)):
            span_ms = self.now_ms - times[first]
            assert len(times) - first <= 3 + 6 * span_ms / 60_000 + 1

    @invariant()
    def places_are_never_overbooked(self) -> None:
        assert sum(BUCKET in wanted.subjects for wanted, _, _ in self.live.values()) <= 3

    @invariant()
    def what_is_billed_and_held_stays_within_the_budget(self) -> None:
        for dimension, limit in ((Dimension.USD_DAY, 100), (Dimension.USD_MONTH, 250)):
            period = period_of(dimension, self.now_ms)
            held = sum(
                nano_usd
                for name, (wanted, _, nano_usd) in self.live.items()
                if PURSE in wanted.subjects and period_of(dimension, self.began_ms[name]) == period
            )
            assert self.billed(dimension, period) + held <= limit


Promises.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestPromises = Promises.TestCase


def admit(book: Book, wanted: Metered, now_ms: int = START_MS, **more: object) -> object:
    more = {"lease_ms": 10**9, **more}
    return book.admit(now_ms, f"{now_ms}-{len(book.holds)}", wanted, 1, 1, **more)  # type: ignore[arg-type]


@given(
    part_ms=st.integers(0, 999),
    gaps_ms=st.lists(st.sampled_from([0, 0, 0, 300]) | st.integers(58_000, 61_500), min_size=6, max_size=30),
)
def test_no_minute_however_it_lies_holds_more_than_a_strict_limit(part_ms: int, gaps_ms: list[int]) -> None:
    book, wanted, now_ms = Book(), metered("acme", (STRICT,)), START_MS + part_ms
    admitted: list[int] = []
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        if isinstance(admit(book, wanted, now_ms), Granted):
            admitted.append(now_ms)
        assert sum(at_ms > now_ms - 60_000 for at_ms in admitted) <= 4
    assert admitted


def test_late_and_stale_calls_take_nothing() -> None:
    book, wanted = Book(), metered("acme", (BUCKET,))
    book.bump("key", 2)
    assert admit(book, wanted, not_after_ms=START_MS - 1) == Late()
    assert admit(book, wanted, key=("key", 1)) == Stale()
    assert book == Book(generations={"key": 2})
    assert isinstance(admit(book, wanted, not_after_ms=START_MS, key=("key", 2)), Granted)


def test_one_subject_without_room_refuses_for_all() -> None:
    full = Subject(SubjectKind.ROUTE, "/v1/x", Limits(parallel=0))
    book = Book()
    assert isinstance(admit(book, metered("acme", (BUCKET, STRICT, full))), Refused)
    assert book == Book()


def test_an_adopted_reservation_that_has_ended_is_not_adopted_again() -> None:
    book, wanted = Book(), metered("acme", (BUCKET,))
    book.adopt(START_MS, "a", wanted, 1, 1, admitted_ms=START_MS, lease_ms=1_000)
    assert book.settle(START_MS, "a", wanted, 1, 1)
    book.adopt(START_MS + 1, "a", wanted, 1, 1, admitted_ms=START_MS, lease_ms=1_000)
    assert not book.holds


def test_what_was_admitted_alone_before_the_ledger_was_asked_is_not_counted_twice() -> None:
    book, wanted = Book(), metered("acme", (Subject(SubjectKind.KEY, "k", Limits(nano_usd_per_day=1_000)),))
    meter = wanted.meters[0]
    for name, admitted_ms, doubt in (("before", START_MS - 500, True), ("after", START_MS + 5_000, False)):
        book.forget([meter.key])
        late = book.purses[meter.key, meter.dimension].late if book.purses else 0
        load = Load(meter, period_of(meter.dimension, START_MS), late, 100)  # what was admitted before is in it
        assert isinstance(book.admit(START_MS, f"then {name}", wanted, 1, 1, lease_ms=60_000, loads=[load]), Granted)
        book.adopt(START_MS + 5_000, name, wanted, 1, 10, admitted_ms=admitted_ms, lease_ms=1_000)
        book.settle(START_MS + 5_000, name, wanted, 1, 10)
        purse = book.purses[meter.key, meter.dimension]
        assert (purse.spent, purse.doubt) == (110, doubt)
        if doubt:  # it is asked for before anybody is refused, and not before
            assert isinstance(book.admit(START_MS, "small", wanted, 1, 880, lease_ms=1_000), Granted)
            assert isinstance(book.admit(START_MS, "large", wanted, 1, 900, lease_ms=1_000), Missing)
        load = Load(meter, load.period, purse.late, 100)


def test_money_settled_while_the_ledger_was_asked_is_not_lost() -> None:
    book, wanted = Book(), metered("acme", (PURSE,))
    outcome = admit(book, wanted)
    assert isinstance(outcome, Missing)
    book.settle(START_MS, "gone", wanted, 0, 40)
    loads = [Load(one.meter, period_of(one.meter.dimension, START_MS), one.late, 10) for one in outcome.counters]
    granted = admit(book, wanted, loads=loads)
    assert granted == Granted((100 - 10 - 40 - 1, 250 - 10 - 40 - 1))


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_periods_are_those_of_the_calendar(at: datetime) -> None:
    at_ms = int(at.timestamp() * 1000)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    assert period_name(Dimension.USD_DAY, period_of(Dimension.USD_DAY, at_ms)) == f"{at:%Y-%m-%d}"
    assert period_name(Dimension.USD_MONTH, period_of(Dimension.USD_MONTH, at_ms)) == f"{at:%Y-%m}"
    assert period_end_ms(Dimension.USD_DAY, at_ms) == (midnight + timedelta(days=1)).timestamp() * 1000
    assert period_end_ms(Dimension.USD_MONTH, at_ms) == month.timestamp() * 1000


@pytest.mark.parametrize(
    "limits", [Limits(requests_per_minute=0, burst=0), Limits(parallel=0), Limits(nano_usd_per_day=0)]
)
def test_a_limit_of_nothing_never_opens(limits: Limits) -> None:
    wanted = metered("acme", (Subject(SubjectKind.KEY, "k", limits),))
    book = Book()
    loads = [
        Load(meter, period_of(meter.dimension, START_MS), 0, 0) for meter in wanted.meters if meter.dimension.money
    ]
    assert admit(book, wanted, loads=loads) == Refused(wanted.meters[0], None)
