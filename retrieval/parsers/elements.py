"""XML of any kind: each element with text a line `path: value`, a blank line where an element that holds others ends.

Text with elements in it, as of books and articles, stays one line. Nothing that a file names is ever fetched.
"""

from dataclasses import dataclass, field

from retrieval.errors import DocumentRejected
from retrieval.parsers import xml
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise

_PIECE_BYTES = 2**16
_SHOWN_PATH = 4  # names of a path, the nearest to the text


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Raises: DocumentRejected: broken XML, one that declares entities, nests deeper than allowed, or is too long."""
    reader = _Elements(bounds.characters)
    pieces = (data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES))
    xml.read(pieces, reader, bounds.depth, with_doctype=True, with_prefixes=True)
    return Parsed(normalise("\n".join(reader.lines)), records=True)


@dataclass(slots=True)
class _Element:
    """An element that is open.

    Attributes:
        parts: text and, of elements within, what they would be as a part of this one's text.
        lines: what it gives if it turns out to hold no text of its own.
    """

    name: str
    parts: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    has_text: bool = False
    has_elements: bool = False


class _Elements:
    """Keeps the lines of what has ended."""

    def __init__(self, characters: int) -> None:
        self.lines: list[str] = []
        self._limit = self._left = characters
        self._open: list[_Element] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._open:
            self._open[-1].has_elements = True
        self._open.append(_Element(_shown(name)))
        for key, value in attributes.items():
            if value.strip() and not key.startswith("http://www.w3.org/2001/XMLSchema-instance "):
                self._open[-1].lines.append(self._line(f"{self._path()}@{_shown(key)}", value))

    def end(self, _name: str) -> None:
        path = self._path()
        element = self._open.pop()
        text = " ".join("".join(element.parts).split())
        lines = element.lines
        if element.has_text and text:
            # What was found of elements within stands in the text already; attributes are all that is kept beside.
            lines = [line for line in lines if "@" in line.partition(": ")[0]] if element.has_elements else lines
            lines.append(self._line(path, text))
        if element.has_elements and not element.has_text and lines:
            lines.append("")
        if not self._open:
            self.lines = lines
            return
        self._open[-1].lines += lines
        self._open[-1].parts.append(f" {text} " if not element.has_text else text)

    def text(self, text: str) -> None:
        if self._open:
            self._spend(len(text))
            self._open[-1].parts.append(text)
            self._open[-1].has_text = self._open[-1].has_text or not text.isspace()

    def _line(self, path: str, value: str) -> str:
        self._spend(len(path) + 2)
        return f"{path}: {' '.join(value.split())}"

    def _path(self) -> str:
        """Of the innermost element, without the outermost, which is that of all."""
        below = self._open[1:] or self._open
        return ".".join(element.name for element in below[-_SHOWN_PATH:])

    def _spend(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise DocumentRejected(f"The text has more than {self._limit:,} characters, the limit. Split the file.")


def _shown(name: str) -> str:
    """`prefix:name` of `namespace name prefix`."""
    _, _, rest = name.partition(" ")
    local, _, prefix = rest.partition(" ")
    return f"{prefix}:{local}" if prefix else local or name
