"""When a variant is ended: when it is worse beyond chance, and not while it only looks so."""

import random

import pytest

from api.experiments.judging import Side, worse
from router.experiments import Stop

STOP = Stop(after=200, failures=0.02, slower=1.5)


def side(calls: int, failed: int = 0, mean_s: float = 0.5, spread_s: float = 0.1) -> Side:
    answered = calls - failed
    squares = answered * mean_s**2 + (answered - 1) * spread_s**2
    return Side(calls=calls, failed=failed, seconds=mean_s * answered, squares=squares)


@pytest.mark.parametrize(
    ("control", "variant", "ended"),
    [
        (side(1000, 10), side(1000, 10), None),
        (side(1000, 10), side(1000, 60), "6.0% of its 1000 calls failed, 1.0% of the control's 1000"),
        (side(1000, 60), side(1000, 10), None),  # better
        (side(1000, 10), side(1000, 26), None),  # worse by less than is minded
        (side(199), side(10_000, 9_000), None),  # too few yet
        (side(10_000), side(199, 199), None),
        (side(200), side(200, 200), "100.0%"),
        (side(300, mean_s=0.5), side(300, mean_s=0.9), "0.900 s on average, the control's 0.500 s"),
        (side(300, mean_s=0.5), side(300, mean_s=0.7), None),  # slower by less than is minded
        (side(300, mean_s=0.5, spread_s=9), side(300, mean_s=0.9, spread_s=9), None),  # may be chance
    ],
)
def test_it_is_ended_where_it_is_worse_beyond_chance(control: Side, variant: Side, ended: str | None) -> None:
    found = worse(control, variant, STOP)
    assert (found is None) if ended is None else (found is not None and ended in found)


def walk(of: random.Random, control: float, variant: float, looks: int) -> int | None:
    """Let calls fail with these chances, and look after every hundred. Returns: the look that ended it."""
    counts = [[0, 0], [0, 0]]
    for look in range(looks):
        for failed, chance in zip(counts, (control, variant), strict=True):
            failed[0] += 100
            failed[1] += sum(of.random() < chance for _ in range(100))
        sides = [
            Side(calls=calls, failed=failed, seconds=0.5 * calls, squares=0.25 * calls) for calls, failed in counts
        ]
        if worse(sides[0], sides[1], Stop(after=200, failures=0.0)) is not None:
            return look
    return None


def test_looking_again_and_again_seldom_ends_one_that_is_as_good() -> None:
    of = random.Random(1)
    ended = [walk(of, 0.05, 0.05, 40) for _ in range(150)]
    assert sum(look is not None for look in ended) <= 6  # 4 %


def test_one_that_fails_twice_as_often_is_ended() -> None:
    of = random.Random(2)
    ended = [walk(of, 0.05, 0.12, 40) for _ in range(50)]
    assert all(look is not None for look in ended)


def test_an_interval_holds_the_share_as_often_as_it_says() -> None:
    of = random.Random(3)
    held = 0
    for _ in range(1000):
        interval = Side(calls=150, failed=sum(of.random() < 0.03 for _ in range(150))).failed_interval()
        assert interval is not None
        held += interval[0] <= 0.03 <= interval[1]
    assert held >= 930


def test_where_there_is_nothing_nothing_is_said() -> None:
    empty = Side()
    assert (empty.share_failed, empty.mean_s, empty.failed_interval(), empty.error_s()) == (None, None, None, None)
    assert side(1, 1).mean_s is None
