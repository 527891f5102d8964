"""DOCX: the body as text with Markdown's headings and lists, one line for each row of a table.

Read as a stream rather than with python-docx, which keeps the whole tree in memory and leaves out content controls
and accepted insertions.
Source: ECMA-376, part 1 (WordprocessingML)
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from retrieval.errors import DocumentRejected
from retrieval.parsers import ooxml, xml
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise

_MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_MATH_TEXT = "http://schemas.openxmlformats.org/officeDocument/2006/math t"
_ALTERNATIVE = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_DROPPED = frozenset(("del", "moveFrom", "instrText", "delText", "delInstrText"))
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_HEADING_NAME = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_CONTENTS_NAME = re.compile(r"toc( heading| ?\d)$", re.IGNORECASE)
_OFF = frozenset(("0", "false", "off"))
_DEEPEST_HEADING = 6
_DEEPEST_LIST = 8
_PARENTS = 20  # styles that one style may stand on


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Keep headings, paragraphs, lists, tables and footnotes; headers and footers are left out.

    Raises: DocumentRejected: cut off, damaged, encrypted, too large unpacked, or another kind of file.
    """
    archive = Archive(data, bounds)
    main = ooxml.main_part(archive, "word/document.xml", bounds)
    folder = main.rpartition("/")[0]
    styles, lists = _Styles(), _Lists()
    for name, reader in (("styles.xml", styles), ("numbering.xml", lists)):
        if f"{folder}/{name}" in archive:
            xml.read(archive.pieces(f"{folder}/{name}"), reader, bounds.depth)
    body = _Body(styles, lists, bounds.characters)
    xml.read(archive.pieces(main), body, bounds.depth)
    if f"{folder}/footnotes.xml" in archive:
        xml.read(archive.pieces(f"{folder}/footnotes.xml"), body, bounds.depth)
    return Parsed(normalise("\n".join(body.lines)), structured=True, title=ooxml.title(archive, bounds))


def _local(name: str) -> str:
    """The name of a WordprocessingML element; empty for those of other vocabularies."""
    space, _, local = name.rpartition(" ")
    return local if space in (_MAIN, _STRICT) else ""


def _value(attributes: dict[str, str], name: str = "val", default: str = "") -> str:
    return attributes.get(f"{_MAIN} {name}", attributes.get(f"{_STRICT} {name}", default))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


@dataclass(slots=True)
class _Style:
    name: str = ""
    parent: str = ""
    level: int = 0
    list_id: str = ""


class _Styles:
    """What `styles.xml` says of paragraphs: heading levels, lists, tables of contents."""

    def __init__(self) -> None:
        self._styles: dict[str, _Style] = {}
        self._style = _Style()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match _local(name):
            case "style":
                self._style = self._styles[_value(attributes, "styleId")] = _Style()
            case "name":
                self._style.name = _value(attributes)
            case "basedOn":
                self._style.parent = _value(attributes)
            case "outlineLvl":
                self._style.level = _number(_value(attributes)) + 1
            case "numId":
                self._style.list_id = _value(attributes)

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...

    def level(self, style_id: str) -> int:
        """The heading level, 1 to 9; 0 for no heading."""
        for style in self._line(style_id):
            if found := _HEADING_NAME.match(style.name):
                return int(found.group(1))
            if style.name.lower() == "title":
                return 1
            if style.level:
                return style.level if style.level <= 9 else 0  # 10 is body text
        return 0

    def list_id(self, style_id: str) -> str:
        return next((style.list_id for style in self._line(style_id) if style.list_id), "")

    def is_contents(self, style_id: str) -> bool:
        return any(_CONTENTS_NAME.match(style.name) for style in self._line(style_id))

    def _line(self, style_id: str) -> list[_Style]:
        """The style and those it stands on, nearest first."""
        line: list[_Style] = []
        while (style := self._styles.get(style_id)) is not None and len(line) < _PARENTS:
            line.append(style)
            style_id = style.parent
        return line


class _Lists:
    """What `numbering.xml` says: which levels of which lists are counted."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[int, str]] = {}  # of abstract lists, by level
        self._abstract: dict[str, str] = {}  # list to abstract list
        self._reading = ("", 0, "")  # abstract list, level, list

    def start(self, name: str, attributes: dict[str, str]) -> None:
        abstract, level, number = self._reading
        match _local(name):
            case "abstractNum":
                self._reading = (_value(attributes, "abstractNumId"), 0, "")
            case "lvl":
                self._reading = (abstract, _number(_value(attributes, "ilvl")), number)
            case "numFmt" if not number:
                self._kinds.setdefault(abstract, {})[level] = _value(attributes)
            case "num":
                self._reading = ("", 0, _value(attributes, "numId"))
            case "abstractNumId" if number:
                self._abstract[number] = _value(attributes)

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...

    def is_counted(self, list_id: str, level: int) -> bool:
        kind = self._kinds.get(self._abstract.get(list_id, ""), {}).get(level, "bullet")
        return kind not in ("bullet", "none")


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    style: str = ""
    level: int = 0
    list_id: str = ""
    list_level: int = 0


@dataclass(slots=True)
class _Cell:
    """Lines of a cell; a nested table's rows are lines too."""

    lines: list[str] = field(default_factory=list)
    headed: bool = False
    continued: bool = False


@dataclass(slots=True)
class _Table:
    rows: list[list[_Cell]] = field(default_factory=list)


