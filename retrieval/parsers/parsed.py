"""What every parser returns, and the one normal form of text."""

import re
import unicodedata
from dataclasses import dataclass

from core.visible import visible

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_LINE_TAIL = re.compile(r"(?<![ \t])[ \t]+(?=\n|\Z)")  # looked for at the beginning of a run alone
_GAPS = re.compile(r"\n{3,}")
_TITLE_CHARACTERS = 200

Mark = tuple[int, int, str]  # where a part begins, its level from 1 on, its name
_LIKE_A_HEADING = re.compile(r"#{1,6}[ \t]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document's normalised text: NFC, no NUL, lines end in `\\n`.

    Attributes:
        pages: (page counted from 1, start, end) in characters, in order; empty where the format has no pages.
        structured: whether lines that begin with `#` are headings.
        title: what the document calls itself, if it does.
        records: whether every line is a field of a record, and a blank line ends a record.
        outline: parts that no heading shows, such as functions, in order: the beginning of a line, the part's level
            from 1 on, its name. An empty name ends parts.
    """

    text: str
    pages: tuple[tuple[int, int, int], ...] = ()
    structured: bool = False
    title: str | None = None
    records: bool = False
    outline: tuple[Mark, ...] = ()

    def name(self, filename: str) -> str:
        """What the document is called: its own title, else its file's name without folders and extension."""
        if self.title:
            return self.title[:_TITLE_CHARACTERS]
        return filename.rpartition("/")[2].rpartition(".")[0].replace("_", " ") or filename


def normalise(text: str) -> str:
    """Bring text to the normal form, without what no reader sees; normalising again changes nothing."""
    # What is taken out may have stood between a letter and its accent, so composing comes after; and what is composed
    # may be another letter, beside which other things are invisible, so it comes before, too.
    text = unicodedata.normalize("NFC", visible(unicodedata.normalize("NFC", _LINE_ENDS.sub("\n", text))))
    return _GAPS.sub("\n\n", _LINE_TAIL.sub("", text)).strip("\n")


def unmarked(line: str) -> str:
    """A line of a structured text that is no heading: one that looks like it stands one space in."""
    return f" {line}" if _LIKE_A_HEADING.match(line) else line
