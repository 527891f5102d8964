"""The file of promises, `docs/promises.toml`, as Python has it."""

import ast
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

BOOK = Path("docs") / "promises.toml"


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that stands once in a file, and what is put in its place."""

    file: str
    replaces: str
    instead: str

    def of(self, text: str) -> str:
        """The file's text with the edit made. Raises: ValueError: it does not stand in it exactly once."""
        if (count := text.count(self.replaces)) != 1:
            raise ValueError(f"{self.file} holds it {count} times: {self.replaces!r}")
        return text.replace(self.replaces, self.instead)


@dataclass(frozen=True, slots=True)
class Defect:
    """A guard taken away.

    Attributes:
        edits: made together, where guards stand one behind the other.
        tests: that must turn red.
        shown_by: an exception that shows it, where none of the tests gets as far as an assertion.
    """

    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    shown_by: str | None


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, in words that a user understands, with the tests that show it.

    Attributes:
        headlines: what it helps to keep.
    """

    says: str
    tests: tuple[str, ...]
    defects: tuple[Defect, ...]
    headlines: tuple[str, ...] = ()

    def concerns(self, words: Sequence[str]) -> bool:
        """Whether it or a headline of it speaks of all words, or its tests or defects lie there."""
        places = [*self.tests, *(edit.file for defect in self.defects for edit in defect.edits)]
        text = "\n".join((self.says, *self.headlines, *places)).lower()
        return all(word.lower() in text for word in words)


@dataclass(frozen=True, slots=True)
class Headline:
    """What Stoker as a whole promises, kept by several promises of the book.

    Attributes:
        measured_by: commands that print the figure.
        figure: what they printed last.
        seen: when.
        kept_by: what the promises say, whose defects turn red.
    """

    says: str
    measured_by: tuple[str, ...]
    figure: str
    seen: date
    kept_by: tuple[str, ...]


def read(root: Path) -> list[Promise]:
    """Read the file below a repository's root. Raises: ValueError: it is malformed; KeyError: something is missing."""
    headlines = read_headlines(root)
    return [_promise(one, headlines) for one in _book(root)["promise"]]


def read_headlines(root: Path) -> list[Headline]:
    """Read what stands above the promises. Raises: as `read`."""
    return [_headline(one) for one in _book(root)["headline"]]


def _book(root: Path) -> dict[str, list[dict[str, Any]]]:
    with (root / BOOK).open("rb") as file:
        return tomllib.load(file)


def names_of(file: Path) -> set[str]:
    """The names of the tests in a file, without running it."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, functions)}
    return {name for name in names if name.startswith("test_")}


def _headline(raw: Mapping[str, Any]) -> Headline:
    _only(raw, {"says", "measured_by", "figure", "seen", "kept_by"})
    return Headline(raw["says"], _texts(raw["measured_by"]), raw["figure"], raw["seen"], tuple(raw["kept_by"]))


def _promise(raw: Mapping[str, Any], headlines: Sequence[Headline]) -> Promise:
    _only(raw, {"says", "test", "defect"})
    tests = _texts(raw["test"])
    above = tuple(headline.says for headline in headlines if raw["says"] in headline.kept_by)
    return Promise(raw["says"], tests, tuple(_defect(one, tests) for one in raw["defect"]), above)


def _defect(raw: Mapping[str, Any], tests: tuple[str, ...]) -> Defect:
    _only(raw, {"file", "replaces", "with", "also", "test", "shown_by"})
    edits = tuple(Edit(one["file"], one["replaces"], one["with"]) for one in (raw, *raw.get("also", ())))
    return Defect(edits, _texts(raw.get("test", tests)), raw.get("shown_by"))


def _texts(raw: str | Sequence[str]) -> tuple[str, ...]:
    return (raw,) if isinstance(raw, str) else tuple(raw)


def _only(raw: Mapping[str, Any], known: set[str]) -> None:
    if unknown := raw.keys() - known:
        raise ValueError(f"a promise does not know {', '.join(sorted(unknown))}: {raw}")
