"""What one ranking is worth against its judgements, as trec_eval computes it.

Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002); NIST's trec_eval 9.
"""

import math
from collections.abc import Callable, Mapping, Sequence

Grades = Mapping[str, int]
"""For each judged document of a question its grade; 0 and below is not relevant, and unjudged counts as 0."""

DEPTH = 100  # documents of a ranking that any measure looks at


def ndcg(ranked: Sequence[str], grades: Grades, depth: int = 10) -> float:
    """How near the first `depth` are to the best order there could be, 0 to 1; gains are the grades themselves."""
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:depth]
    found = [max(grades.get(document, 0), 0) for document in ranked[:depth]]
    return _discounted(found) / _discounted(best) if best else 0.0


def recall(ranked: Sequence[str], grades: Grades, depth: int = DEPTH) -> float:
    """The share of the relevant documents that are among the first `depth`."""
    relevant = _relevant(grades)
    return len(relevant.intersection(ranked[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranked: Sequence[str], grades: Grades, depth: int = DEPTH) -> float:
    """1 / the rank of the first relevant document; 0 when none is among the first `depth`."""
    relevant = _relevant(grades)
    ranks = (rank for rank, document in enumerate(ranked[:depth], start=1) if document in relevant)
    return 1.0 / rank if (rank := next(ranks, 0)) else 0.0


def average_precision(ranked: Sequence[str], grades: Grades, depth: int = DEPTH) -> float:
    """The precision at the rank of each relevant document, averaged over all relevant ones."""
    relevant = _relevant(grades)
    found = 0
    total = 0.0
    for rank, document in enumerate(ranked[:depth], start=1):
        if document in relevant:
            found += 1
            total += found / rank
    return total / len(relevant) if relevant else 0.0


MEASURES: Mapping[str, Callable[[Sequence[str], Grades], float]] = {
    "ndcg@10": ndcg,
    "recall@100": recall,
    "mrr": reciprocal_rank,
    "map": average_precision,
}
"""What an evaluation reports; each takes a ranking without repetitions and gives 0 to 1."""


def _relevant(grades: Grades) -> set[str]:
    return {document for document, grade in grades.items() if grade > 0}


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
