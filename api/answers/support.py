"""Whether a sentence is supported by its sources, and by which words of theirs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from api.answers.context import Excerpt
from api.answers.sentences import spans
from retrieval.analyzer import analyze

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Support:
    """The stretch of an excerpt that says what a sentence says; `start` and `end` count the document's characters."""

    excerpt: Excerpt
    start: int
    end: int
    coverage: float

    @property
    def quote(self) -> str:
        passage = self.excerpt.passage
        return passage.text[self.start - passage.start : self.end - passage.start]


def find_support(sentence: str, question: str, excerpts: Sequence[Excerpt], min_coverage: float) -> Support | None:
    """The best stretch of one or two source sentences for `sentence`; None where it is not supported.

    Supported means: the stretch holds at least `min_coverage` (0 to 1) of the sentence's terms and every number in
    it, and the sentence says something that the question does not.
    """
    said = set(analyze(sentence))
    new = said - set(analyze(question))
    if not new and not _NUMBER.search(sentence):
        return None
    stretches = (stretch for excerpt in excerpts for stretch in _stretches(excerpt))
    best = max(
        (_weigh(said, new, excerpt, start, end) for excerpt, start, end in stretches),
        key=lambda support: (support.coverage, support.start - support.end),
        default=None,
    )
    if best is None or best.coverage < min_coverage:
        return None
    return best if _numbers(sentence) <= _numbers(best.quote) | _numbers(question) else None


def best_quote(question: str, excerpts: Sequence[Excerpt]) -> Support | None:
    """The source sentences that hold most of the question's terms, to be quoted where no answer is supported."""
    asked = set(analyze(question))
    stretches = (stretch for excerpt in excerpts for stretch in _stretches(excerpt))
    return max(
        (_weigh(asked, asked, excerpt, start, end) for excerpt, start, end in stretches),
        key=lambda support: support.coverage,
        default=None,
    )


def _stretches(excerpt: Excerpt) -> list[tuple[Excerpt, int, int]]:
    """Each sentence of an excerpt, and each pair of neighbours, with document positions."""
    found = [(excerpt.start + start, excerpt.start + end) for start, end in spans(excerpt.text)]
    pairs = [(a[0], b[1]) for a, b in pairwise(found)]
    return [(excerpt, start, end) for start, end in found + pairs]


def _weigh(said: set[str], new: set[str], excerpt: Excerpt, start: int, end: int) -> Support:
    """Coverage of `said`; what is new counts twice, since the rest was in the question already."""
    held = set(analyze(excerpt.text[start - excerpt.start : end - excerpt.start]))
    total = len(said) + len(new)
    coverage = (len(said & held) + len(new & held)) / total if total else 0.0
    return Support(excerpt, start, end, coverage)


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}
