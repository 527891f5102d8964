"""A question in the form in which it is compared: its kind, what it is about, and how its parts belong together."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import snowballstemmer
from spellchecker import SpellChecker

from api.caching.sameness.lexicon import (
    ABBREVIATIONS,
    AUXILIARIES,
    DROPPED,
    FRAMES,
    HEADS,
    HEADS_LIKE,
    MARKERS,
    OPENINGS,
    PERSONS,
    PHRASES,
    TAILS,
    WH,
    synonyms,
)
from api.caching.sameness.numbers import UNITS, figures, spelled


class Word(NamedTuple):
    """A word of a question.

    Attributes:
        canon: its stem, or that of the word that stands for all of its meaning.
        stem: its own.
        meant: in lower case, and put right where it was no word.
        written: as it stood there, in lower case.
    """

    canon: str
    stem: str
    meant: str
    written: str

    @classmethod
    def plain(cls, word: str) -> "Word":
        """One that has no other forms."""
        return cls(word, word, word, word)


class Segment(NamedTuple):
    """Words that belong together, in their order, and the word that ties them to the rest; empty: it is the rest."""

    head: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A question as it is compared.

    Attributes:
        kind: what is asked for: `who`, `when`, `yes`, ...; empty: it does not say.
        markers: what is said of time, leave and duty.
        capitals: words in capitals, which may stand for several words.
    """

    kind: str
    markers: frozenset[str]
    segments: tuple[Segment, ...]
    capitals: frozenset[str]

    @property
    def surfaces(self) -> frozenset[str]:
        """Its words as they were written, but for those that were mended."""
        return frozenset(
            word.written for segment in self.segments for word in segment.words if word.written == word.meant
        )


