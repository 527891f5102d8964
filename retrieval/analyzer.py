"""Text to terms for lexical search: Unicode words, lower case, English stop words and stemming.

Identifiers are kept twice: `STOKER_URL` as `stoker_url` and as `stoker`, `url`; `/v1/search` as `v1/search` and as
`v1`, `search`. Numbers are kept as they are.

Source: <https://snowballstem.org/algorithms/english/stemmer.html>
"""

import re
import threading
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import snowballstemmer

_COMPOUND = re.compile(r"\w+(?:[-_./:@+#]+\w+)*", re.UNICODE)
_PART = re.compile(r"[^\W_]+", re.UNICODE)
_DIGIT = re.compile(r"\d", re.UNICODE)
_APOSTROPHES = re.compile(r"(?<=\w)['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
_LONGEST_TERM = 100  # characters; longer ones are data, not words

STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be because been before being both but by can could did do does
    doing down during each few for from further had has have having he her here hers him his how i if in into is it its
    itself just may me might more most must my no nor not of off on once only or other our ours out over own same shall
    she should so some such than that the their theirs them then there these they this those through to too under until
    up upon us very was we were what when where which while who whom why will with would you your yours""".split()
)

_stemmer = snowballstemmer.stemmer("english")
_turn = threading.Lock()  # the stemmer keeps the word that it is at, and facets count in a thread of their own


def analyze(text: str) -> list[str]:
    """List the terms of a text in order, repeated as often as they stand there."""
    terms: list[str] = []
    for compound, parts in _compounds(text):
        terms.extend(stem(part) for part in parts if _is_word(part))
        if len(parts) > 1 and len(compound) <= _LONGEST_TERM:
            terms.append(compound)
    return terms


def named(text: str) -> Iterator[str]:
    """Go through what a text names, to be held against what another names: stems, and numbers only as they stand.

    A compound without digits is its parts, so that `machine-learning` names what "machine learning" does. One with
    digits is itself and its other parts, so that neither 3 nor 5 is named by 3.5.
    """
    for compound, parts in _compounds(text):
        whole = len(parts) > 1 and _DIGIT.search(compound) is not None
        if whole:
            yield compound
        for part in parts:
            if _is_word(part) and not (whole and _DIGIT.search(part)):
                yield stem(part)


def written(text: str) -> Iterator[tuple[str, str]]:
    """Go through the words of a text: each in lower case as it stands there, and its term."""
    for _, parts in _compounds(text):
        for part in parts:
            if _is_word(part):
                yield part, stem(part)


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The term of one word in lower case."""
    with _turn:
        stemmed: str = _stemmer.stemWord(word)
    return stemmed


def _compounds(text: str) -> Iterator[tuple[str, list[str]]]:
    """Words with what joints hold together, in lower case, each with its parts."""
    text = unicodedata.normalize("NFKC", text)
    if "'" in text or "’" in text:
        text = _APOSTROPHES.sub("", text)
    for match in _COMPOUND.finditer(text.lower()):
        compound = match.group()
        yield compound, _PART.findall(compound)


def _is_word(part: str) -> bool:
    return part not in STOP_WORDS and len(part) <= _LONGEST_TERM