class _Body:
    """Turns `document.xml` into lines, blank ones between blocks; `footnotes.xml` is read on behind it."""

    def __init__(self, styles: _Styles, lists: _Lists, characters: int) -> None:
        self.lines: list[str] = []
        self._styles = styles
        self._lists = lists
        self._characters = characters  # that may still come
        self._limit = characters
        self._dropping = 0  # open elements from the outermost dropped one on
        self._paragraphs: list[_Paragraph] = []  # text boxes put paragraphs into paragraphs
        self._tables: list[_Table] = []
        self._cells: list[_Cell] = []
        self._in_text = self._in_run = self._hidden = False
        self._counts: Counter[tuple[str, int]] = Counter()
        self._footnote = ""
        self._was_list = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = _local(name)
        if self._dropping or local in _DROPPED or name == _ALTERNATIVE:
            self._dropping += 1
            return
        paragraph = self._paragraphs[-1] if self._paragraphs else None
        match local:
            case "p":
                self._paragraphs.append(_Paragraph())
            case "tbl":
                self._tables.append(_Table())
            case "tr" if self._tables:
                self._tables[-1].rows.append([])
            case "gridBefore" if self._tables and self._tables[-1].rows:
                late = min(_number(_value(attributes)), 63)
                self._tables[-1].rows[-1].extend(_Cell() for _ in range(late))
            case "tc" if self._tables and self._tables[-1].rows:
                cell = _Cell()
                self._tables[-1].rows[-1].append(cell)
                self._cells.append(cell)
            case "vMerge" if self._cells:
                self._cells[-1].continued = _value(attributes, default="continue") == "continue"
            case "footnote":
                # Types other than "normal" are the lines that separate notes from text.
                normal = _value(attributes, "type", "normal") == "normal"
                self._footnote = f"[^{_value(attributes, 'id')}]: " if normal else ""
            case "r":
                self._in_run, self._hidden = True, False
            case "vanish" if self._in_run:
                self._hidden = _value(attributes, default="1") not in _OFF
        if name == _MATH_TEXT or local == "t":
            self._in_text = True
        elif paragraph is not None:
            self._describe(paragraph, local, attributes)

    def _describe(self, paragraph: _Paragraph, local: str, attributes: dict[str, str]) -> None:
        match local:
            case "pStyle":
                paragraph.style = _value(attributes)
            case "outlineLvl":
                paragraph.level = _number(_value(attributes)) + 1
            case "numId":
                paragraph.list_id = _value(attributes)
            case "ilvl":
                paragraph.list_level = min(_number(_value(attributes)), _DEEPEST_LIST)
            case "footnoteReference":
                paragraph.parts.append(f"[^{_value(attributes, 'id')}]")
            case "tab" | "br" | "cr" | "noBreakHyphen" | "ptab" if self._in_run:  # tab stops stand outside of runs
                paragraph.parts.append(_MARKS[local])

    def end(self, name: str) -> None:
        if self._dropping:
            self._dropping -= 1
            return
        match _local(name):
            case "p" if self._paragraphs:
                self._end_paragraph(self._paragraphs.pop())
            case "tc" if self._cells:
                self._cells.pop()
            case "tbl" if self._tables:
                self._end_table(self._tables.pop())
            case "r":
                self._in_run = self._hidden = False
        self._in_text = False

    def text(self, text: str) -> None:
        if self._in_text and self._paragraphs and not self._dropping and not self._hidden:
            self._paragraphs[-1].parts.append(text)
            self._characters -= len(text)
            if self._characters < 0:
                raise DocumentRejected(f"The text has more than {self._limit:,} characters, the limit. Split the file.")

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip()
        if not text or self._styles.is_contents(paragraph.style):
            return
        own_level = paragraph.level if paragraph.level <= 9 else 0
        level = own_level or self._styles.level(paragraph.style)
        if level:
            text = "#" * min(level, _DEEPEST_HEADING) + " " + " ".join(text.split())
        mark = "" if level else self._list_mark(paragraph)
        if self._footnote:
            text, self._footnote = self._footnote + text, ""
        if self._cells:
            self._cells[-1].lines.append(mark + text)
            self._cells[-1].headed |= bool(level)
        else:
            self._emit([mark + text], is_list=bool(mark))

    def _list_mark(self, paragraph: _Paragraph) -> str:
        list_id = paragraph.list_id or self._styles.list_id(paragraph.style)
        if list_id in ("", "0"):  # 0 takes a paragraph out of its style's list
            return ""
        level = paragraph.list_level
        if not self._lists.is_counted(list_id, level):
            return "  " * level + "- "
        self._counts[list_id, level] += 1
        for deeper in range(level + 1, _DEEPEST_LIST + 1):
            self._counts.pop((list_id, deeper), None)
        return "  " * level + f"{self._counts[list_id, level]}. "

    def _end_table(self, table: _Table) -> None:
        lines: list[str] = []
        for row in table.rows:
            if len(row) == 1 or any(cell.headed for cell in row):  # a frame around text, not a row of data
                for cell in row:
                    for line in cell.lines:
                        lines += ["", line, ""] if line.startswith("#") else [line]
            elif any(cell.lines for cell in row):
                cells = ("" if cell.continued else " ".join(cell.lines) for cell in row)
                lines.append(" ".join(" | ".join(cells).split()))
        if self._cells:
            self._cells[-1].lines.extend(line for line in lines if line)
        else:
            self._emit(lines)

    def _emit(self, lines: list[str], is_list: bool = False) -> None:
        if not (is_list and self._was_list):
            self.lines.append("")
        self._was_list = is_list
        self.lines.extend(lines)
