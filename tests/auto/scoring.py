"""What a threshold of `auto` saves and loses on labelled requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from api.auto.classifier import Example

PRICE_RATIO = 10.0  # of the large model's tokens to the small one's
TOKENS = {False: 80, True: 160}  # of an answer to an easy and to a hard request
HELD_OUT = Path(__file__).parent / "support" / "heldout.jsonl"


def read(file: Path) -> list[Example]:
    """The labelled requests of a file."""
    rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    return [Example(row["text"], row["needs"] == "large") for row in rows]


@dataclass(frozen=True)
class Point:
    """One place on the curve of cost and quality, beside sending everything to the large model.

    Attributes:
        small: share of the requests that the small model answers.
        saved: share of the cost of completions.
        lost: percentage points of right answers, where the small model is wrong about whatever is labelled hard.
    """

    threshold: float
    small: float
    saved: float
    lost: float

    def __str__(self) -> str:
        return f"{self.threshold:.2f}: {self.small:.0%} by small, {self.saved:.0%} saved, {self.lost:.1f} lost"


def point(examples: Sequence[Example], difficulty: NDArray[np.float64], threshold: float) -> Point:
    """What becomes of these requests with this threshold."""
    small = difficulty < threshold
    hard = np.array([example.hard for example in examples])
    tokens = np.array([TOKENS[example.hard] for example in examples])
    saved = (tokens[small].sum() / tokens.sum()) * (1 - 1 / PRICE_RATIO)
    return Point(threshold, float(small.mean()), float(saved), 100 * float((small & hard).mean()))


def area(examples: Sequence[Example], difficulty: NDArray[np.float64]) -> float:
    """The chance that of a hard and an easy request the hard one is told to be harder (area under the curve)."""
    hard = np.array([example.hard for example in examples])
    above = difficulty[hard][:, None] - difficulty[~hard][None, :]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())
