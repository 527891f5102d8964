"""RTF: paragraphs, headings by their level, rows of tables; no pictures, codes of fields, hidden or deleted text.

Source: Microsoft, Rich Text Format Specification 1.9.1
"""

import codecs
import re
from dataclasses import dataclass, replace

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise, unmarked

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)|\\"
)
_NO_TEXT = frozenset(
    "fonttbl colortbl stylesheet info pict object objdata themedata colorschememapping latentstyles datastore "
    "listtable listoverridetable revtbl rsidtbl generator fldinst xmlnstbl filetbl header headerl headerr headerf "
    "footer footerl "
    "footerr footerf bkmkstart bkmkend pntext listtext nonshppict mmathPr background annotation atnid atnauthor "
    "sp sn sv shprslt fname datafield formfield private tc xe wgrffmtfilter userprops ftnsep ftnsepc aftnsep".split()
)
_SIGNS = {
    "line": "\n",
    "tab": "\t",
    "emdash": "\u2014",
    "endash": "\u2013",
    "emspace": " ",
    "enspace": " ",
    "bullet": "\u2022",
    "lquote": "\u2018",
    "rquote": "\u2019",
    "ldblquote": "\u201c",
    "rdblquote": "\u201d",
    "~": "\u00a0",
    "_": "\u2011",
    "{": "{",
    "}": "}",
    "\\": "\\",
}
_CODE_PAGES = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}
_CHARSETS = {  # of fonts
    **{0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "cp936", 136: "cp950", 161: "cp1253"},
    **{162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874"},
    **{238: "cp1250", 254: "cp437", 255: "cp850"},
}
_DEEPEST_HEADING = 6


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Raises: DocumentRejected: no RTF, cut off, nested deeper than `bounds.depth`, or too long."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise DocumentRejected("The file is no RTF, whatever its name says: save it anew, or send it as DOCX or PDF.")
    reader = _Reader(bounds)
    position = 0
    while position < len(data) and not reader.is_over:
        match = _TOKEN.match(data, position)
        if match is None:
            raise DocumentRejected("The file is damaged: its RTF breaks. Save it anew.")
        position = match.end() + reader.take(match)
    if not reader.is_over:
        raise DocumentRejected("The file is damaged or was cut off on its way: send it again, or save it anew.")
    return Parsed(normalise("\n".join(reader.lines)), structured=True)


@dataclass(frozen=True, slots=True)
class _State:
    """What holds inside of a group."""

    is_dropped: bool = False
    is_hidden: bool = False
    font: str = ""
    skipped: int = 1  # bytes after a character by number
    in_fonts: bool = False


class _Reader:
    """Takes one token after the other."""

    def __init__(self, bounds: Bounds) -> None:
        self.lines: list[str] = []
        self.is_over = False
        self._left = self._limit = bounds.characters
        self._depth = bounds.depth
        self._state = _State()
        self._groups: list[_State] = []
        self._encoding = "cp1252"
        self._fonts: dict[str, str] = {}
        self._default_font = ""
        self._skip = 0
        self._bytes = bytearray()
        self._parts: list[str] = []
        self._cells: list[str] = []
        self._in_table = self._was_row = False
        self._level = 0
        self._fresh = False  # whether the group has just begun
        self._ignorable = False  # whether its first word may be unknown

    def take(self, match: re.Match[bytes]) -> int:
        """Returns: bytes behind the token that are no RTF."""
        word, number, code, sign, brace, text = match.groups()
        if code is not None:
            self._byte(int(code, 16))
            return 0
        if text is not None:
            for each in text[min(self._skip, len(text)) :] if self._skip else text:
                self._bytes.append(each)
            self._skip = max(0, self._skip - len(text))
            return 0
        self._flush()
        if brace is not None:
            self._group(brace)
        elif sign is not None:
            self._sign(sign.decode("latin-1"))
        elif word is not None:
            return self._word(word.decode("ascii"), int(number) if number is not None else None)
        return 0

    def _byte(self, value: int) -> None:
        if self._skip:
            self._skip -= 1
        else:
            self._bytes.append(value)

    def _flush(self) -> None:
        """Decode the bytes that came together: some letters have two."""
        if self._bytes:
            encoding = self._fonts.get(self._state.font or self._default_font, self._encoding)
            self._write(self._bytes.decode(encoding, errors="replace"))
            self._bytes.clear()

    def _group(self, brace: bytes) -> None:
        self._skip = 0
        if brace == b"{":
            if len(self._groups) >= self._depth:
                raise DocumentRejected(f"The file nests groups more than {self._depth} levels deep: simplify it.")
            self._groups.append(self._state)
            self._fresh, self._ignorable = True, False
            return
        self._state = self._groups.pop()
        self._fresh = False
        if not self._groups:
            self._end_paragraph()
            self.is_over = True

    def _sign(self, sign: str) -> None:
        if sign == "*" and self._fresh:
            self._ignorable = True
        elif sign in "\r\n":
            self._end_paragraph()
        elif sign in _SIGNS:
            self._write(_SIGNS[sign])

    def _word(self, word: str, number: int | None) -> int:
        fresh, self._fresh = self._fresh, False
        if word == "bin":
            return max(0, number or 0)
        if fresh and (word in _NO_TEXT or (self._ignorable and word not in ("shptxt", "shpinst", "nesttableprops"))):
            self._state = replace(self._state, is_dropped=True, in_fonts=word == "fonttbl" or self._state.in_fonts)
        if word in _SIGNS:
            self._write(_SIGNS[word])
        elif word == "u" and number is not None:
            self._unicode(number % 65_536)
        elif not self._layout(word, number):
            self._character(word, number)
        return 0

    def _unicode(self, code: int) -> None:
        self._write(chr(code))  # halves of what lies beyond 65,535 are joined with the paragraph
        self._skip = self._state.skipped

    def _character(self, word: str, number: int | None) -> None:
        match word:
            case "ansicpg" if number is not None:
                self._encoding = _known(f"cp{number}") or self._encoding
            case "mac" | "pc" | "pca":
                self._encoding = _CODE_PAGES[word]
            case "deff":
                self._default_font = str(number)
            case "f":
                self._state = replace(self._state, font=str(number))
            case "fcharset" if self._state.in_fonts and number in _CHARSETS:
                self._fonts[self._state.font] = _CHARSETS[number]
            case "uc":
                self._state = replace(self._state, skipped=max(0, min(number or 0, 16)))
            case "v" | "deleted":  # hidden, or taken out while changes were tracked
                self._state = replace(self._state, is_hidden=number != 0)
            case "plain":
                self._state = replace(self._state, is_hidden=False, font="")

    def _layout(self, word: str, number: int | None) -> bool:
        """Whether the word is about paragraphs and tables."""
        if self._state.is_dropped:
            return False
        match word:
            case "par" | "sect" | "page":
                self._end_paragraph()
            case "pard":
                self._in_table, self._level = False, 0
            case "intbl":
                self._in_table = True
            case "outlinelevel":
                self._level = min((number or 0) + 1, _DEEPEST_HEADING) if 0 <= (number or 0) < 9 else 0
            case "cell" | "nestcell":
                self._cells.append(" ".join(self._paragraph().split()))
            case "row" | "nestrow":
                row, self._cells = " ".join(" | ".join(self._cells).split()), []
                if row.strip("| "):
                    self._emit([unmarked(row)], is_row=True)
            case _:
                return False
        return True

    def _write(self, text: str) -> None:
        if self._state.is_dropped or self._state.is_hidden:
            return
        self._left -= len(text)
        if self._left < 0:
            raise DocumentRejected(f"The text has more than {self._limit:,} characters, the limit. Split the file.")
        self._parts.append(text)

    def _paragraph(self) -> str:
        text = "".join(self._parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self._parts.clear()
        return text.strip()

    def _end_paragraph(self) -> None:
        if self._in_table:  # a line of a cell
            self._write("\n")
            return
        text = self._paragraph()
        if self._cells:  # of a row that never ended
            text, self._cells = " | ".join([*self._cells, text]), []
        if not text:
            return
        if self._level:
            self._emit(["#" * self._level + " " + " ".join(text.split())])
        else:
            self._emit([unmarked(line) for line in text.split("\n")])

    def _emit(self, lines: list[str], is_row: bool = False) -> None:
        if not (is_row and self._was_row):
            self.lines.append("")
        self._was_row = is_row
        self.lines += lines


def _known(encoding: str) -> str | None:
    """A name of an encoding as Python has it."""
    if encoding == "cp65001":
        return "utf-8"
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return None
