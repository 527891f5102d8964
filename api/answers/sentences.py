"""Where sentences begin and end, so that quotes and checks have exact spans."""

import re
from collections.abc import Iterator

# A stop before white space; an empty line; a line end before a list item, a table row, a heading or a fence. Other line
# ends are where a paragraph was wrapped.
_END = re.compile(
    r"(?<![.!?])[.!?]+[\"'”’)\]]*(?=\s)|\n[ \t]*\n\s*"
    r"|\n(?=[ \t]*(?:[-*+|#>] ?|\d+[.)] |```)|(?:[^\n.!?]|\.(?=\d))*?[^\s.!?] \| )|$"
)
_NO_END = re.compile(r"(?:\b(?i:e\.g|i\.e|etc|vs|cf|approx|fig|dr|mr|mrs|st)|\b[A-Z])\.\Z")
_NUMBER = re.compile(r"^[ \t]*\d+\.\Z", re.MULTILINE)

_LOOK_BACK = 20  # characters before a stop in which an abbreviation or a list's number may stand


def spans(text: str, *, begins_line: bool = True) -> Iterator[tuple[int, int]]:
    """The sentences of a text as (start, end), white space at either end left out.

    Args:
        begins_line: the text's first line is whole, so that a number at its beginning is an item's.
    """
    start = 0
    for match in _END.finditer(text):
        if match.end() == start and match.end() < len(text):
            continue
        at_stop = match.group().startswith(".") and match.end() < len(text)
        if at_stop and _goes_on(text, max(start, match.end() - _LOOK_BACK), match.end(), begins_line=begins_line):
            continue
        span = _trimmed(text, start, match.end())
        if span is not None:
            yield span
        start = match.end()


def _goes_on(text: str, since: int, stop: int, *, begins_line: bool) -> bool:
    """Whether a stop ends no sentence, but an abbreviation or a list's number."""
    number = _NUMBER.search(text, since, stop)
    is_items = number is not None and (number.start() > 0 or begins_line)
    return is_items or _NO_END.search(text, since, stop) is not None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    body = piece.strip()
    return (start + lead, start + lead + len(body)) if body else None


class SentenceBuffer:
    """Gathers streamed text and gives it back a finished sentence at a time."""

    def __init__(self) -> None:
        self._text = ""
        self._begins_line = True

    def add(self, text: str) -> list[str]:
        """Take a piece. Returns: the sentences that it finished, each with the white space before it."""
        self._text += text
        found = list(spans(self._text, begins_line=self._begins_line))
        if len(found) < 2:
            return []
        finished, cut = [], 0
        for _, end in found[:-1]:
            finished.append(self._text[cut:end])
            cut = end
        self._text = self._text[cut:]
        self._begins_line = False  # a sentence stands before it
        return finished

    def rest(self) -> list[str]:
        """What is left when the stream has ended."""
        left, self._text = self._text, ""
        self._begins_line = True
        return [left] if left.strip() else []
