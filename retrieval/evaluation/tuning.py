"""Chooses how hybrid search makes one ranking of two, by judged questions, and says what that is worth on others.

Each question is searched once; every fusion is then computed from what both legs found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.evaluation.measures import Grades, ndcg
from retrieval.fusion import Fusion, Ranking, fuse

_WEIGHTS = [tenth / 10 for tenth in range(11)]
CANDIDATES = (
    Fusion(),
    *(Fusion("relative", weight) for weight in _WEIGHTS if weight != Fusion().dense_weight),
    *(Fusion("rrf", weight) for weight in _WEIGHTS),
)
"""What is tried: the usual one first, which stays unless another is better; weights 0 and 1 are one leg alone."""

_FOLDS = 5

Found = Mapping[str, Sequence[tuple[str, float, str]]]
"""What each leg (`dense`, `lexical`) found for a question, best first: passage, score, and its document's name."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was chosen, and nDCG@10 of it and of others, over all questions.

    Attributes:
        cross_validated: of what would be chosen by four fifths of the questions, on the fifth that was left out: what
            to expect of other questions.
        usual: of the fusion that nobody chose.
    """

    fusion: Fusion
    ndcg: float
    cross_validated: float
    usual: float
    dense: float
    lexical: float


def choose(found: Sequence[Found], grades: Sequence[Grades]) -> Tuning:
    """Choose the fusion with the highest mean nDCG@10.

    Args:
        found, grades: for each question, in the same order; at least one.
    """
    scores = np.array(
        [
            [ndcg(_documents(one, fusion), judged) for one, judged in zip(found, grades, strict=True)]
            for fusion in CANDIDATES
        ]
    )
    best = int(scores.mean(axis=1).argmax())
    return Tuning(
        CANDIDATES[best],
        ndcg=float(scores[best].mean()),
        cross_validated=_cross_validated(scores),
        usual=float(scores[0].mean()),
        dense=_alone(found, grades, "dense"),
        lexical=_alone(found, grades, "lexical"),
    )


def _documents(found: Found, fusion: Fusion) -> list[str]:
    rankings = [
        Ranking([(passage, score) for passage, score, _ in hits], fusion.weight(dense=leg == "dense"))
        for leg, hits in found.items()
    ]
    names = {passage: name for hits in found.values() for passage, _, name in hits}
    return list(dict.fromkeys(names[passage] for passage, _ in fuse(rankings, fusion.method)))


def _alone(found: Sequence[Found], grades: Sequence[Grades], leg: str) -> float:
    ranked = [list(dict.fromkeys(name for _, _, name in one[leg])) for one in found]
    return float(np.mean([ndcg(some, judged) for some, judged in zip(ranked, grades, strict=True)]))


def _cross_validated(scores: NDArray[np.float64]) -> float:
    """Args: scores: float64[candidates, questions]."""
    fold = np.arange(scores.shape[1]) % _FOLDS
    kept = np.empty(scores.shape[1])
    for one in range(min(_FOLDS, scores.shape[1])):
        others = scores[:, fold != one]
        best = int(others.mean(axis=1).argmax()) if others.size else 0
        kept[fold == one] = scores[best, fold == one]
    return float(kept.mean())
