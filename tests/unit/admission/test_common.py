"""Limits that all tenants share: what was admitted never exceeds them, and in the end nothing is held."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.admission.common import Whole
from api.admission.errors import Dimension
from api.admission.holdings import Amounts, Holding
from api.admission.model import Load, period_of
from core.limits import Limits
from tests.support.leasing import (
    LEASE_MS,
    MIDNIGHT_MS,
    START_MS,
    Walk,
    Worker,
    lose_everything_while_money_is_spent,
    model,
)


@given(seed=st.integers(0, 2**32))
def test_no_limit_is_exceeded_and_nothing_stays_held(seed: int) -> None:
    Walk(seed).walk()


def test_walks_come_near_every_limit(figure: Callable[[str], None]) -> None:
    done: Counter[str] = Counter()
    for seed in range(60):
        walk = Walk(seed)
        walk.walk()
        done.update(walk.done)
    figure(f"60 walks: {dict(sorted(done.items()))}")
    refused = {what for what, count in done.items() if what.endswith("refused") and count}
    assert refused >= {"requests refused", "tokens refused", "parallel refused", "usd_day refused"}
    others = ("changes", "deaths", "restarts", "late: Leased", "late: Old", "late: Late")
    assert min(done[what] for what in others) > 0


def test_money_that_a_worker_had_not_reported_when_redis_lost_everything_is_asked_of_the_ledger() -> None:
    lose_everything_while_money_is_spent(Walk())


@pytest.mark.parametrize("kind", [Dimension.REQUESTS, Dimension.PARALLEL])
def test_what_an_idle_worker_has_in_hand_goes_back_with_its_beats(kind: Dimension) -> None:
    walk = Walk()
    limits = Limits(requests_per_minute=100) if kind is Dimension.REQUESTS else Limits(parallel=100)
    worker = Worker(Holding(model(limits), "x"), START_MS)
    walk.workers = [worker]
    for _ in range(30):
        if not worker.holding.fits(START_MS, (0, 0)):
            walk.exchange(worker, worker.holding.ask(START_MS, [(0, 0)]))
        worker.holding.take(START_MS, (0, 0)).end(0, 0, released=False)
    assert walk.whole.held[kind] > 0
    for _ in range(8):
        walk.exchange(worker, worker.holding.beat(START_MS))
    assert walk.whole.held[kind] == 0
    assert worker.holding.idle


def asked_and_served(walk: Walk, worker: Worker, amounts: Amounts) -> bool:
    """One request of a worker that asks the whole where it has too little. Returns: whether it was admitted."""
    holding = worker.holding
    if not holding.fits(walk.now_ms, amounts):
        walk.exchange(worker, holding.ask(walk.now_ms, [amounts]), [amounts])
    if not holding.fits(walk.now_ms, amounts):
        return False
    walk.admit(worker, amounts)
    return True


def two_workers(walk: Walk, limits: Limits) -> list[Worker]:
    walk.limits, walk.now_ms = limits, START_MS
    walk.workers = [Worker(Holding(model(limits), f"x{at}"), START_MS) for at in range(2)]
    return walk.workers


@pytest.mark.parametrize("event", ["a report to an empty Redis", "a dead worker's lines", "an overdue account"])
def test_an_answer_of_the_ledger_that_was_under_way_meanwhile_is_in_doubt(event: str) -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(nano_usd_per_day=1_000))
    meter = first.holding.metered.meters[0]
    assert asked_and_served(walk, second, (0, 600))
    if event == "a report to an empty Redis":
        walk.whole = Whole()
    else:
        walk.whole.forget()
    walk.write(first, first.holding.ask(START_MS, [(0, 500)]))
    assert first.sent is not None
    missing = walk.deliver(first, first.sent)
    assert missing is not None
    load = Load(meter, period_of(meter.dimension, START_MS), missing.counters[0].late, 0)  # read before what comes now
    walk.end(second, second.running[0], 0, 600, released=False)
    if event == "a report to an empty Redis":
        walk.exchange(second, second.holding.last(START_MS))
    elif event == "a dead worker's lines":
        walk.exchange(second, second.holding.last(START_MS))
        walk.whole.forget()
    else:
        walk.now_ms += LEASE_MS + 1
    walk.write(first, first.holding.ask(walk.now_ms, [(0, 500)]))
    assert first.sent is not None
    walk.deliver(first, first.sent, [load])
    walk.hear(first)
    assert not asked_and_served(walk, first, (0, 500)), "600 of 1,000 were spent"
    assert asked_and_served(walk, first, (0, 400))


def test_what_was_held_of_a_limit_that_was_taken_away_comes_back() -> None:
    walk = Walk()
    both, rest = Limits(requests_per_minute=1_000, parallel=10), Limits(requests_per_minute=1_000)
    first, second = two_workers(walk, both)
    for _ in range(10):
        assert asked_and_served(walk, first, (0, 0))
    first.holding.adapt(model(rest))
    walk.exchange(first, first.holding.beat(START_MS))
    assert walk.whole.held[Dimension.PARALLEL] == 10, "they still run"
    for taken in list(first.running):
        walk.end(first, taken, 0, 0, released=False)
    for _ in range(8):
        walk.exchange(first, first.holding.beat(START_MS))
    assert walk.whole.held[Dimension.PARALLEL] == 0
    assert first.holding.idle
    assert asked_and_served(walk, second, (0, 0))


def test_who_asks_for_more_than_there_is_takes_nothing_from_others() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(tokens_per_minute=100))
    assert asked_and_served(walk, second, (40, 0))
    walk.write(first, first.holding.ask(START_MS, [(90, 0)]))
    assert first.sent is not None
    walk.deliver(first, first.sent)  # its answer is still on its way
    assert asked_and_served(walk, second, (60, 0))


def test_those_who_fit_go_on_beside_one_who_does_not() -> None:
    walk = Walk()
    first, _ = two_workers(walk, Limits(tokens_per_minute=100))
    waiting = [(60, 0), (70, 0), (30, 0), (20, 0)]
    walk.exchange(first, first.holding.ask(START_MS, waiting), waiting)
    assert first.holding.could_fit(waiting) == [True, False, True, False]


def test_what_was_admitted_alone_before_redis_was_ever_heard_counts() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(requests_per_minute=100))
    for _ in range(100):
        first.holding.take(START_MS, (0, 0))  # by the outage's share
    walk.exchange(first, first.holding.beat(START_MS))
    assert not asked_and_served(walk, second, (0, 0))


def test_money_of_requests_that_ran_when_it_was_limited_counts() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(parallel=10))
    assert asked_and_served(walk, first, (0, 900))
    for worker in (first, second):
        worker.holding.adapt(model(Limits(parallel=10, nano_usd_per_day=1_000)))
    walk.workers = [second]  # the other goes on while the ledger is asked
    assert asked_and_served(walk, second, (0, 1))
    (taken,) = first.running
    walk.end(first, taken, 0, 900, released=False)
    walk.exchange(first, first.holding.beat(START_MS))
    assert not asked_and_served(walk, second, (0, 500))


def test_a_clock_that_stands_a_little_wrong_at_midnight_refuses_nobody() -> None:
    for ahead_ms in (-5, 5):
        walk = Walk()
        first, _ = two_workers(walk, Limits(nano_usd_per_day=1_000))
        walk.now_ms = MIDNIGHT_MS - 3 if ahead_ms > 0 else MIDNIGHT_MS + 2
        worker_ms = walk.now_ms + ahead_ms
        for _ in range(3):  # as `Leases` does, until both agree
            walk.write(first, first.holding.ask(worker_ms, [(0, 500)]))
            assert first.sent is not None
            missing = walk.deliver(first, first.sent)
            if missing is not None:
                meter, period = missing.counters[0].meter, period_of(Dimension.USD_DAY, walk.now_ms)
                walk.write(first, first.holding.ask(worker_ms, [(0, 500)]))
                walk.deliver(first, first.sent, [Load(meter, period, missing.counters[0].late, 0)])
            walk.hear(first)
            if first.holding.fits(worker_ms, (0, 500)):
                break
        assert first.holding.fits(worker_ms, (0, 500)), ahead_ms


def test_a_holding_of_tokens_alone_stays_while_its_request_runs() -> None:
    walk = Walk()
    first, _ = two_workers(walk, Limits(tokens_per_minute=10_000))
    assert asked_and_served(walk, first, (9_000, 0))
    for _ in range(30):
        walk.exchange(first, first.holding.beat(START_MS))
    assert not first.holding.idle
    walk.end(first, first.running[0], 100, 0, released=False)
    for _ in range(20):
        walk.exchange(first, first.holding.beat(START_MS))
    assert first.holding.idle
    assert walk.whole.left(START_MS, first.holding.metered.meters[0]) == 9_900 * 60_000


def test_money_that_was_in_the_ledgers_answer_and_is_reported_after_it_refuses_nobody() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(nano_usd_per_day=2_000))
    assert asked_and_served(walk, second, (0, 600))
    walk.whole.forget()
    walk.end(second, second.running[0], 0, 600, released=False)
    assert asked_and_served(walk, first, (0, 1))  # the ledger says 600
    walk.exchange(second, second.holding.last(START_MS))  # and so does the worker
    assert asked_and_served(walk, first, (0, 1_399))


def test_a_holding_does_not_end_while_a_report_of_it_was_not_heard() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(parallel=1))
    assert asked_and_served(walk, first, (0, 0))
    for _ in range(3):
        walk.exchange(first, first.holding.beat(START_MS))
    walk.end(first, first.running[0], 0, 0, released=False)
    first.holding.beat(START_MS)  # gets lost
    first.holding.calls += 1
    assert not first.holding.idle, "what it held would be kept from others until its lease ends"
    assert not asked_and_served(walk, second, (0, 0))
    walk.exchange(first, first.holding.beat(START_MS))
    assert first.holding.idle
    assert asked_and_served(walk, second, (0, 0))


def test_tokens_that_come_back_are_reported_before_a_holding_ends() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(tokens_per_minute=100))
    assert asked_and_served(walk, first, (100, 0))
    for _ in range(8):
        walk.exchange(first, first.holding.beat(START_MS))
    walk.end(first, first.running[0], 0, 0, released=False)
    assert not first.holding.idle
    walk.exchange(first, first.holding.beat(START_MS))
    assert first.holding.idle
    assert asked_and_served(walk, second, (100, 0))


def test_tokens_that_come_back_when_their_bucket_is_full_again_are_not_spent_beside_it() -> None:
    walk = Walk()
    (worker, *_) = two_workers(walk, Limits(tokens_per_minute=10_000))
    for _ in range(10):
        assert asked_and_served(walk, worker, (10_000, 0))
        walk.now_ms += 60_000
        walk.exchange(worker, worker.holding.beat(walk.now_ms))
    for taken in list(worker.running):
        walk.end(worker, taken, 0, 0, released=False)
    assert asked_and_served(walk, worker, (10_000, 0))
    assert not asked_and_served(walk, worker, (1, 0))


def test_of_what_an_overdue_account_held_of_money_the_ledger_is_asked() -> None:
    walk = Walk()
    first, second = two_workers(walk, Limits(nano_usd_per_day=1_000))
    assert asked_and_served(walk, first, (0, 1))
    assert asked_and_served(walk, second, (0, 600))
    walk.bill(second.running[0], 600)  # and then it died, before it reported that
    walk.workers.remove(second)
    for _ in range(3):
        walk.now_ms += LEASE_MS // 2
        walk.exchange(first, first.holding.beat(walk.now_ms))
    assert not asked_and_served(walk, first, (0, 500))
    assert asked_and_served(walk, first, (0, 399))
