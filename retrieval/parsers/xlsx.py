"""XLSX: sheets as records with the names of their columns; formulas by the values that were kept of them.

Read as a stream, so that only cells which hold something take memory, and no part unpacks beyond the limits.
Source: ECMA-376, part 1 (SpreadsheetML)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from retrieval.errors import DocumentRejected
from retrieval.parsers import grid, ooxml, xml
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.grid import Area, Budget, Cell, Sheet
from retrieval.parsers.parsed import Parsed, normalise

_REFERENCE = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]{1,7})")
# Formats that every program knows by number: dates and times; 9 and 10 are percentages.
_DATES = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
_PERCENTAGES = frozenset((9, 10))
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h{1,2}\]|m{1,2}\]|s{1,2}\])[^\]]*\]', re.IGNORECASE)
_DATE_SIGNS = re.compile(r"[dmyhs]", re.IGNORECASE)
_DAY_SIGNS = re.compile(r"[dy]", re.IGNORECASE)
_ELAPSED = re.compile(r"\[(?:h{1,2}|m{1,2}|s{1,2})\]", re.IGNORECASE)
_PADDED = re.compile(r"0{2,}")  # of postcodes, and numbers of parts
_ELAPSED_KNOWN = 46  # `[h]:mm:ss`
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")  # what XML can't hold, such as a carriage return, and `_x005F_` itself
_SHOWN_HIDDEN = frozenset(("hidden", "veryHidden"))
_EPOCH, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)
_LEAP_YEAR_THAT_WAS_NONE = 60  # the serial of 29 February 1900
_MOST_DAYS = 2_958_466  # to the end of the year 9999
_DIGITS = 15  # that a workbook's numbers are good for
_COLUMNS, _ROWS = 16_384, 1_048_576


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Keep cells of all sheets, also of hidden ones, which are called so; charts, drawings and comments are left out.

    Raises: DocumentRejected: cut off, damaged, encrypted, too large unpacked, or another kind of file.
    """
    archive = Archive(data, bounds)
    main = ooxml.main_part(archive, "xl/workbook.xml", bounds)
    relations = ooxml.relations(archive, main, bounds)
    book = _Book()
    xml.read(archive.pieces(main), book, bounds.depth)
    budget = Budget(bounds.characters)
    strings, formats = _Strings(budget), _Formats()
    for relation in relations.values():
        if relation.kind == "sharedStrings":
            xml.read(archive.pieces(relation.target), strings, bounds.depth)
        elif relation.kind == "styles":
            xml.read(archive.pieces(relation.target), formats, bounds.depth)
    lines: list[str] = []
    left = bounds.characters
    for name, hidden, key in book.sheets:
        sheet = relations.get(key)
        if sheet is None or sheet.kind != "worksheet":  # a chart on a sheet of its own
            continue
        reader = _Cells(Sheet(name, hidden), strings.found, formats, _EPOCH_1904 if book.from_1904 else _EPOCH, budget)
        xml.read(archive.pieces(sheet.target), reader, bounds.depth)
        for each in ooxml.relations(archive, sheet.target, bounds).values():
            if each.kind == "table":
                table = _Table()
                xml.read(archive.pieces(each.target), table, bounds.depth)
                reader.sheet.tables += table.areas
        found = grid.lines(reader.sheet, left)
        left -= sum(map(len, found))
        if len(found) > 2:
            lines += found
    return Parsed(normalise("\n".join(lines)), structured=True, records=True, title=ooxml.title(archive, bounds))


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _place(reference: str) -> tuple[int, int] | None:
    """Row and column, counted from 0, of `B7`; None if it is no cell of a sheet."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    column = 0
    for letter in match.group(1).upper():
        column = column * 26 + ord(letter) - 64
    row = int(match.group(2))
    return (row - 1, column - 1) if 0 < row <= _ROWS and column <= _COLUMNS else None


def _area(reference: str) -> Area | None:
    first, _, last = reference.partition(":")
    start, end = _place(first), _place(last or first)
    return Area(*start, *end) if start and end and start <= end else None


class _Book:
    """What `workbook.xml` says: (name, hidden, id of the relation) of each sheet, and what days are counted from."""

    def __init__(self) -> None:
        self.sheets: list[tuple[str, bool, str]] = []
        self.from_1904 = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if _local(name) == "sheet":
            key = next((value for each, value in attributes.items() if each.endswith("relationships id")), "")
            state = attributes.get("state", "visible")
            self.sheets.append((attributes.get("name", ""), state in _SHOWN_HIDDEN, key))
        elif _local(name) == "workbookPr":
            self.from_1904 = attributes.get("date1904", "0") in ("1", "true")

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


class _Strings:
    """Texts that cells share; readings beside Asian characters are left out."""

    def __init__(self, budget: Budget) -> None:
        self.found: list[str] = []
        self._budget = budget
        self._parts: list[str] = []
        self._in_text = self._in_reading = False

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        match _local(name):
            case "si":
                self._parts = []
            case "rPh":
                self._in_reading = True
            case "t":
                self._in_text = not self._in_reading

    def end(self, name: str) -> None:
        match _local(name):
            case "si":
                text = _unescaped("".join(self._parts))
                self._budget.spend(len(text) + 1)
                self.found.append(text)
            case "rPh":
                self._in_reading = False
            case "t":
                self._in_text = False

    def text(self, text: str) -> None:
        if self._in_text:
            self._parts.append(text)


class _Formats:
    """How numbers are shown, by the number of a cell's style."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}
        self._styles: list[str] = []
        self._in_cells = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match _local(name):
            case "numFmt":
                self._codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
            case "cellXfs":
                self._in_cells = True
            case "xf" if self._in_cells:
                self._styles.append(attributes.get("numFmtId", "0"))

    def end(self, name: str) -> None:
        if _local(name) == "cellXfs":
            self._in_cells = False

    def text(self, text: str) -> None: ...

    def show(self, raw: str, style: str, epoch: datetime) -> str:
        """A number as a person reads it: dates and times as ISO 8601 has them, shares in per cent."""
        number = int(style) if style.isascii() and style.isdigit() and len(style) < 9 else 0
        key = self._styles[number] if number < len(self._styles) else "0"
        code = _LITERAL.sub("", self._codes.get(key, "").partition(";")[0])
        known = int(key) if key.isascii() and key.isdigit() and len(key) < 9 else 0
        try:
            value = float(raw)
        except ValueError:
            return raw
        if (known == _ELAPSED_KNOWN and key not in self._codes) or _ELAPSED.search(code):
            return _elapsed(value) or _digits(raw, value)
        if (known in _DATES and key not in self._codes) or (code.lower() != "general" and _DATE_SIGNS.search(code)):
            return _moment(value, bool(_DAY_SIGNS.search(code)) or "m" in code.lower(), epoch) or _digits(raw, value)
        if _PADDED.fullmatch(code) and value >= 0 and raw.isdigit():
            return raw.zfill(len(code))
        if known in _PERCENTAGES or code.rstrip().endswith("%"):
            return f"{_digits('', value * 100)}%"
        return _digits(raw, value)


