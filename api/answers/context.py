"""Which stretch of the found passages the answering model is shown.

A small model loses the thread in long contexts, so it sees the sentences around the best one, not whole passages.
Sentences are weighed by the question's terms they hold, rarer ones among the candidates counting more (BM25's IDF),
and by the rank of their passage.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from api.answers.sentences import spans
from api.answers.tables import head_over
from retrieval.analyzer import analyze
from retrieval.search import Passage

RANK_WEIGHT = 0.1  # what each place further down the ranking costs, as a share of the best sentence's weight


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of a document; `start` and `end` count the document's characters, as its passages do.

    Attributes:
        passage: the best one that it is from.
        others: further ones of the same document version, where one alone does not hold all of it.
    """

    passage: Passage
    start: int
    end: int
    others: tuple[Passage, ...] = ()

    @property
    def text(self) -> str:
        pieces, at = [], self.start
        for passage in self.passages:
            if passage.start <= at < min(passage.end, self.end):
                pieces.append(passage.text[at - passage.start : self.end - passage.start])
                at = passage.end
        return "".join(pieces)

    @property
    def passages(self) -> list[Passage]:
        """All that it is from, as they stand in the document."""
        return sorted((self.passage, *self.others), key=lambda passage: passage.start)

    def page_at(self, position: int) -> int | None:
        """The page of what stands there, as far as its passages know."""
        pages = [passage.page for passage in self.passages if passage.start <= position < passage.end]
        return pages[-1] if pages else self.passage.page


def choose_excerpts(
    question: str, passages: Sequence[Passage], max_excerpts: int, max_characters: int
) -> list[Excerpt]:
    """The best stretches, best first, each from another passage, together at most `max_characters` long."""
    if not passages:
        return []
    wanted = set(analyze(question))
    cut = [_Cut(rank, passage, question, wanted) for rank, passage in enumerate(passages)]
    shares = rarity([terms for piece in cut for terms in piece.terms], wanted)
    ranked = sorted(cut, key=lambda piece: piece.best(shares)[0], reverse=True)[:max_excerpts]
    return [piece.around_best(shares, max_characters // len(ranked)) for piece in ranked]


def beside(question: str, text: str) -> str:
    """A text, leaving out where it repeats the question word for word: that is no answer to it."""
    words = [re.escape(word) for word in question.strip().rstrip("?").split()]
    return re.sub(r"\s+".join(words), " ", text, flags=re.IGNORECASE) if words else text


def terms_beside(question: str, text: str) -> set[str]:
    """The terms of what a text says beside the question."""
    return set(analyze(beside(question, text)))


def rarity(sentences: Sequence[set[str]], wanted: set[str]) -> dict[str, float]:
    """How much each wanted term counts: its share of all weight, larger the fewer sentences hold it (BM25's IDF)."""
    held = Counter(term for terms in sentences for term in terms)
    idf = {term: math.log(1 + (len(sentences) - held[term] + 0.5) / (held[term] + 0.5)) for term in wanted}
    total = sum(idf.values()) or 1.0
    return {term: weight / total for term, weight in idf.items()}


class _Cut:
    """One passage, cut into sentences, with the question's terms that each holds."""

    def __init__(self, rank: int, passage: Passage, question: str, wanted: set[str]) -> None:
        self._rank = rank
        self._passage = passage
        self._spans = list(spans(passage.text)) or [(0, len(passage.text))]
        text = passage.text
        self.terms = [
            wanted & terms_beside(question, f"{text[start:end]}\n{head_over(text, start)}")
            for start, end in self._spans
        ]

    def best(self, shares: dict[str, float]) -> tuple[float, int]:
        """Weight and index of the best sentence; its neighbours' terms count half."""
        weights = []
        for index, terms in enumerate(self.terms):
            near = set().union(*self.terms[max(0, index - 1) : index + 2]) - terms
            weight = sum(shares[term] for term in terms) + sum(shares[term] for term in near) / 2
            weights.append(weight - RANK_WEIGHT * self._rank)
        index = max(range(len(weights)), key=weights.__getitem__)
        return weights[index], index

    def around_best(self, shares: dict[str, float], max_characters: int) -> Excerpt:
        """The best sentence and as many of its neighbours as fit, what follows before what precedes."""
        first = last = self.best(shares)[1]
        while True:
            if last + 1 < len(self._spans) and self._length(first, last + 1) <= max_characters:
                last += 1
            elif first > 0 and self._length(first - 1, last) <= max_characters:
                first -= 1
            else:
                break
        start, end = self._spans[first][0], self._spans[last][1]
        end = min(end, start + max_characters)
        return Excerpt(self._passage, self._passage.start + start, self._passage.start + end)

    def _length(self, first: int, last: int) -> int:
        return self._spans[last][1] - self._spans[first][0]
