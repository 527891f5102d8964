"""Figures as one form, however they are written: words, groups, ordinals, units, times, money."""

import re
from decimal import Decimal

UNITS = {
    **{word: ("g", Decimal(1000)) for word in "kg kilogram kilograms kilo kilos".split()},
    **{word: ("g", Decimal(1)) for word in "g gram grams gramme grammes".split()},
    **{word: ("g", Decimal("0.001")) for word in "mg milligram milligrams".split()},
    **{word: ("g", Decimal(1_000_000)) for word in "t tonne tonnes".split()},
    **{word: ("mm", Decimal(1_000_000)) for word in "km kilometre kilometres kilometer kilometers".split()},
    **{word: ("mm", Decimal(1000)) for word in "m metre metres meter meters".split()},
    **{word: ("mm", Decimal(10)) for word in "cm centimetre centimetres centimeter centimeters".split()},
    **{word: ("mm", Decimal(1)) for word in "mm millimetre millimetres millimeter millimeters".split()},
    **{word: ("ml", Decimal(1000)) for word in "l litre litres liter liters".split()},
    **{word: ("ml", Decimal(1)) for word in "ml millilitre millilitres milliliter milliliters".split()},
    **{word: ("ml", Decimal(10)) for word in "cl centilitre centilitres".split()},
    **{word: ("s", Decimal("0.001")) for word in "ms millisecond milliseconds".split()},
    **{word: ("s", Decimal(1)) for word in "s sec second seconds secs".split()},
    **{word: ("s", Decimal(60)) for word in "min mins minute minutes".split()},
    **{word: ("s", Decimal(3600)) for word in "h hr hrs hour hours".split()},
    **{word: ("s", Decimal(86_400)) for word in "day days".split()},
    **{word: ("s", Decimal(604_800)) for word in "week weeks".split()},
}
_SMALL = {
    word: number
    for number, words in enumerate(
        """zero one/first two/second three/third four/fourth five/fifth six/sixth seven/seventh eight/eighth nine/ninth
        ten/tenth eleven/eleventh twelve/twelfth thirteen/thirteenth fourteen/fourteenth fifteen/fifteenth
        sixteen/sixteenth seventeen/seventeenth eighteen/eighteenth nineteen/nineteenth""".split()
    )
    for word in words.split("/")
}
_TENS = {
    word: 10 * number
    for number, words in enumerate(
        """twenty/twentieth thirty/thirtieth forty/fortieth fifty/fiftieth sixty/sixtieth seventy/seventieth
        eighty/eightieth ninety/ninetieth""".split(),
        2,
    )
    for word in words.split("/")
}
_TIMES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "k": 1000, "mio": 10**6}
_ROMAN = {
    word: number for number, word in enumerate("i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi".split(), 1)
}
_MONEY = {"€": "euro", "$": "dollar", "£": "pound", "¥": "yen"}
_PERIODS = {
    "hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year", "annual": "year",
    "annually": "year",
}  # fmt: skip

_FACTORS = {"k": 10**3, "m": 10**6, "million": 10**6, "bn": 10**9, "billion": 10**9}

_EACH = re.compile(r"\b(?:a|an|per|each|every) (?:single )?(day|week|month|year|hour)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\Z")
_JOINED = re.compile(r"(\d+(?:\.\d+)?)([a-z]+)\Z")
_CLOCK = re.compile(r"\b(\d{1,2})(?::(\d\d))? ?(am|pm|a\.m\.|p\.m\.)(?!\w)", re.IGNORECASE)


_MONTHS = {
    name: number
    for number, names in enumerate(
        "january/jan february/feb march/mar april/apr may june/jun july/jul august/aug september/sep/sept october/oct "
        "november/nov december/dec".split(),
        1,
    )
    for name in names.split("/")
}
_MONTH = "|".join([*(name for name in _MONTHS if name != "may"), "(?-i:May)"])
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATES = (
    re.compile(rf"\b{_DAY}(?: of)? ({_MONTH})\b\.?(?:,? (\d{{4}}))?(?!\d)", re.IGNORECASE),
    re.compile(rf"(?!\AMay)\b({_MONTH})\.? {_DAY}\b(?:,? (\d{{4}}))?(?!\d)", re.IGNORECASE),
    re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b"),
)


