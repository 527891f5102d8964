"""When hits of questions in other words are to be trusted."""

import pytest

from api.caching.similar import Trust


def test_before_anything_was_seen_everything_is_possible() -> None:
    trust = Trust(0.02)
    assert trust.holds
    assert trust.most == 1.0


@pytest.mark.parametrize(
    ("right", "wrong", "holds"), [(300, 3, True), (100, 0, True), (5, 0, True), (60, 6, False), (0, 1, False)]
)
def test_it_ends_where_the_bound_is_surely_passed(right: int, wrong: int, holds: bool) -> None:
    trust = Trust(0.02)
    for same in [True] * right + [False] * wrong:
        trust.observe(same=same)
    assert trust.holds is holds


def test_the_bound_of_what_is_possible_falls_with_what_was_seen() -> None:
    trust, seen = Trust(0.02), []
    for _ in range(300):
        trust.observe(same=True)
        seen.append(trust.most)
    assert seen == sorted(seen, reverse=True)
    assert 0.008 < seen[-1] < 0.01  # z² / (n + z²) of 300
