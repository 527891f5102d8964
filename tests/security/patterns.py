"""Texts on which a regular expression would take longest, made from the expression itself.

For each repetition in it: something that leads there, the repeated part many times over, and an end that fits nothing,
so that whoever tries all ways to divide the middle has to.
"""

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its documented place is `re._parser` since Python 3.11
    import sre_constants as sre
    import sre_parse

_MANY = 32  # from how many times on a repetition is one that a text can be pumped by
_CLASSES = {
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_NOT_DIGIT: "a",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_NOT_SPACE: "a",
    sre.CATEGORY_WORD: "a",
    sre.CATEGORY_NOT_WORD: " ",
}
ENDS = ("\x00", "!", "a", "\n", "")


def all_patterns(*packages: str) -> dict[str, "re.Pattern[Any]"]:
    """Every pattern at the top of a module of these packages, also in lists and tables, by its place."""
    found: dict[str, re.Pattern[Any]] = {}
    for package in packages:
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not info.name.rpartition(".")[2].startswith("__") and ".versions." not in info.name:
                found |= _patterns_of(importlib.import_module(info.name))
    return found


def _patterns_of(module: ModuleType) -> dict[str, "re.Pattern[Any]"]:
    found = {}
    for name, value in vars(module).items():
        for number, one in enumerate(_flat(value)):
            found[f"{module.__name__}.{name}" + (f"[{number}]" if one is not value else "")] = one
    return found


def _flat(value: object, depth: int = 0) -> Iterator["re.Pattern[Any]"]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 3 and isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one, depth + 1)
    elif depth < 3 and isinstance(value, dict):
        for one in value.values():
            yield from _flat(one, depth + 1)


def ways_of(name: str) -> set[str]:
    """By which methods the pattern of this place is used in its module; one in a table is searched for."""
    module, _, variable = name.partition("[")[0].rpartition(".")
    source = inspect.getsource(importlib.import_module(module))
    ways = set(re.findall(rf"\b{variable}\.(match|fullmatch|search|sub|findall|finditer|split)\(", source))
    return ways or {"finditer"}


def use(pattern: "re.Pattern[Any]", ways: set[str], text: str) -> None:
    """Run it over a text in these ways."""
    data = text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")
    for way in ways & {"match", "fullmatch"}:
        getattr(pattern, way)(data)
    if "search" in ways:
        pattern.search(data)
    if ways - {"match", "fullmatch", "search"}:
        for _ in pattern.finditer(data):
            pass


def shortest(pattern: "re.Pattern[Any]", characters: int) -> Iterator[str]:
    """The same with one end each."""
    for number, text in enumerate(attacks(pattern, characters)):
        if number % (2 * len(ENDS)) in (1, 2):
            yield text


def attacks(pattern: "re.Pattern[Any]", characters: int) -> Iterator[str]:
    """Texts of about so many characters, for each repetition and end."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree: Any = sre_parse.parse(
        source, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags
    )
    for lead, pump in dict.fromkeys(_pumps(list(tree), "")):
        if pump:
            middle = pump * (characters // len(pump))
            for end in ENDS:
                yield lead + middle + end
                if lead:
                    yield (lead + pump) * (characters // len(lead + pump)) + end


def _pumps(tree: Sequence[Any], lead: str) -> Iterator[tuple[str, str]]:
    """For each repetition: what leads to it, and what it repeats."""
    for op, argument in tree:
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            _, most, inner = argument
            if most is sre.MAXREPEAT or most >= _MANY:
                yield lead, _example(inner)
            yield from _pumps(list(inner), lead)
        elif op is sre.SUBPATTERN:
            yield from _pumps(list(argument[3]), lead)
        elif op is sre.BRANCH:
            for branch in argument[1]:
                yield from _pumps(list(branch), lead)
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            yield from _pumps(list(argument[1]), lead)
        elif op is sre.ATOMIC_GROUP:
            yield from _pumps(list(argument), lead)
        lead += _example([(op, argument)])


def _example(tree: Any) -> str:
    """A short text that the tree matches, as near as needs be."""
    out = ""
    for op, argument in list(tree):
        if op is sre.LITERAL:
            out += chr(argument)
        elif op is sre.NOT_LITERAL:
            out += "a" if argument != ord("a") else "b"
        elif op is sre.ANY:
            out += "a"
        elif op is sre.IN:
            out += _of_class(argument)
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            out += _example(argument[2]) * max(1, argument[0])
        elif op is sre.SUBPATTERN:
            out += _example(argument[3])
        elif op is sre.BRANCH:
            out += _example(argument[1][0])
        elif op is sre.ATOMIC_GROUP:
            out += _example(argument)
    return out


def _of_class(items: Any) -> str:
    if items and items[0][0] is sre.NEGATE:
        refused = re.compile(f"[{''.join(_shown(item) for item in items[1:])}]")
        return next((sign for sign in "a1 -.\n~é漢" if not refused.match(sign)), "a")
    op, argument = items[0]
    return chr(argument) if op is sre.LITERAL else chr(argument[0]) if op is sre.RANGE else _CLASSES.get(argument, "a")


def _shown(item: Any) -> str:
    op, argument = item
    if op is sre.LITERAL:
        return re.escape(chr(argument))
    if op is sre.RANGE:
        return f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}"
    return {
        sre.CATEGORY_DIGIT: r"\d",
        sre.CATEGORY_NOT_DIGIT: r"\D",
        sre.CATEGORY_SPACE: r"\s",
        sre.CATEGORY_NOT_SPACE: r"\S",
        sre.CATEGORY_WORD: r"\w",
        sre.CATEGORY_NOT_WORD: r"\W",
    }[argument]
