"""Limits that all tenants share: what was admitted never exceeds them, and in the end nothing is held."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.admission.errors import Dimension
from api.admission.holdings import Holding
from core.limits import Limits
from tests.support.leasing import START_MS, Walk, Worker, lose_everything_while_money_is_spent, model


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
    assert min(done["deaths"], done["restarts"], done["late: Leased"], done["late: Old"], done["late: Late"]) > 0


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
