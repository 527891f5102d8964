"""Sheets of workbooks as text: each row a record of `Column: value` lines below the name of its sheet.

Where a sheet doesn't say what its tables are, blank rows part them, and a row of words above other rows names columns.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from retrieval.errors import DocumentRejected
from retrieval.parsers.parsed import unmarked


class Cell(NamedTuple):
    """What a cell shows; `is_word` is False for numbers, dates and the like."""

    value: str
    is_word: bool


class Area(NamedTuple):
    """Cells from the first row and column to the last ones, these included; counted from 0."""

    top: int
    left: int
    bottom: int
    right: int


Row = dict[int, Cell]
_Groups = Mapping[int, Sequence[Area]]  # by row: merged cells that reach over several columns of it
_YEARS = range(1900, 2101)
_MOST_YEARS_APART = 10


@dataclass(slots=True)
class Sheet:
    """One sheet, without its empty cells.

    Attributes:
        merged: areas that show the value of their first cell.
        tables: areas that the workbook itself calls tables, each with a first row of names.
    """

    name: str
    hidden: bool = False
    rows: dict[int, Row] = field(default_factory=dict)
    merged: list[Area] = field(default_factory=list)
    tables: list[Area] = field(default_factory=list)


class Budget:
    """Counts what sheets hold and give, so that no workbook takes more than its share.

    Args:
        characters: most of one document.
    """

    def __init__(self, characters: int) -> None:
        self._limit = self._left = characters

    def spend(self, characters: int) -> None:
        """Raises: DocumentRejected: more was spent than there was."""
        self._left -= characters
        if self._left < 0:
            raise DocumentRejected(
                f"The workbook's text has more than {self._limit:,} characters, the limit. Split it by sheets or rows."
            )


def lines(sheet: Sheet, characters: int) -> list[str]:
    """A sheet's name as heading, what stands above and between its tables, and its rows as records.

    Raises: DocumentRejected: this is longer than `characters`.
    """
    found = [f"# {' '.join(sheet.name.split())}{' (hidden sheet)' if sheet.hidden else ''}", ""]
    budget = Budget(characters)
    groups: dict[int, list[Area]] = {}
    for area in sheet.merged:
        if area.top == area.bottom and area.right > area.left:
            groups.setdefault(area.top, []).append(area)
    _fill_down(sheet, budget)
    for table in sheet.tables:
        for block in _records(groups, _cut_out(sheet, table), {}, is_table=True)[0]:
            budget.spend(sum(map(len, block)) + 2)
            found += [*block, ""]
    names: Mapping[int, str] = {}
    for rows in _blocks(sheet):
        blocks, names = _records(groups, rows, names)
        for block in blocks:
            budget.spend(sum(map(len, block)) + 2)
            found += [*block, ""]
    return found


def column_name(column: int) -> str:
    """`A` for 0, as workbooks count."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _fill_down(sheet: Sheet, budget: Budget) -> None:
    """Give each row that a merged cell reaches over its value: it is said of all of them."""
    numbers = sorted(sheet.rows)
    for area in sheet.merged:
        cell = sheet.rows.get(area.top, {}).get(area.left)
        if cell is None or area.bottom == area.top:
            continue
        for number in numbers[bisect_right(numbers, area.top) : bisect_right(numbers, area.bottom)]:
            budget.spend(len(cell.value) + 1)
            sheet.rows[number][area.left] = cell


def _cut_out(sheet: Sheet, area: Area) -> list[tuple[int, Row]]:
    """Take a table's cells out of its sheet."""
    numbers = sorted(sheet.rows)
    rows = []
    for number in numbers[bisect_left(numbers, area.top) : bisect_right(numbers, area.bottom)]:
        row = sheet.rows[number]
        taken = {column: row.pop(column) for column in list(row) if area.left <= column <= area.right}
        if taken:
            rows.append((number, taken))
    return rows


def _blocks(sheet: Sheet) -> Iterator[list[tuple[int, Row]]]:
    """Rows that stand together."""
    block: list[tuple[int, Row]] = []
    for number, row in sorted(sheet.rows.items()):
        if not row:
            continue
        if block and number > block[-1][0] + 1:
            yield block
            block = []
        block.append((number, row))
    if block:
        yield block


