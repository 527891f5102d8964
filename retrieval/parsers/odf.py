"""OpenDocument: texts with headings, lists and tables; sheets as records; slides as pages.

Source: OASIS, Open Document Format 1.3, part 3
"""

from dataclasses import dataclass, field

from retrieval.errors import DocumentRejected
from retrieval.parsers import grid, ooxml, xml
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.grid import Area, Budget, Cell, Sheet
from retrieval.parsers.paging import Pages
from retrieval.parsers.parsed import Parsed, normalise, unmarked

_DROPPED = frozenset(("tracked-changes", "annotation", "forms", "index-body", "sequence-decls", "soft-page-break"))
_SPACES = 1000  # most that one element may stand for
_COLUMNS, _ROWS = 16_384, 1_048_576
_REPEATED = 1000  # most rows with content that one row may stand for
_NEAR = 64  # columns of a table
_DEEPEST_HEADING, _DEEPEST_LIST = 6, 8


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Keep what the body holds, hidden sheets and slides called so; no deleted text, comments and tables of contents.

    Raises: DocumentRejected: cut off, damaged, encrypted, too large unpacked, too many slides, or another kind of file.
    """
    archive = Archive(data, bounds)
    if "META-INF/manifest.xml" in archive:
        manifest = _Manifest()
        xml.read(archive.pieces("META-INF/manifest.xml"), manifest, bounds.depth, with_doctype=True)
        if manifest.is_encrypted:
            raise DocumentRejected("The file is encrypted: save a copy without a password.")
    if "content.xml" not in archive:
        raise DocumentRejected("The file is damaged: its part content.xml is missing. Send it again, or save it anew.")
    title = ooxml.title(archive, bounds, "meta.xml")
    body = _Body(Budget(bounds.characters))
    xml.read(archive.pieces("content.xml"), body, bounds.depth)
    if body.kind == "spreadsheet":
        return _sheets(body, bounds, title)
    if body.kind == "presentation":
        if len(body.slides) > bounds.pages:
            raise DocumentRejected(
                f"The file has {len(body.slides):,} slides; the limit is {bounds.pages:,}. Split it."
            )
        pages = Pages(bounds.characters)
        for number, slide in enumerate(body.slides, start=1):
            pages.add(number, slide.text(number))
        return pages.parsed(title)
    return Parsed(normalise("\n".join(body.lines)), structured=True, title=title)


def _sheets(body: "_Body", bounds: Bounds, title: str | None) -> Parsed:
    lines: list[str] = []
    left = bounds.characters
    for sheet, style in body.sheets:
        sheet.hidden = style in body.hidden_styles
        found = grid.lines(sheet, left)
        left -= sum(map(len, found))
        if len(found) > 2:
            lines += found
    return Parsed(normalise("\n".join(lines)), structured=True, records=True, title=title)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _attribute(attributes: dict[str, str], name: str, default: str = "") -> str:
    """By its local name: no two of one element here have the same."""
    return next((value for key, value in attributes.items() if _local(key) == name), default)


def _count(attributes: dict[str, str], name: str, most: int) -> int:
    text = _attribute(attributes, name)
    return max(1, min(int(text), most)) if text.isascii() and text.isdigit() and len(text) < 9 else 1


@dataclass(slots=True)
class _Manifest:
    is_encrypted: bool = False

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self.is_encrypted |= _local(name) in ("encryption-data", "encrypted-key")

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


@dataclass(slots=True)
class _Slide:
    is_hidden: bool = False
    title: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self, number: int) -> str:
        if not (self.title or self.body or self.notes):
            return ""
        heading = " ".join(" ".join(self.title).split()) or f"Slide {number}"
        notes = ["", "## Notes", "", *self.notes] if self.notes else []
        return "\n".join([f"# {heading}{' (hidden slide)' if self.is_hidden else ''}", "", *self.body, *notes])


@dataclass(slots=True)
class _Table:
    """A table of a text or slide, or a sheet, of which a row is being read."""

    sheet: Sheet
    style: str
    row: int = -1
    column: int = 0
    repeated: int = 1
    cells: dict[int, Cell] = field(default_factory=dict)


@dataclass(slots=True)
class _Cell:
    column: int
    repeated: int
    kind: str
    value: str
    lines: list[str] = field(default_factory=list)
    is_covered: bool = False


class _Body:
    """Reads `content.xml`."""

    def __init__(self, budget: Budget) -> None:
        self.kind = ""
        self.lines: list[str] = []
        self.slides: list[_Slide] = []
        self.sheets: list[tuple[Sheet, str]] = []  # each with the name of its style
        self.hidden_styles: set[str] = set()
        self._budget = budget
        self._dropping = 0
        self._style = ""
        self._paragraphs: list[list[str]] = []
        self._levels: list[int] = []  # of headings, for each paragraph; 0 for none
        self._tables: list[_Table] = []
        self._cells: list[_Cell] = []
        self._lists: list[bool] = []  # whether the item that is open was marked already
        self._in_title = self._in_notes = False
        self._notes: list[list[str]] = []  # of footnotes that are open: lines
        self._after = False  # whether the last line was an item of a list

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = _local(name)
        if self._dropping or local in _DROPPED:
            self._dropping += 1
            return
        match local:
            case "text" | "spreadsheet" | "presentation" if " " in name and ":office:" in name and not self.kind:
                self.kind = local
            case "style":
                self._style = _attribute(attributes, "name")
            case "table-properties" if _attribute(attributes, "display") == "false":
                self.hidden_styles.add(self._style)
            case "drawing-page-properties" if _attribute(attributes, "visibility") == "hidden":
                self.hidden_styles.add(self._style)
            case "page":
                self.slides.append(_Slide(_attribute(attributes, "style-name") in self.hidden_styles))
            case "frame":
                self._in_title = _attribute(attributes, "class") == "title"
            case "notes":
                self._in_notes = True
            case "table" | "table-row" | "table-cell" | "covered-table-cell":
                self._start_table(local, attributes)
            case "list":
                self._lists.append(True)
            case "list-item" | "list-header" if self._lists:
                self._lists[-1] = False
            case _:
                self._start_text(local, attributes)

    def _start_table(self, local: str, attributes: dict[str, str]) -> None:
        if local == "table":
            self._tables.append(_Table(Sheet(_attribute(attributes, "name")), _attribute(attributes, "style-name")))
        elif self._tables and local == "table-row":
            table = self._tables[-1]
            table.row, table.column, table.cells = table.row + 1, 0, {}
            table.repeated = _count(attributes, "number-rows-repeated", _ROWS)
        elif self._tables:
            table = self._tables[-1]
            kind = _attribute(attributes, "value-type")
            value = _attribute(attributes, f"{kind}-value") if kind in ("date", "time", "boolean") else ""
            repeated = _count(attributes, "number-columns-repeated", _COLUMNS)
            covered = local == "covered-table-cell"
            down, across = (_count(attributes, f"number-{way}-spanned", _ROWS) for way in ("rows", "columns"))
            if down > 1 or across > 1:
                self._budget.spend(1)
                area = Area(table.row, table.column, table.row + down - 1, table.column + across - 1)
                table.sheet.merged.append(area)
            self._cells.append(_Cell(table.column, repeated, kind, value, is_covered=covered))
            table.column += repeated

    def _start_text(self, local: str, attributes: dict[str, str]) -> None:
        match local:
            case "p" | "h":
                self._paragraphs.append([])
                self._levels.append(_count(attributes, "outline-level", _DEEPEST_HEADING) if local == "h" else 0)
            case "s":
                self._write(" " * _count(attributes, "c", _SPACES))
            case "tab":
                self._write("\t")
            case "line-break":
                self._write("\n")
            case "note":
                self._notes.append([])

    def end(self, name: str) -> None:
        if self._dropping:
            self._dropping -= 1
            return
        match _local(name):
            case "p" | "h" if self._paragraphs:
                self._end_paragraph("".join(self._paragraphs.pop()).strip(), self._levels.pop())
            case "table-cell" | "covered-table-cell" if self._cells and self._tables:
                self._end_cell(self._cells.pop(), self._tables[-1])
            case "table-row" if self._tables:
                self._end_row(self._tables[-1])
            case "table" if self._tables:
                self._end_table(self._tables.pop())
            case "list" if self._lists:
                self._lists.pop()
            case "notes":
                self._in_notes = False
            case "frame":
                self._in_title = False
            case "note" if self._notes:
                self._write(f" ({' '.join(self._notes.pop())})")

    def text(self, text: str) -> None:
        if not self._dropping:
            self._write(text)

    def _write(self, text: str) -> None:
        if self._paragraphs:
            self._budget.spend(len(text))
            self._paragraphs[-1].append(text)

    def _end_paragraph(self, text: str, level: int) -> None:
        if not text:
            return
        if self._notes:
            self._notes[-1].append(text)
        elif self._cells:
            self._cells[-1].lines.append(text)
        elif level and self.kind == "text":
            self._emit(["#" * level + " " + " ".join(text.split())], is_item=False)
        else:
            mark = ""
            if self._lists:
                depth = min(len(self._lists) - 1, _DEEPEST_LIST)
                mark = "  " * depth + ("  " if self._lists[-1] else "- ")
                self._lists[-1] = True
            self._emit([unmarked(mark + line) for line in text.split("\n")], is_item=bool(mark))

    def _end_cell(self, cell: _Cell, table: _Table) -> None:
        shown = " ".join(cell.lines)
        if cell.is_covered or not (shown or cell.value):
            return
        if cell.kind == "date":
            shown = cell.value.replace("T00:00:00", "").replace("T", " ")
        found = Cell(shown or cell.value, cell.kind in ("string", ""))
        for column in range(cell.column, min(cell.column + cell.repeated, _COLUMNS)):
            self._budget.spend(len(found.value) + 1)
            table.cells[column] = found

    def _end_row(self, table: _Table) -> None:
        if table.cells:
            for number in range(table.row, table.row + min(table.repeated, _REPEATED)):
                self._budget.spend(sum(len(cell.value) + 1 for cell in table.cells.values()))
                table.sheet.rows[number] = dict(table.cells)
        table.row += table.repeated - 1

    def _end_table(self, table: _Table) -> None:
        if self.kind == "spreadsheet" and not self._tables:
            self.sheets.append((table.sheet, table.style))
            return
        rows = (" | ".join(_cells(row)) for _, row in sorted(table.sheet.rows.items()))
        lines = [unmarked(" ".join(row.split())) for row in rows]
        if self._cells:
            self._cells[-1].lines += lines
        elif lines:
            self._emit(["", *lines, ""], is_item=False)

    def _emit(self, lines: list[str], is_item: bool) -> None:
        into = self._into()
        if not (is_item and self._after):
            into.append("")
        self._after = is_item
        into += lines

    def _into(self) -> list[str]:
        if self.kind != "presentation" or not self.slides:
            return self.lines
        slide = self.slides[-1]
        return slide.notes if self._in_notes else slide.title if self._in_title else slide.body


def _cells(row: dict[int, Cell]) -> list[str]:
    """All cells of a row up to its last one, empty ones too; far to the right only what holds something."""
    near = [row[column].value if column in row else "" for column in range(min(max(row) + 1, _NEAR))]
    return near + [row[column].value for column in sorted(row) if column >= _NEAR]
