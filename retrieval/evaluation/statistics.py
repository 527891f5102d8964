"""How sure a mean over questions is, and whether two ways of searching really differ.

Both draw at random from a seed, so the same figures give the same answer.
Source: Smucker, Allan and Carterette, A comparison of statistical significance tests for IR evaluation (CIKM 2007);
Efron and Tibshirani, An introduction to the bootstrap (1993).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWS = 10_000
_DRAWN_AT_ONCE = 500  # draws; keeps a million questions out of memory
_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the second way to the first, over the same questions.

    Attributes:
        p: how often chance alone makes a difference as large, 0 to 1 (two-sided randomisation test).
        better, worse: on how many questions the second way is.
    """

    difference: Mean
    p: float
    better: int
    worse: int


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of at least one value, with a bootstrap interval over the questions."""
    scores = np.asarray(values, np.float64)
    means = [scores[drawn].mean(axis=1) for drawn in _drawn(len(scores))]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Mean(float(scores.mean()), float(low), float(high))


def compare(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two ways question by question.

    Under the hypothesis that they do not differ, each question's two scores could as well be exchanged: `p` is the
    share of random exchanges whose mean differs at least as much.

    Raises: ValueError: the two do not score the same questions.
    """
    if len(first) != len(second):
        raise ValueError("both ways must score the same questions")
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    seen = abs(differences.mean())
    generator = np.random.default_rng(_SEED)
    extreme = 0
    for _ in range(0, _DRAWS, _DRAWN_AT_ONCE):
        signs = generator.integers(0, 2, (_DRAWN_AT_ONCE, len(differences)), np.int8) * 2 - 1
        extreme += int(np.count_nonzero(np.abs(signs @ differences) / len(differences) >= seen - 1e-12))
    return Difference(
        mean_of(differences.tolist()),
        (extreme + 1) / (_DRAWS + 1),
        int(np.count_nonzero(differences > 0)),
        int(np.count_nonzero(differences < 0)),
    )


def _drawn(questions: int) -> Iterator[NDArray[np.int64]]:
    """Questions drawn with replacement, in blocks of draws."""
    generator = np.random.default_rng(_SEED)
    for _ in range(0, _DRAWS, _DRAWN_AT_ONCE):
        yield generator.integers(0, questions, (_DRAWN_AT_ONCE, questions))