def _records(
    groups: _Groups, rows: Sequence[tuple[int, Row]], names: Mapping[int, str], is_table: bool = False
) -> tuple[list[list[str]], Mapping[int, str]]:
    """Paragraphs of a block of rows, and the names of columns in force at its end.

    Args:
        names: of the block before, which this one may go on with.
        is_table: the first row is known to be one of names.
    """
    found: list[list[str]] = []
    captions: list[str] = []
    position, seen_caption = 0, False
    while not is_table and position < len(rows) and _is_caption(rows[position][1], names):
        captions.append(unmarked(_line(next(iter(rows[position][1].values())).value)))
        position, seen_caption = position + 1, True
    if captions:
        found.append(captions)
    rest = rows[position:]
    if rest and (is_table or _is_header(rest, names, seen_caption)):
        taken, names = _names(groups, rest)
        rest = rest[taken:]
        if not rest:  # a table of nothing but its header still says what its columns are
            found.append([unmarked(" | ".join(names.values()))])
    for _, row in rest:
        if _is_caption(row, names):
            found.append([unmarked(_line(next(iter(row.values())).value))])
            continue
        record = []
        for column in sorted(row):
            value = _line(row[column].value)
            record.append(unmarked(f"{names.get(column) or f'Column {column_name(column)}'}: {value}"))
        found.append(record)
    return found, names


def _is_caption(row: Row, names: Mapping[int, str]) -> bool:
    """A single cell with words, at the left of the table if there is one."""
    if len(row) != 1:
        return False
    column, cell = next(iter(row.items()))
    return cell.is_word and (not names or column <= min(names))


def _is_header(rows: Sequence[tuple[int, Row]], names: Mapping[int, str], seen_caption: bool) -> bool:
    """Whether the first row names columns: words alone, and no more of the table that went on before a blank row."""
    first = rows[0][1]
    if len(first) < 2 or not (all(cell.is_word for cell in first.values()) or _names_years(rows)):
        return False
    if not names or seen_caption or first.keys() - names.keys():
        return True
    return any(column in first and not cell.is_word for _, row in rows[1:] for column, cell in row.items())


def _names_years(rows: Sequence[tuple[int, Row]]) -> bool:
    """Whether the first row is one of words and years, and another stands below it."""
    first, below = rows[0][1], rows[1][1] if len(rows) > 1 else {}
    years = [column for column in sorted(first) if not first[column].is_word]
    return len(years) < len(first) and are_years(
        [first[column].value for column in years], [below[column].value for column in years if column in below]
    )


def are_years(names: Sequence[str], below: Sequence[str]) -> bool:
    """Whether numbers above others name columns: they are years, each as far from the next, and those below are not."""
    years = [int(name) for name in names if len(name) == 4 and name.isascii() and name.isdigit()]
    if not 2 <= len(years) == len(names) or not all(year in _YEARS for year in years):
        return False
    steps = {later - earlier for earlier, later in pairwise(years)}
    if len(steps) > 1 or not 1 <= abs(steps.pop()) <= _MOST_YEARS_APART:
        return False
    return not all(value.isascii() and value.isdigit() and int(value[:9]) in _YEARS for value in below)


def _names(groups: _Groups, rows: Sequence[tuple[int, Row]]) -> tuple[int, dict[int, str]]:
    """How many rows name the columns, and the names: one that reaches over columns stands before those below it."""
    number, first = rows[0]
    names = {column: _line(cell.value) for column, cell in sorted(first.items())}
    above = groups.get(number, ())
    second = rows[1][1] if len(rows) > 2 else {}
    if not above or not second or not all(cell.is_word for cell in second.values()):
        return 1, names
    below = {column: _line(cell.value) for column, cell in sorted(second.items())}
    columns = list(below)
    for area in above:
        for column in columns[bisect_left(columns, area.left) : bisect_right(columns, area.right)]:
            if area.left in names:
                below[column] = f"{names[area.left]} {below[column]}"
    return 2, {column: below.get(column) or names[column] for column in sorted({*names, *below})}


def _line(value: str) -> str:
    return " ".join(value.split())