def _moment(serial: float, has_day: bool, epoch: datetime) -> str:
    """A date, a time or both; empty for what is none."""
    if not 0 <= serial < _MOST_DAYS:
        return ""
    days, seconds = divmod(round(serial * 86_400), 86_400)
    if epoch == _EPOCH and 0 < days < _LEAP_YEAR_THAT_WAS_NONE:
        days += 1
    moment = epoch + timedelta(days=days, seconds=seconds)
    if days == 0 and not (has_day and seconds == 0):
        return moment.time().isoformat()
    return moment.date().isoformat() if seconds == 0 else moment.isoformat(sep=" ")


def _elapsed(days: float) -> str:
    """Hours, minutes and seconds, however many hours; empty for what is none."""
    if not abs(days) < _MOST_DAYS:
        return ""
    minutes, seconds = divmod(round(abs(days) * 86_400), 60)
    return f"{'-' if days < 0 else ''}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _unescaped(text: str) -> str:
    if "_x" not in text:
        return text
    units = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)  # of UTF-16: some letters are two
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _digits(raw: str, value: float) -> str:
    """A number without the noise that binary fractions leave behind its fifteenth digit."""
    return raw if raw.lstrip("-").isdigit() else f"{value:.{_DIGITS}g}"


@dataclass(slots=True)
class _Table:
    """Where a part of the kind `table` lies, if it has a row of names."""

    areas: list[Area] = field(default_factory=list)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        area = _area(attributes.get("ref", "")) if _local(name) == "table" else None
        if area is not None and attributes.get("headerRowCount", "1") == "1":
            self.areas.append(area)

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


class _Cells:
    """Reads one sheet."""

    def __init__(
        self, sheet: Sheet, strings: Sequence[str], formats: _Formats, epoch: datetime, budget: Budget
    ) -> None:
        self.sheet = sheet
        self._strings = strings
        self._formats = formats
        self._epoch = epoch
        self._budget = budget
        self._row = self._column = -1
        self._kind = self._style = ""
        self._parts: dict[str, list[str]] = {}
        self._into: list[str] | None = None
        self._in_reading = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match _local(name):
            case "row":
                number = attributes.get("r", "")
                known = number.isascii() and number.isdigit() and 0 < len(number) < 8
                self._row = int(number) - 1 if known else self._row + 1
                self._column = -1
            case "c":
                place = _place(attributes.get("r", ""))
                self._row, self._column = place or (self._row, self._column + 1)
                self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "0")
                self._parts = {}
            case "rPh":
                self._in_reading = True
            case "v" | "t" | "f" as part if not self._in_reading:
                self._into = self._parts.setdefault(part, [])
            case "mergeCell":
                area = _area(attributes.get("ref", ""))
                if area is not None:
                    self._budget.spend(1)
                    self.sheet.merged.append(area)

    def end(self, name: str) -> None:
        self._into = None
        match _local(name):
            case "rPh":
                self._in_reading = False
            case "c":
                cell = self._cell()
                if cell.value.strip() and self._row < _ROWS and self._column < _COLUMNS:
                    self._budget.spend(len(cell.value) + 1)
                    self.sheet.rows.setdefault(self._row, {})[self._column] = cell

    def text(self, text: str) -> None:
        if self._into is not None:
            self._into.append(text)

    def _cell(self) -> Cell:
        value, inline, formula = ("".join(self._parts.get(part, ())) for part in "vtf")
        match self._kind:
            case "s":
                return Cell(self._shared(value), True)
            case "inlineStr":
                return Cell(_unescaped(inline or value), True)
            case "str" if value:
                return Cell(_unescaped(value), True)
            case "b" if value:
                return Cell("TRUE" if value == "1" else "FALSE", False)
            case "d":
                return Cell(value.replace("T00:00:00", "").replace("T", " "), False)
            case "e":
                return Cell(value, False)
        if not value and formula:  # no program has calculated it yet
            return Cell(f"={formula}", False)
        return Cell(self._formats.show(value, self._style, self._epoch) if value else inline, not value)

    def _shared(self, index: str) -> str:
        number = int(index) if index.isascii() and index.isdigit() and len(index) < 9 else -1
        if not 0 <= number < len(self._strings):
            raise DocumentRejected("The file is damaged: a cell names a text that is not there. Save it anew.")
        return self._strings[number]
