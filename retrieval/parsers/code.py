"""Source code: the text as it is, with the places where functions, classes and the like begin.

Grammars find them where there is one for the language (`grammars`); elsewhere lines that begin as definitions do.
"""

import re

from retrieval.parsers import grammars
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Mark, Parsed, normalise
from retrieval.parsers.text import decode

_SQL = re.compile(
    r"^[ \t]*create[ \t]+(?:(?:or[ \t]+replace|temp|temporary|unique|materialized|global|local)[ \t]+)*"
    r"(?:table|view|function|procedure|trigger|index|type|schema|sequence)[ \t]+(?:if[ \t]+not[ \t]+exists[ \t]+)?"
    r"(?P<name>[^\s(;]{1,100})",
    re.MULTILINE | re.IGNORECASE,
)
_YAML = re.compile(r"^(?P<name>[^\s#:\-{}\[\]][^:#\n]{0,100}):(?=[ \t]|$)", re.MULTILINE)
_TOML = re.compile(r"^\[{1,2}(?P<name>[^\[\]\n]{1,100})\]{1,2}", re.MULTILINE)
_OTHER = re.compile(
    r"^(?P<indent>[ \t]{0,8})(?:[a-z]{1,12}[ \t]+){0,5}?"
    r"(?:class|interface|struct|enum|trait|object|protocol|extension|func|fun|function|def|defmodule|module|namespace|"
    r"record|message|service|resource|sub)[ \t]+\"?(?P<name>[A-Za-z_][\w.:]{0,100})",
    re.MULTILINE,
)
_LINES = {"application/sql": _SQL, "application/yaml": _YAML, "application/toml": _TOML, "text/x-source": _OTHER}


def parse(media_type: str, data: bytes, _bounds: Bounds) -> Parsed:
    """Raises: DocumentRejected: the bytes are no text."""
    text = normalise(decode(data))
    pattern = _LINES.get(media_type)
    outline = grammars.outline(media_type, text) if pattern is None else _matched(pattern, text)
    return Parsed(text, outline=tuple(outline))


def _matched(pattern: re.Pattern[str], text: str) -> list[Mark]:
    return [
        (match.start(), 2 if match.groupdict().get("indent") else 1, match["name"].strip())
        for match in pattern.finditer(text)
    ]
