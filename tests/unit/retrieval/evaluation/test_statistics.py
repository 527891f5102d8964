"""Intervals hold what they say, and differences are found where there are some."""

import numpy as np
import pytest

from retrieval.evaluation.statistics import compare, mean_of


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(60):
        found = mean_of(generator.random(80).tolist())
        held += found.low <= 0.5 <= found.high
    assert 52 <= held <= 60  # of 60 times 95 %


def test_of_one_value_there_is_no_doubt_that_could_be_measured() -> None:
    found = mean_of([0.25])
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_what_differs_by_chance_alone_is_rarely_called_different() -> None:
    generator = np.random.default_rng(7)
    scores = generator.random((40, 2, 50))
    surprised = sum(compare(first.tolist(), second.tolist()).p < 0.05 for first, second in scores)
    assert surprised <= 6  # of 40 times 5 %


def test_a_small_gain_on_nearly_every_question_is_found_where_the_means_overlap() -> None:
    generator = np.random.default_rng(7)
    first = generator.random(100) * 0.9
    second = first + generator.normal(0.02, 0.02, 100)
    found = compare(first.tolist(), second.tolist())
    assert found.p < 0.01
    assert found.difference.low > 0
    assert mean_of(first.tolist()).high > mean_of(second.tolist()).low
    assert found.better + found.worse == 100


def test_ways_that_are_the_same_do_not_differ() -> None:
    found = compare([0.1, 0.9, 0.5], [0.1, 0.9, 0.5])
    assert (found.p, found.better, found.worse, found.difference.mean) == (1.0, 0, 0, 0.0)


def test_ways_over_other_questions_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same questions"):
        compare([0.1], [0.1, 0.2])
