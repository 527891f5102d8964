"""Whether a source says what a sentence says: by words, figures, names, denials and their order.

Meaning is not understood here. A sentence counts as said by a stretch of source text if the stretch holds most of its
words, and none of these tells them apart: a figure or name that the stretch lacks; something that one of them denies
and the other does not; names in another order than their figures. `tests/answers/test_support.py` prints how often
that is right on labelled sentences.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from retrieval.analyzer import ENGLISH, Analyzer, analyzer

_TOKEN = re.compile(r"\d+(?:st|nd|rd|th)\b|\d+(?:[.,:]\d+)*(?:-\w+)*|\w+(?:[-/]\w+)*|[.;!?]")
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_CARDINALS = """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty""".split()
_TENS = "thirty forty fifty sixty seventy eighty ninety hundred".split()
_ORDINALS = "second third fourth fifth sixth seventh eighth ninth tenth".split()
_NUMBERS = (
    {word: str(number) for number, word in enumerate(_CARDINALS, 2)}
    | {word: str(number) for number, word in zip(range(30, 101, 10), _TENS, strict=True)}
    | {word: f"{number}." for number, word in enumerate(_ORDINALS, 2)}
)
_DENIAL = re.compile(
    r"\b(?:not|never|no|nobody|nothing|none|neither|nor|without|cannot|lacks?|instead of|rather than)\b|n['’]t\b", re.I
)
_FORBIDDING = re.compile(r"\b(?:forbidden|prohibited|avoided)\b", re.I)
# A denial reaches to the end of its piece.
_PIECE = re.compile(
    r"[,;:]|[.!?]\s|\b(?:but|because|until|unless|while|before|after|if|when|since|as)\b", re.I
)  # fmt: skip
# Words that say nothing which a source must say too.
_EMPTY = """whatever whoever somebody someone anybody everybody everyone anyone nobody nothing whenever wherever another
already again still even usually always often keep keeps need needs never cannot around onto next anything something"""


@dataclass(frozen=True)
class Said:
    """What a text says, taken apart.

    Args:
        analyzer: of the language in which it is written.
        known_names: in lower case, that are names also where they begin a sentence.
        around: what stands over it, such as its headings: it need not say that again.
    """

    text: str
    analyzer: Analyzer
    known_names: frozenset[str] = frozenset()
    around: str = ""

    @cached_property
    def terms(self) -> frozenset[str]:
        """Its words, figures and identifiers, but for those that say nothing."""
        return frozenset(self.analyzer.named(f"{self.text}\n{self.around}")) - _empty(self.analyzer)

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """Its numbers in order, written in digits."""
        return tuple(figure for token in _TOKEN.findall(self.text) if (figure := _figure(token)) is not None)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Words with a capital that no sentence begins with, and the known ones, in lower case and in order."""
        found, first = [], True
        for word in _TOKEN.findall(self.text):
            if word in ".;!?":
                first = True
                continue
            name = word.lower()
            if word[0].isupper() and (not first or name in self.known_names) and self._counts(name):
                found.append(name)
            first = False
        return tuple(found)

    @cached_property
    def denied(self) -> frozenset[str]:
        """Terms that it denies and nowhere affirms."""
        denied, affirmed = self._polar
        return denied - affirmed

    @cached_property
    def affirmed(self) -> frozenset[str]:
        """Terms that it affirms and nowhere denies."""
        denied, affirmed = self._polar
        return affirmed - denied

    @cached_property
    def _polar(self) -> tuple[frozenset[str], frozenset[str]]:
        denied: set[str] = set()
        affirmed: set[str] = set()
        for piece in _PIECE.split(self.text):
            denial = _DENIAL.search(piece)
            if _FORBIDDING.search(piece):
                denied.update(self.analyzer.named(piece))
            elif denial is None:
                affirmed.update(self.analyzer.named(piece))
            else:
                affirmed.update(self.analyzer.named(piece[: denial.start()]))
                denied.update(self.analyzer.named(piece[denial.end() :]))
        empty = _empty(self.analyzer)
        return frozenset(denied) - empty, frozenset(affirmed) - empty

    def _counts(self, word: str) -> bool:
        return bool(set(self.analyzer.named(word)) - _empty(self.analyzer))


def coverage(sentence: Said, source: Said, asked: Said) -> float:
    """The share of the terms that a sentence brings beyond the question which the source holds, 0 to 1."""
    said = sentence.terms - asked.terms or sentence.terms
    return len(said & source.terms) / len(said) if said else 0.0


def contradiction(sentence: Said, source: Said, asked: Said) -> str | None:
    """What tells a sentence from its source although their words are alike; None: nothing that can be seen.

    Args:
        asked: the question: what it names the source need not name.
    """
    missing = set(sentence.figures) - set(source.figures) - set(asked.figures)
    if missing:
        return f"the source does not hold {', '.join(sorted(missing))}"
    held = source.terms | asked.terms
    for name in sentence.names:
        if not set(sentence.analyzer.named(name)) <= held:
            return f"the source does not name {name}"
    if sentence.denied & source.affirmed or sentence.affirmed & source.denied:
        return "one denies what the other does not"
    names, figures = _turned(sentence.names, source.names), _turned(sentence.figures, source.figures)
    if names is not None and figures is not None and names != figures:
        return "its figures belong to other names"
    return None


def says(sources: Sequence[Said], sentence: Said, asked: Said, min_coverage: float) -> int | None:
    """Which of the sources says what a sentence says; None: none of them.

    Only those are looked at that hold most of its terms and figures: what the fullest of them contradicts is not
    supported by one that holds less.

    Args:
        min_coverage: the least `coverage`, 0 to 1.
    """
    figures = set(sentence.figures)
    full = [(coverage(sentence, source, asked), figures <= set(source.figures)) for source in sources]
    most = max(full, default=(0.0, False))
    if most[0] < min_coverage:
        return None
    fullest = (at for at, held in enumerate(full) if held == most)
    return next((at for at in fullest if contradiction(sentence, sources[at], asked) is None), None)


def names_in(texts: Sequence[str]) -> frozenset[str]:
    """Words in lower case that stand with a capital in the middle of a sentence somewhere."""
    plain = analyzer(ENGLISH)
    return frozenset(name for text in texts for name in Said(text, plain).names)


def _figure(token: str) -> str | None:
    word = token.lower()
    if word in _NUMBERS:
        return _NUMBERS[word]
    if _ORDINAL.fullmatch(word):
        return word[:-2] + "."
    return word.replace(",", "") if word[0].isdigit() else None


def _turned(said: Sequence[str], source: Sequence[str]) -> bool | None:
    """Whether what both hold once stands in another order; None: they share fewer than two."""
    places = [source.index(item) for item in dict.fromkeys(said) if source.count(item) == 1]
    if len(places) < 2:
        return None
    return places != sorted(places)


def _empty(of: Analyzer) -> frozenset[str]:
    return _EMPTY_TERMS if of.language == ENGLISH else frozenset()


_EMPTY_TERMS = frozenset(analyzer(ENGLISH).named(_EMPTY))
