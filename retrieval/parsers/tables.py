"""CSV and TSV: each record a paragraph of `Column: value` lines, so that a passage says what its numbers are."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.grid import are_years
from retrieval.parsers.parsed import Parsed, normalise
from retrieval.parsers.text import decode

_DELIMITERS = ",;\t|"
_SAID = re.compile(r"\ufeff?sep=(?P<delimiter>[,;\t|])[ \t]*\r?\n", re.IGNORECASE)
_SAMPLED = 65_536  # characters from which the delimiter is told
_SAMPLED_ROWS = 50
_DECIMAL = "+-.,%€$£ "


def parse_csv(data: bytes, bounds: Bounds) -> Parsed:
    """Find the delimiter among comma, semicolon, tab and bar, unless the first line says it.

    Raises: DocumentRejected: no text, a cell that never ends, or too long.
    """
    text = decode(data)
    if said := _SAID.match(text):  # a line that Excel takes for no row
        return _parsed(text[said.end() :], said["delimiter"], bounds)
    return _parsed(text, _delimiter(text), bounds)


def parse_tsv(data: bytes, bounds: Bounds) -> Parsed:
    """As `parse_csv`, with a tab between cells."""
    return _parsed(decode(data), "\t", bounds)


def _parsed(text: str, delimiter: str, bounds: Bounds) -> Parsed:
    rows = _rows(text, delimiter, bounds)
    header = [" ".join(cell.split()) for cell in next(rows, [])]
    first = next(rows, [])
    if _is_header(header, first):
        names = [name or f"Column {number}" for number, name in enumerate(header, start=1)]
    else:
        rows = _rows(text, delimiter, bounds)
        names = []
    records: list[str] = []
    left = bounds.characters
    for row in chain([first], rows) if names else rows:
        record = _record(names, row)
        left -= len(record) + 2
        if left < 0:
            raise DocumentRejected(
                f"The table's text has more than {bounds.characters:,} characters, the limit. Split the file by rows."
            )
        if record:
            records.append(record)
    # A table of nothing but a header still says what its columns are.
    return Parsed(normalise("\n\n".join(records or [" | ".join(names)])), records=True)


def _rows(text: str, delimiter: str, bounds: Bounds) -> Iterator[Sequence[str]]:
    csv.field_size_limit(bounds.characters)
    # NUL characters go here, not later: some versions of the reader stop at them.
    lines = io.StringIO(text.replace("\x00", ""), newline="")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        yield from (row for row in reader if any(cell.strip() for cell in row))
    except csv.Error as error:
        raise DocumentRejected(
            f"The table breaks in line {reader.line_num} ({error}): look for a quotation mark that is not closed."
        ) from error


def _record(names: Sequence[str], row: Sequence[str]) -> str:
    """One line for each cell that isn't empty; line breaks inside a cell become spaces."""
    lines = []
    for number, cell in enumerate(row):
        value = " ".join(cell.split())
        if value:
            lines.append(f"{names[number]}: {value}" if number < len(names) else f"Column {number + 1}: {value}")
    return "\n".join(lines)


def _delimiter(text: str) -> str:
    """The one that cuts the first rows into the most columns, as many in each row; commas where none does."""
    sample = text[:_SAMPLED]
    if len(text) > _SAMPLED:
        sample = sample[: sample.rfind("\n") + 1] or sample
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        widths = []
        reader = csv.reader(io.StringIO(sample.replace("\x00", ""), newline=""), delimiter=delimiter)
        try:
            for row in reader:
                if row:
                    widths.append(len(row))
                if len(widths) == _SAMPLED_ROWS:
                    break
        except csv.Error:
            continue
        if not widths or max(widths) < 2:
            continue
        usual = max(set(widths), key=widths.count)
        score = widths.count(usual) / len(widths) * (1 + min(usual, 100) / 1000) if usual > 1 else 0.0
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _is_header(row: Sequence[str], below: Sequence[str]) -> bool:
    """Names of columns are words: none is a number that is no year, and at least one isn't empty."""
    numbers = [place for place, cell in enumerate(row) if _is_number(cell)]
    if not numbers:
        return any(row)
    under = [" ".join(below[place].split()) for place in numbers if place < len(below)]
    return any(cell and not _is_number(cell) for cell in row) and are_years([row[place] for place in numbers], under)


def _is_number(cell: str) -> bool:
    return cell.strip(_DECIMAL).replace(".", "").replace(",", "").isdigit()
