"""How hard a request is: logistic regression over its words' traits and, where there is one, its vector.

It is fitted to labelled examples when a worker starts, so that it fits whatever embedding model is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from api.auto.traits import traits_of

_EXAMPLES = Path(__file__).with_name("examples.jsonl")
_STEPS = 30
_SETTLED = 1e-8
_VECTOR_WEIGHT = 8.0  # a vector's length beside traits of variance 1; by cross-validation, as the penalties
_PENALTY = {"traits": 10.0, "vector": 10.0}

Sight = Literal["traits", "vector"]


@dataclass(frozen=True, slots=True)
class Example:
    """A request, and whether a small model is often wrong about it."""

    text: str
    hard: bool


def examples() -> list[Example]:
    """Those that the project was given to learn from."""
    rows = [orjson.loads(line) for line in _EXAMPLES.read_bytes().splitlines()]
    return [Example(row["text"], row["needs"] == "large") for row in rows]


class Classifier:
    """Fitted to examples.

    Args:
        vectors: float[n, d], of unit length, one for each example; None: it looks at words alone.
    """

    def __init__(self, learnt: Sequence[Example], vectors: NDArray[np.floating] | None = None) -> None:
        traits = np.stack([traits_of(example.text) for example in learnt])
        self._mean = traits.mean(axis=0)
        self._spread = np.maximum(traits.std(axis=0), 0.05)
        self.sight: Sight = "traits" if vectors is None else "vector"
        hard = np.array([example.hard for example in learnt], float)
        self._weights = _fitted(self._rows(traits, vectors), hard, _PENALTY[self.sight])

    def difficulty(self, texts: Sequence[str], vectors: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        """Float64[n] from 0 to 1: the chance that a small model is not good enough for each text.

        Args:
            vectors: as those of the examples; needed where these had some.
        """
        rows = self._rows(np.stack([traits_of(text) for text in texts]), vectors)
        return _chance(rows @ self._weights)

    def _rows(self, traits: NDArray[np.float64], vectors: NDArray[np.floating] | None) -> NDArray[np.float64]:
        scaled = (traits - self._mean) / self._spread
        parts = [np.ones((len(traits), 1)), np.clip(scaled, -4, 4)]
        if self.sight == "vector":
            assert vectors is not None
            parts.append(_VECTOR_WEIGHT * vectors.astype(float))
        return np.hstack(parts)


def _fitted(rows: NDArray[np.float64], hard: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Weights of a logistic regression, by Newton's method; nothing is taken off the constant."""
    weights = np.zeros(rows.shape[1])
    ridge = np.full(rows.shape[1], penalty)
    ridge[0] = 1e-6
    for _ in range(_STEPS):
        chance = _chance(rows @ weights)
        slope = rows.T @ (chance - hard) + ridge * weights
        bend = (rows * (chance * (1 - chance))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        weights = weights - step
        if np.abs(step).max() < _SETTLED:
            break
    return weights


def _chance(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(sums, -30, 30)))
