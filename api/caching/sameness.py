"""Whether two English questions ask the same, so that the answer of one is that of the other.

Their words must be the same words in the same order. All that may differ is how they are written: spaces and the marks
at the end, contractions, polite words around a question, a condition that is set before it, figures, dates and units,
and letters that were struck in the wrong order or too often.

Anything freer was tried and given up (`docs/decisions/0012-caches.md`): "who can fire me" and "who can I fire", "the
third law" and "three laws" are the same as soon as little words, forms or the order of words do not count. So is a part
that is set before: "In 2019, what did they say of sales?" is not "What did they say of sales in 2019?".
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from spellchecker import SpellChecker

_LONGEST = 300  # characters
_ASKING = "who|whom|whose|what|which|when|where|why|how"
_YOU = r"(?:could|can|would|will) you (?:please |kindly )?(?:tell|let|inform) (?:me|us)(?: know)?"
_FRAME = re.compile(
    rf"(?:please,? |kindly )?(?:{_YOU}|(?:please |kindly )?(?:tell|inform) (?:me|us)|do you know"
    rf"|i would like to (?:know|ask)|i was wondering),? (?={_ASKING}\b)",
    re.IGNORECASE,
)
_GREETING = re.compile(r"(?:please|hello|hi|hey|excuse me), ", re.IGNORECASE)
_THANKS = re.compile(r", (?:please|thanks|thank you)\Z", re.IGNORECASE)
_END = re.compile(r"(?:[?. ]|(?<!\d)!)+\Z")
_CONTRACTED = (
    (re.compile(r"\b(wh(?:at|ere|o|en|y)|how|it|that|there)'s\b", re.IGNORECASE), r"\1 is"),
    (re.compile(r"\bcan't\b|\bcannot\b", re.IGNORECASE), "can not"),
    (re.compile(r"\bwon't\b", re.IGNORECASE), "will not"),
    (re.compile(r"n't\b", re.IGNORECASE), " not"),
    (re.compile(r"\bi'm\b", re.IGNORECASE), "I am"),
    (re.compile(r"'re\b", re.IGNORECASE), " are"),
    (re.compile(r"'ve\b", re.IGNORECASE), " have"),
)

# A condition belongs to the verb wherever it stands, as long as there is one verb: "In 2019, ..." and "Before ..., ..."
# may belong to a noun behind it.
_CONDITION = re.compile(
    rf"((?:if|once) [^,]+), (?=(?:{_ASKING}|is|are|was|were|do|does|did|can|could|may|must|should|will|would|has|have)"
    r"\b)([^,]+)\Z",
    re.IGNORECASE,
)
_SECOND_VERB = re.compile(
    rf"\b(?!\A)(?:{_ASKING}|that|whether|if|once|because|before|after|until|while|since|unless|though|although|and|or"
    r"|to|say|says|said|tell|tells|told|mean|means|meant|think|know|believe|claim|state|report|write|promise|agree)\b",
    re.IGNORECASE,
)

_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,]|\.\d)")
_PRICED = re.compile(r"([€$£])(\d+(?:\.\d+)?)(?![\w.])")
_MONEY = {"€": "euros", "$": "dollars", "£": "pounds"}
_CLOCK = re.compile(r"\b(1[0-2]|[1-9])(?::([0-5]\d))? ?([ap])\.?m\b\.?", re.IGNORECASE)
_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = "|".join(_MONTHS)
_DATES = (
    re.compile(rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?(?P<month>{_MONTH}),? (?P<year>\d{{4}})\b"),
    re.compile(rf"\b(?P<month>{_MONTH}) (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})\b"),
)
_UNITS = {
    "km": "kilometre", "m": "metre", "cm": "centimetre", "mm": "millimetre", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "l": "litre", "ml": "millilitre", "s": "second", "ms": "millisecond", "min": "minute",
    "h": "hour",
}  # fmt: skip
_UNIT = re.compile(rf"\b(\d+(?:\.\d+)?) ({'|'.join(_UNITS)}|(?:{'|'.join(_UNITS.values())})s?)(?![\w/²³^'-])")
_METER = re.compile(r"(?<=[\d a-z])(met|lit)er(s?)\b")
_LEAST_MENDED = 5  # letters


class Judge:
    """Knows which words there are; may be used by several threads."""

    def __init__(self) -> None:
        self._dictionary = SpellChecker(language="en", distance=1)

    def ask_the_same(self, one: str, other: str) -> bool:
        """Whether whoever asks one would be served by a right and whole answer to the other."""
        if max(len(one), len(other)) > _LONGEST:
            return False
        return any(self._agree(way, like) for way in _ways(_plain(one)) for like in _ways(_plain(other)))

    def _agree(self, some: Sequence[str], others: Sequence[str]) -> bool:
        if len(some) != len(others) or not some:
            return False
        differing = [(a, b) for a, b in zip(some, others, strict=True) if a != b]
        return 3 * len(differing) <= len(some) and all(self._is_slip(a, b) for a, b in differing)

    def _is_slip(self, one: str, other: str) -> bool:
        """Whether one is no word, and the other is what was to be written."""
        if not (one.isalpha() and other.isalpha() and one.islower() and other.islower()):
            return False
        known = self._dictionary.known([one, other])
        if min(len(one), len(other)) < _LEAST_MENDED or len(known) != 1:
            return False
        return _is_transposed(one, other) or _is_doubled(one, other) or _is_doubled(other, one)


def _plain(text: str) -> str:
    """A question without what only frames it, its figures written in one way."""
    text = " ".join(unicodedata.normalize("NFC", text).translate({0x2019: "'", 0x02BC: "'"}).split())
    text = _GREETING.sub("", _THANKS.sub("", _END.sub("", text)), count=1)
    for contracted, full in _CONTRACTED:
        text = contracted.sub(full, text)
    text = _FRAME.sub("", text, count=1)
    text = _GROUPED.sub(lambda found: found.group().replace(",", ""), text)
    text = _PRICED.sub(lambda found: f"{found[2]} {_MONEY[found[1]]}", text).replace("%", " percent")
    text = _CLOCK.sub(_of_the_day, text)
    for dated in _DATES:
        text = dated.sub(_day, text)
    text = _METER.sub(r"\1re\2", text)
    return _UNIT.sub(lambda found: f"{found[1]} {_UNITS.get(found[2], found[2].removesuffix('s'))}", text)


def _day(found: "re.Match[str]") -> str:
    return f"{found['year']}-{_MONTHS.index(found['month']) + 1:02}-{int(found['day']):02}"


def _of_the_day(found: "re.Match[str]") -> str:
    hour = int(found[1]) % 12 + (12 if found[3].lower() == "p" else 0)
    return f"{hour:02}:{found[2] or '00'}"


def _ways(text: str) -> Iterator[list[str]]:
    """The words of a question, as they stand, and with a condition that is set before it behind it."""
    yield _words(text)
    found = _CONDITION.match(text)
    if found is not None and not any(map(_SECOND_VERB.search, (found[1], found[2]))):
        yield _words(f"{found[2]} {found[1][0].lower()}{found[1][1:]}")


def _words(text: str) -> list[str]:
    """Words with all their signs; the first one in lower case, unless more of it is in capitals."""
    if not text:
        return []
    first, *rest = text.split()
    return [first.lower() if first[1:].islower() or first in ("A", "I") else first, *rest]


def _is_transposed(one: str, other: str) -> bool:
    """Whether two letters beside each other changed places."""
    if len(one) != len(other):
        return False
    differ = [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(differ) != 2 or differ[1] != differ[0] + 1:
        return False
    first, second = differ
    return one[first] == other[second] and one[second] == other[first]


def _is_doubled(short: str, long: str) -> bool:
    """Whether the longer word has one letter twice that the shorter has once."""
    if len(long) != len(short) + 1:
        return False
    return any(long[at] == long[at - 1] and long[:at] + long[at + 1 :] == short for at in range(1, len(long)))