def _dated(text: str) -> str:
    """With each day of a year as one word."""
    text = _DATES[0].sub(lambda found: _date(found[1], _MONTHS[found[2].lower()], found[3]), text)
    text = _DATES[1].sub(lambda found: _date(found[2], _MONTHS[found[1].lower()], found[3]), text)
    return _DATES[2].sub(lambda found: _date(found[3], int(found[2]), found[1]), text)


def _date(day: str, month: int, year: str | None) -> str:
    return f"day{month:02}{int(day):02}{year or ''}"


def spelled(text: str) -> str:
    """A text in which signs of money and units are words, groups of digits one number, times those of 24 hours."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", _dated(text))
    text = re.sub(r"(?<![\d.])\d{1,3}(?:[\s ]\d{3})+(?![\d.])", lambda found: re.sub(r"\D", "", found.group()), text)
    text = re.sub(r"([€$£¥]) ?(\d+(?:\.\d+)?)( ?(?:k|m|bn|million|billion)\b)?", _money, text, flags=re.IGNORECASE)
    for sign, word in _MONEY.items():
        text = text.replace(sign, f" {word} ")
    text = _CLOCK.sub(_clock, text)
    text = re.sub(r"\bmidnight\b", "00:00", re.sub(r"\bnoon\b", "12:00", text))
    text = re.sub(r"%|\bper ?cent\b", " percent ", text)
    text = text.replace("§", " section ").replace("°C", " celsius ").replace("°", " degrees ").replace("&", " and ")
    text = re.sub(r"\bdegrees celsius\b", "celsius", text, flags=re.IGNORECASE)
    text = _EACH.sub(r"per\1", text)
    return re.sub(r"\bv(?:ersion )?\.? ?(\d)", r"version \1", text, flags=re.IGNORECASE)


def _money(found: re.Match[str]) -> str:
    sign, number, times = found.groups()
    factor = _FACTORS.get((times or "").strip().lower(), 1)
    return f"{_plain(Decimal(number) * factor)} {_MONEY[sign]}"


def _clock(found: re.Match[str]) -> str:
    hour, minute, half = int(found.group(1)), found.group(2) or "00", found.group(3)[0].lower()
    return f"{hour % 12 + (12 if half == 'p' else 0):02}:{minute}"


def figures(words: list[str]) -> list[str]:
    """Words of a question in which each number is `#` and its value, in the least unit of its kind, named behind it."""
    found: list[str] = []
    at = 0
    while at < len(words):
        value, after = _number(words, at)
        if value is None:
            found.append(_period(words[at]))
            at += 1
            continue
        unit = UNITS.get(words[after]) if after < len(words) else None
        if unit is not None:
            found += [f"#{_plain(value * unit[1])}", unit[0]]
            after += 1
        else:
            found.append(f"#{_plain(value)}")
        at = after
    return found


def _period(word: str) -> str:
    return f"per{_PERIODS[word]}" if word in _PERIODS else word


def _number(words: list[str], at: int) -> tuple[Decimal | None, int]:
    """The number that begins at a word, and where it ends; None: there is none."""
    word = words[at]
    if (ordinal := _ORDINAL.match(word)) is not None:
        return Decimal(ordinal.group(1)), at + 1
    joined = _JOINED.match(word)
    if joined is not None and joined.group(2) in UNITS:
        words[at : at + 1] = [joined.group(1), joined.group(2)]
        return Decimal(joined.group(1)), at + 1
    if word in ("half", "quarter") or (word == "a" and words[at + 1 : at + 2] == ["dozen"]):
        if word == "a":
            return Decimal(12), at + 2
        return Decimal("0.5" if word == "half" else "0.25"), at + 1
    if word in _ROMAN and word not in ("i", "v", "x") and at:
        return Decimal(_ROMAN[word]), at + 1
    value = Decimal(word) if _NUMBER.match(word) else None
    if value is None:
        if word in _SMALL:
            value = Decimal(_SMALL[word])
        elif word in _TENS:
            value = Decimal(_TENS[word])
            if at + 1 < len(words) and 0 < _SMALL.get(words[at + 1], 0) < 10:
                value, at = value + _SMALL[words[at + 1]], at + 1
        else:
            return None, at
    at += 1
    while at < len(words) and words[at] in _TIMES:
        value, at = value * _TIMES[words[at]], at + 1
    return value, at


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
