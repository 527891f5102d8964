"""Whether a sentence is supported by its sources, and by which words of theirs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from api.answers.context import RANK_WEIGHT, Excerpt, rarity, terms_beside
from api.answers.sentences import spans
from retrieval.analyzer import analyze

_BARE = re.compile(r"(?:\s*(?:#+ .*|```.*|\|[-| :]*\|)\s*(?:\n|\Z))+")  # headings and fences say nothing alone
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Support:
    """The stretch of an excerpt that says what a sentence says; `start` and `end` count the document's characters."""

    excerpt: Excerpt
    start: int
    end: int

    @property
    def quote(self) -> str:
        return self.excerpt.text[self.start - self.excerpt.start : self.end - self.excerpt.start]


class Sources:
    """The excerpts that one question is answered from, cut into sentences, and into pairs of neighbours for quotes."""

    def __init__(self, question: str, excerpts: Sequence[Excerpt]) -> None:
        self._asked = set(analyze(question))
        self._question_numbers = _numbers(question)
        self._sentences = [
            (support, terms_beside(question, support.quote)) for excerpt in excerpts for support in _sentences(excerpt)
        ]
        self._stretches = self._sentences + [
            (joined, terms_beside(question, joined.quote))
            for (first, _), (second, _) in pairwise(self._sentences)
            if first.excerpt is second.excerpt
            for joined in [Support(first.excerpt, first.start, second.end)]
        ]
        self._shares = rarity([terms for _, terms in self._stretches], self._asked)
        self._ranks = {id(excerpt): rank for rank, excerpt in enumerate(excerpts)}
        self._best = self.best_quote()

    def find_support(self, sentence: str, min_coverage: float) -> Support | None:
        """The stretch that supports a sentence; None where there is none.

        Supported means: one source sentence holds every number of it, every term that the question did not bring, and
        at least `min_coverage` (0 to 1) of all its terms; that source sentence is part of the stretch that fits the
        question best, so that it is about what was asked; and something is said that the question does not say.
        """
        said = set(analyze(sentence))
        new = said - self._asked
        if not new or sentence.rstrip().endswith(":"):
            return None
        numbers = _numbers(sentence) - self._question_numbers
        fitting = [
            (support, terms)
            for support, terms in self._sentences
            if new <= terms
            and len(said & terms) >= min_coverage * len(said)
            and self._touches_best(support)
            and numbers <= _numbers(support.quote)
        ]
        # The one that holds most of what is said; among equals the shortest.
        return max(fitting, key=lambda pair: (len(said & pair[1]), -len(pair[0].quote)), default=(None, set()))[0]

    def best_quote(self) -> Support | None:
        """The stretch that best holds the question's terms, the shortest among equals; None where none holds any."""

        def worth(stretch: tuple[Support, set[str]]) -> tuple[float, int]:
            support, terms = stretch
            rank = self._ranks[id(support.excerpt)]
            return round(self._weight(terms) - RANK_WEIGHT * rank, 6), -len(support.quote)

        speaking = [
            (support, terms)
            for support, terms in self._stretches
            if self._weight(terms) > 0 and not _BARE.fullmatch(support.quote)
        ]
        return max(speaking, key=worth)[0] if speaking else None

    def _touches_best(self, support: Support) -> bool:
        best = self._best
        return (
            best is not None
            and support.excerpt is best.excerpt
            and max(support.start, best.start) < min(support.end, best.end)
        )

    def _weight(self, terms: set[str]) -> float:
        """The share of the question that a stretch holds, 0 to 1, rarer terms counting more."""
        return sum(self._shares[term] for term in self._asked & terms)


def _sentences(excerpt: Excerpt) -> Iterator[Support]:
    for start, end in spans(excerpt.text):
        yield Support(excerpt, excerpt.start + start, excerpt.start + end)


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}
