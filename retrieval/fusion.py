"""One ranking from several: by the ranks alone, or by scores that were brought to one scale.

Source: Cormack, Clarke and Büttcher, Reciprocal Rank Fusion outperforms Condorcet (SIGIR 2009);
Bruch, Gai and Ingber, An Analysis of Fusion Functions for Hybrid Retrieval (TOIS 2023).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T", bound=Hashable)

Method = Literal["rrf", "relative"]

_K = 60


@dataclass(frozen=True, slots=True)
class Fusion:
    """How dense and lexical rankings become one.

    Attributes:
        method: `relative` adds scores, each ranking's scaled so that its best is 1 and the last that it found is 0;
            `rrf` adds 1 / (60 + rank).
        dense_weight: 0 to 1; the lexical rankings have the rest.
    """

    method: Method = "relative"
    dense_weight: float = 0.5

    def weight(self, *, dense: bool) -> float:
        return self.dense_weight if dense else 1.0 - self.dense_weight


@dataclass(frozen=True, slots=True)
class Ranking(Generic[T]):
    """Items with their scores, best first, and how much the ranking counts."""

    items: Sequence[tuple[T, float]]
    weight: float = 1.0


def fuse(rankings: Sequence[Ranking[T]], method: Method = "relative") -> list[tuple[T, float]]:
    """Merge rankings, best first; an item that a ranking lacks gains nothing by it.

    Equal scores keep the order of the first ranking that names one of them.
    """
    scores: dict[T, float] = {}
    for ranking in rankings:
        for (item, _), gain in zip(ranking.items, _gains(ranking, method), strict=True):
            scores[item] = scores.get(item, 0.0) + ranking.weight * gain
    return sorted(scores.items(), key=lambda pair: -pair[1])


def _gains(ranking: Ranking[T], method: Method) -> list[float]:
    if method == "rrf":
        return [1.0 / (_K + rank) for rank in range(1, len(ranking.items) + 1)]
    if not ranking.items:
        return []
    best, last = ranking.items[0][1], ranking.items[-1][1]
    return [(score - last) / (best - last) if best > last else 1.0 for _, score in ranking.items]
