"""The fusion that is chosen is the best one, and what it is worth on other questions is not flattered."""

import random

import pytest

from retrieval.evaluation.tuning import CANDIDATES, Found, choose
from retrieval.fusion import Fusion


def found(dense: list[str], lexical: list[str]) -> Found:
    return {
        "dense": [(name, 1.0 - place / 10, name) for place, name in enumerate(dense)],
        "lexical": [(name, 20.0 - place, name) for place, name in enumerate(lexical)],
    }


def test_where_one_leg_is_always_right_the_other_is_left_out_or_counts_little() -> None:
    right = found(["a", "b", "c", "d"], ["d", "e", "f", "g"])
    tuned = choose([right] * 10, [{"b": 1}] * 10)
    assert tuned.fusion.dense_weight > 0.5
    assert tuned.ndcg == tuned.dense == tuned.cross_validated > tuned.usual
    assert tuned.lexical < 0.5


def test_where_nothing_is_better_the_usual_fusion_stays() -> None:
    tuned = choose([found(["a", "b"], ["a", "b"])] * 5, [{"a": 1}] * 5)
    assert tuned.fusion == Fusion() == CANDIDATES[0]


def test_what_is_chosen_is_never_below_a_leg_nor_below_the_usual() -> None:
    of = random.Random(3)
    names = list("abcdefghijklmno")
    for _ in range(20):
        some = [found(of.sample(names, 12), of.sample(names, 12)) for _ in range(10)]
        tuned = choose(some, [{of.choice(names): of.choice([1, 2])} for _ in some])
        assert tuned.ndcg >= max(tuned.usual, tuned.dense, tuned.lexical) - 1e-9


def test_on_chance_alone_the_cross_validated_figure_is_below_the_chosen_one() -> None:
    of = random.Random(3)
    names = list("abcdefghijklmno")
    flattered = honest = 0.0
    for _ in range(10):
        some = [found(of.sample(names, 12), of.sample(names, 12)) for _ in range(20)]
        tuned = choose(some, [{of.choice(names): 1} for _ in some])
        flattered += tuned.ndcg
        honest += tuned.cross_validated
    assert honest < flattered - 0.1


def test_one_question_is_enough() -> None:
    assert choose([found(["a"], ["b"])], [{"b": 1}]).ndcg == pytest.approx(1.0)