_FRAMES = [re.compile(rf"(?:{frame})[\s,:]*", re.IGNORECASE) for frame in FRAMES]
_OPENINGS = [(re.compile(rf"(?:(?<=\A)|(?<=[,;:] ))(?:{pattern})\b"), plain) for pattern, plain in OPENINGS]
_PHRASES = [(re.compile(rf"\b(?:{pattern})\b"), plain) for pattern, plain in PHRASES]
_TAILS = re.compile(TAILS, re.IGNORECASE)
_TOKEN = re.compile(r"\d+(?:[.:]\d+)*(?:st|nd|rd|th|[a-z]+)?(?![\w-])|[^\W_]+(?:[-./_][^\W_]+)*|[,;:]", re.IGNORECASE)
_APOSTROPHE = re.compile(r"[’‘ʼ`]")
_BREAKS = frozenset(",;:")
_JOINTS = frozenset(("and", "or"))
_OWNED = re.compile(r"'s\b|(?<=s)'(?=\s)")
_CONTRACTED = (
    (re.compile(r"\bcan(?:no|')t\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(what|where|who|when|how|it|that|there|here)'s\b"), r"\1 is"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'d\b"), " would"),
)
_ALIKE = {"which": "what", "whom": "who"}
_LEAST_MENDED = 3  # characters, and of those that short only little words
_WORD = re.compile(r"(?<![\w-])[^\W\d_]+(?![\w-])")
_NAMES = re.compile(r"(?<=[^.!?\s]\s)[A-Z][^\W_]*")
_CAPITALS = re.compile(r"(?<!\w)(?:\d?[A-Z]{2,6})(?!\w)")


class Reader:
    """Brings English questions into their form."""

    def __init__(self) -> None:
        self._stemmer = snowballstemmer.stemmer("english")
        self._spelling = SpellChecker(language="en", distance=1)
        self.stem = lru_cache(maxsize=20_000)(self._stemmed)
        self._synonyms = synonyms(self.stem)
        self._mended = lru_cache(maxsize=5_000)(self._mend)
        self.read = lru_cache(maxsize=5_000)(self._read)

    def _read(
        self, question: str, short: frozenset[str] = frozenset(), likely: frozenset[str] = frozenset()
    ) -> Form | None:
        """The form of a question; None: nothing is left of it that could be compared.

        Args:
            short: abbreviations, in capitals; words of which one is made of are put as that one.
            likely: what words that are none may have been meant for.
        """
        text = unicodedata.normalize("NFKC", _APOSTROPHE.sub("'", question)).strip()
        for abbreviation in sorted(short):
            text = _shortened(text, abbreviation)
        capitals = frozenset(_CAPITALS.findall(text))
        names = frozenset(found.lower() for found in (*_NAMES.findall(text), *capitals))
        text = spelled(text).lower()
        for contracted, full in _CONTRACTED:
            text = contracted.sub(full, text)
        text, mended = self._right(_OWNED.sub("", text), names, likely)
        if not self._is_english(text):
            return None
        words = [_ALIKE.get(word, word) for found in _TOKEN.findall(_plain(text)) for word in _parts(found)]
        kind, words = _kind(figures(words))
        markers, segments = self._segments(words, mended)
        if not any(segment.words for segment in segments):
            return None
        return Form(kind, markers, segments, capitals)

    def _right(self, text: str, names: frozenset[str], likely: frozenset[str]) -> tuple[str, dict[str, str]]:
        """A text whose words are words, and what stood there in place of those that were mended."""
        mended: dict[str, str] = {}

        def right(found: re.Match[str]) -> str:
            word = found.group()
            if word in names:
                return word
            if word in ABBREVIATIONS:
                return ABBREVIATIONS[word]
            meant = self._mended(word, found.start() == 0, likely)
            if meant != word:
                mended[meant] = word
            return meant

        return _WORD.sub(right, text), mended

    def _segments(self, words: list[str], mended: Mapping[str, str]) -> tuple[frozenset[str], tuple[Segment, ...]]:
        markers: set[str] = set()
        # Somebody and nobody else: it may be anybody. Where two are named, who does what to whom counts.
        persons = PERSONS if len({PERSONS[word] for word in words if word in PERSONS}) > 1 else {}
        head, gathered = "", list[Word]()
        segments: list[Segment] = []

        def close(next_head: str) -> None:
            nonlocal head, gathered
            if gathered or head:
                segments.append(Segment(head, tuple(_joined(gathered))))
            head, gathered = next_head, []

        for word in words:
            if word in _BREAKS:
                close("")
            elif word in HEADS and word not in WH:
                close(HEADS_LIKE.get(word, word))
            elif word in MARKERS:
                markers.add(MARKERS[word])
            elif word in WH:
                gathered.append(Word.plain("?"))
            elif word in persons:
                gathered.append(Word.plain(persons[word]))
            elif word not in DROPPED:
                gathered.append(self._word(word, mended))
        close("")
        return frozenset(markers), tuple(segments)

    def _word(self, word: str, mended: Mapping[str, str]) -> Word:
        if not word.isalpha() or word in _JOINTS:
            return Word.plain(word)
        stem = self.stem(word)
        return Word(self._synonyms.get(stem, stem), stem, word, mended.get(word, word))

    def _is_english(self, text: str) -> bool:
        words = _WORD.findall(text)
        return 2 * len(self._spelling.known(words)) >= len(set(words))

    def _mend(self, word: str, begins: bool, likely: frozenset[str]) -> str:
        """The word that was meant: itself, where it is one or none is near."""
        if len(word) < _LEAST_MENDED or not word.isascii() or word in UNITS or self._spelling.known([word]):
            return word
        near = set(self._spelling.known(self._spelling.edit_distance_1(word)))
        little = {one for one in near & _FUNCTION if one[0] == word[0] or sorted(one) == sorted(word)}
        near = near & likely or (little if little or len(word) == _LEAST_MENDED else near - _FUNCTION)
        if begins and near & WH:
            near &= WH
        return max(near, key=lambda one: (one[0] == word[0], self._spelling.word_usage_frequency(one)), default=word)

    def _stemmed(self, word: str) -> str:
        return str(self._stemmer.stemWord(word))


_FUNCTION = WH | AUXILIARIES | DROPPED | HEADS | {"which", "not", "and", "or"}


def _plain(text: str) -> str:
    """Without what frames it, and begun as plainly as can be."""
    text = _TAILS.sub("", text)
    for phrase, plain in _PHRASES:
        text = phrase.sub(plain, text)
    before = ""
    while before != text:
        before = text
        for frame in _FRAMES:
            if (found := frame.match(text)) is not None and found.end() < len(text):
                text = text[found.end() :]
        for opening, plain in _OPENINGS:
            text = opening.sub(plain, text, count=1)
    return text


def _shortened(text: str, abbreviation: str) -> str:
    """A text with an abbreviation in place of the words whose first letters make it; little words need not."""
    gap = r"[\s-]+(?:(?:of|for|and|the|in|to)\s+)?"
    figure = {"2": "(?:2|two)", "3": "(?:3|three)", "4": "(?:4|four)"}
    parts = [figure.get(letter, rf"{letter}[a-z]+") for letter in abbreviation.lower()]
    return re.sub(rf"(?<![\w-]){gap.join(parts)}(?![\w-])", abbreviation, text, flags=re.IGNORECASE)


def _parts(token: str) -> list[str]:
    """A compound as its parts; one with figures in it as it stands, but for those that a unit or a word follows."""
    if "-" in token and not re.search(r"\d.*-.*\d|\d[a-z]|[a-z]\d", token):
        return token.split("-")
    return [token]


def _kind(words: list[str]) -> tuple[str, list[str]]:
    """What a question asks for, and its words without those that say only that."""
    asked = [word for word in words if word in WH]
    if asked:
        first = words.index(asked[0])
        kind = "+".join(sorted(set(asked)))
        if asked[0] == "how" and first + 1 < len(words) and words[first + 1] in _MEASURES:
            kind = f"how {words[first + 1]}"
            words = [*words[:first], *words[first + 2 :]]
        return kind, words
    for at, word in enumerate(words):
        if word in AUXILIARIES and (at == 0 or words[at - 1] in _BREAKS):
            return "yes", words
    return "", words


_MEASURES = frozenset("many much long often far old large big high tall deep wide heavy fast soon early late".split())


def _joined(words: list[Word]) -> list[Word]:
    """Words of a segment; two that `and` or `or` joins, and nothing else with them, stand in one order."""
    if len(words) == 3 and words[1].canon in _JOINTS and words[0].canon > words[2].canon:
        return words[::-1]
    return words
