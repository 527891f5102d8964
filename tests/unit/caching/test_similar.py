"""When hits of questions in other words are to be trusted."""

import pytest

from api.caching import similar
from api.caching.similar import Similar, Trust
from monitoring import metrics


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


async def test_of_collections_that_were_checked_long_ago_nothing_is_held_or_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(similar, "_MOST_CHECKED", 3)
    found = Similar(None, None, 0.05, 0.02)  # type: ignore[arg-type]  # nothing is looked for
    told = metrics.SEMANTIC_FALSE_SHARE
    for number in range(100):
        found.checked("often", same=True)
        found.checked(f"col-{number}", same=True)
    assert list(found._trust) == ["col-98", "often", "col-99"]
    assert {name for (name,) in told._metrics if name == "often" or name.startswith("col-")} == set(found._trust)
    assert found._trust["often"].most < 0.04, "what is checked again is remembered"
