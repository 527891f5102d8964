"""Passages that say what others above them have said sink: maximal marginal relevance.

Source: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking (SIGIR 1998).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def order(relevance: Sequence[float], vectors: NDArray[np.float32], share: float, most: int) -> list[int]:
    """Choose one after the other what is relevant and unlike all that was chosen before.

    Args:
        relevance: best first; only their order and their distances count.
        vectors: float32[n, dimensions], L2-normalised, of the same n.
        share: lambda, 0 to 1: how much relevance counts against novelty.
        most: how many to choose.

    Returns: places in `relevance`, at most `most` of them.
    """
    scores = np.asarray(relevance, np.float64)
    if not len(scores):
        return []
    spread = scores.max() - scores.min()
    scores = (scores - scores.min()) / spread if spread > 0 else np.ones_like(scores)
    nearest = np.zeros(len(scores))  # to what was chosen
    left = np.ones(len(scores), bool)
    chosen: list[int] = []
    for _ in range(min(most, len(scores))):
        worth = np.where(left, share * scores - (1 - share) * nearest, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return chosen
