"""How answers are scored: an answer is right if it holds the expected fact and a citation whose quote verifies."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARKS = re.compile(r"[`\"'*“”‘’]")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Asked:
    """One question; an answer must hold one alternative of every group of `facts`."""

    id: str
    question: str
    facts: Sequence[Sequence[str]]
    document: str


def read_questions(file: Path) -> list[Asked]:
    """Read a question file, one JSON object a line."""
    return [Asked(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def holds_facts(answer: str, asked: Asked) -> bool:
    """Whether the answer holds one alternative of every group."""
    folded = _folded(answer)
    return all(any(_folded(fact) in folded for fact in group) for group in asked.facts)


def verifies(said: dict[str, Any], contents: dict[tuple[str, int], str]) -> bool:
    """Whether there is a citation, and every one's quote stands where it says."""
    return bool(said["citations"]) and all(
        contents[citation["document_id"], citation["document_version"]][citation["start"] : citation["end"]]
        == citation["quote"]
        for citation in said["citations"]
    )


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson 1927, JASA 22(158)."""
    share, spread = right / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return middle - half, middle + half


def _folded(text: str) -> str:
    return _SPACE.sub(" ", _MARKS.sub("", text)).lower()
