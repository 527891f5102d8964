"""Whether a sentence is supported by its sources, and by which words of theirs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from api.answers.context import RANK_WEIGHT, Excerpt, beside, rarity, terms_beside
from api.answers.saying import Said, names_in, says
from api.answers.sentences import spans
from api.answers.tables import head_over
from retrieval.analyzer import ENGLISH, analyze, analyzer

_OWN_MARK = re.compile(r"\[\^?\d{1,3}\](?!\():?|【[^【】\n]{1,40}】")  # by which models cite; they are no figures
_BARE = re.compile(r"#+ .*|```.*|\|[-| :]*\|\s*")  # headings, fences and rules of tables say nothing alone


@dataclass(frozen=True, slots=True)
class Support:
    """The stretch of an excerpt that says what a sentence says; `start` and `end` count the document's characters."""

    excerpt: Excerpt
    start: int
    end: int

    @property
    def quote(self) -> str:
        return self.excerpt.text[self.start - self.excerpt.start : self.end - self.excerpt.start]

    @property
    def head(self) -> str:
        """The names of the columns, where it is a row of a table."""
        passage = self.excerpt.passage
        inside = passage.start <= self.start < passage.end
        return head_over(passage.text, self.start - passage.start) if inside else ""


class Stretches:
    """Excerpts cut into sentences and pairs of neighbours, weighed by what they hold of a question."""

    def __init__(self, question: str, excerpts: Sequence[Excerpt]) -> None:
        self._asked = set(analyze(question))
        self.sentences = [support for excerpt in excerpts for support in _sentences(excerpt)]
        parted = [(support, terms_beside(question, f"{support.quote}\n{support.head}")) for support in self.sentences]
        self._all = parted + [
            (joined, terms_beside(question, joined.quote))
            for (first, _), (second, _) in pairwise(parted)
            if first.excerpt is second.excerpt
            for joined in [Support(first.excerpt, first.start, second.end)]
        ]
        self._shares = rarity([terms for _, terms in self._all], self._asked)
        self._ranks = {id(excerpt): rank for rank, excerpt in enumerate(excerpts)}

    def best(self) -> Support | None:
        """What best holds the question's terms, the shortest among equals; None where nothing holds any."""
        ranked = self.best_of_each()
        return ranked[0] if ranked else None

    def best_of_each(self, least: float = 0.0) -> list[Support]:
        """The best of each excerpt that holds any, best first.

        Args:
            least: share of what the first holds of the question, 0 to 1; what holds less is left out.
        """
        best: dict[int, tuple[tuple[float, int], float, Support]] = {}
        for support, terms in self._all:
            weight, excerpt = self._weight(terms), id(support.excerpt)
            if weight <= 0 or _is_bare(support.quote):
                continue
            worth = round(weight - RANK_WEIGHT * self._ranks[excerpt], 6), -len(support.quote)
            if excerpt not in best or worth > best[excerpt][0]:
                best[excerpt] = worth, weight, support
        ranked = sorted(best.values(), key=lambda found: found[0], reverse=True)
        return [support for _, weight, support in ranked if weight >= least * ranked[0][1]]

    def _weight(self, terms: set[str]) -> float:
        """The share of the question that a stretch holds, 0 to 1, rarer terms counting more."""
        return sum(self._shares[term] for term in self._asked & terms)


class Sources:
    """The excerpts that one question is answered from."""

    def __init__(self, question: str, excerpts: Sequence[Excerpt]) -> None:
        stretches = Stretches(question, excerpts)
        self._language = analyzer(ENGLISH)
        self._names = names_in([question, *(excerpt.text for excerpt in excerpts)])
        self._question = Said(question, self._language, self._names)
        self.best_quote = best = stretches.best()
        self._about = [support for support in stretches.sentences if best is not None and _overlap(support, best)]
        self._saying = [
            Said(beside(question, support.quote), self._language, self._names, _over(support))
            for support in self._about
        ]

    def find_support(self, sentence: str, min_coverage: float) -> Support | None:
        """The source sentence that says what a sentence says; None where there is none.

        It is part of the stretch that fits the question best, so that it is about what was asked; and the sentence says
        something that the question does not say.

        Args:
            min_coverage: as `saying.says` takes it.
        """
        said = Said(_OWN_MARK.sub("", sentence), self._language, self._names)
        if not said.terms - self._question.terms or sentence.rstrip().endswith(":"):
            return None
        which = says(self._saying, said, self._question, min_coverage)
        return None if which is None else self._about[which]


def _sentences(excerpt: Excerpt) -> Iterator[Support]:
    for start, end in spans(excerpt.text):
        yield Support(excerpt, excerpt.start + start, excerpt.start + end)


def _over(support: Support) -> str:
    """What a sentence is said under."""
    return f"{support.excerpt.passage.filename}\n{support.head}"


def _is_bare(quote: str) -> bool:
    """Whether each of its lines is a heading, a fence or a rule of a table."""
    lines = [line.lstrip() for line in quote.split("\n") if line.strip()]
    return bool(lines) and all(map(_BARE.fullmatch, lines))


def _overlap(one: Support, other: Support) -> bool:
    return one.excerpt is other.excerpt and max(one.start, other.start) < min(one.end, other.end)
