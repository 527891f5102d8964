"""Text to terms for lexical search: Unicode words, lower case, without accents, stemmed and without stop words.

Identifiers are kept twice: `STOKER_URL` as `stoker_url` and as `stoker`, `url`; `/v1/search` as `v1/search` and as
`v1`, `search`. Numbers are kept as they are. Scripts that write no spaces between words become pairs of characters.

Source: <https://snowballstem.org/algorithms/>; stop words of other languages from the package `stop-words`.
"""

import re
import threading
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache

import snowballstemmer
import stop_words

_COMPOUND = re.compile(r"\w+(?:[-_./:@+#]+\w+)*", re.UNICODE)
_PART = re.compile(r"[^\W_]+", re.UNICODE)
_DIGIT = re.compile(r"\d", re.UNICODE)
_APOSTROPHES = re.compile(r"(?<=\w)['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
_ELISIONS = re.compile(r"\b(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|dell|nell|all|dall|sull|un)['’](?=\w)", re.IGNORECASE)
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003134f]+"
)
_LONGEST_TERM = 100  # characters; longer ones are data, not words
_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}

ENGLISH = "english"
PLAIN = "none"
"""No stemming and no stop words: for several languages side by side."""

STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be because been before being both but by can could did do does
    doing down during each few for from further had has have having he her here hers him his how i if in into is it its
    itself just may me might more most must my no nor not of off on once only or other our ours out over own same shall
    she should so some such than that the their theirs them then there these they this those through to too under until
    up upon us very was we were what when where which while who whom why will with would you your yours""".split()
)

LANGUAGES = frozenset({PLAIN, *set(snowballstemmer.algorithms()) & set(stop_words.AVAILABLE_LANGUAGES)})
"""What a collection's texts may be written in."""


class Analyzer:
    """Makes terms of texts in one language; may be used by several threads.

    Attributes:
        language: one of `LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        """Raises: KeyError: the language is none of `LANGUAGES`."""
        if language not in LANGUAGES:
            raise KeyError(language)
        self.language = language
        self._stemmer = None if language == PLAIN else snowballstemmer.stemmer(language)
        self._stopped = _stop_words(language)
        self._contractions = {ENGLISH: _APOSTROPHES, "french": _ELISIONS, "italian": _ELISIONS}.get(language)
        self._turn = threading.Lock()  # the stemmer keeps the word that it is at
        self.stem = lru_cache(maxsize=50_000)(self._stemmed)

    def terms(self, text: str) -> list[str]:
        """List the terms of a text in order, repeated as often as they stand there."""
        terms: list[str] = []
        for compound, parts in self._compounds(text):
            for part in parts:
                terms.extend(self._terms_of(part))
            if len(parts) > 1 and len(compound) <= _LONGEST_TERM:
                terms.append(_without_accents(compound))
        return terms

    def named(self, text: str) -> Iterator[str]:
        """Go through what a text names, to be held against what another names: terms, and numbers only as they stand.

        A compound without digits is its parts, so that `machine-learning` names what "machine learning" does. One with
        digits is itself and its other parts, so that neither 3 nor 5 is named by 3.5.
        """
        for compound, parts in self._compounds(text):
            whole = len(parts) > 1 and _DIGIT.search(compound) is not None
            if whole:
                yield compound
            for part in parts:
                if not (whole and _DIGIT.search(part)):
                    yield from self._terms_of(part)

    def written(self, text: str) -> Iterator[tuple[str, str]]:
        """Go through the words of a text: each in lower case as it stands there, and its term."""
        for _, parts in self._compounds(text):
            for part in parts:
                if self._is_word(part) and not _UNSPACED.search(part):
                    yield part, self.stem(part)

    def _compounds(self, text: str) -> Iterator[tuple[str, list[str]]]:
        """Words with what joints hold together, in lower case, each with its parts."""
        text = unicodedata.normalize("NFKC", text)
        if self._contractions is not None and ("'" in text or "’" in text):
            text = self._contractions.sub("", text)
        for match in _COMPOUND.finditer(text.lower()):
            compound = match.group()
            yield compound, _PART.findall(compound)

    def _is_word(self, part: str) -> bool:
        return part not in self._stopped and len(part) <= _LONGEST_TERM

    def _terms_of(self, part: str) -> Iterator[str]:
        """The terms of what is written without a space: pairs where its script has none, else one word."""
        if part.isascii() or not _UNSPACED.search(part):
            if self._is_word(part):
                yield self.stem(part)
            return
        at = 0
        for run in _UNSPACED.finditer(part):
            if run.start() > at:
                yield self.stem(part[at : run.start()])
            yield from _pairs(run.group())
            at = run.end()
        if at < len(part):
            yield self.stem(part[at:])

    def _stemmed(self, word: str) -> str:
        """The term of one word in lower case."""
        if self._stemmer is not None:
            with self._turn:
                word = self._stemmer.stemWord(word)
        return word if word.isascii() else _without_accents(word)


@cache
def analyzer(language: str) -> Analyzer:
    """The one analyzer of a language. Raises: KeyError: there is none."""
    return Analyzer(language)


def analyze(text: str) -> list[str]:
    """The terms of an English text."""
    return analyzer(ENGLISH).terms(text)


def _stop_words(language: str) -> frozenset[str]:
    if language == PLAIN:
        return frozenset()
    return STOP_WORDS if language == ENGLISH else frozenset(stop_words.get_stop_words(language))


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for at in range(len(run) - 1):
        yield run[at : at + 2]


def _without_accents(word: str) -> str:
    """Latin letters as in ASCII; those of other scripts, where a mark makes another letter, stay as they are."""
    return "".join(_LETTERS.get(char) or _base(char) for char in word)


def _base(char: str) -> str:
    if char.isascii():
        return char
    first = unicodedata.normalize("NFD", char)[0]
    return first if first.isascii() else char
