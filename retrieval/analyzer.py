"""Text to terms for lexical search: Unicode words, lower case, English stop words and stemming.

Identifiers are kept twice: `STOKER_URL` as `stoker_url` and as `stoker`, `url`; `/v1/search` as `v1/search` and as
`v1`, `search`. Numbers are kept as they are.

Source: <https://snowballstem.org/algorithms/english/stemmer.html>
"""

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

_COMPOUND = re.compile(r"\w+(?:[-_./:@+#]+\w+)*", re.UNICODE)
_PART = re.compile(r"[^\W_]+", re.UNICODE)
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


def analyze(text: str) -> list[str]:
    """List the terms of a text in order, repeated as often as they stand there."""
    text = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text)).lower()
    terms: list[str] = []
    for match in _COMPOUND.finditer(text):
        compound = match.group()
        parts = _PART.findall(compound)
        terms.extend(_stem(part) for part in parts if part not in STOP_WORDS and len(part) <= _LONGEST_TERM)
        if len(parts) > 1 and len(compound) <= _LONGEST_TERM:
            terms.append(compound)
    return terms


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    stem: str = _stemmer.stemWord(word)
    return stem
