"""CSV, TSV and JSON: each record says what its values are."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds

WORD = st.text(alphabet="abcxyzäß;,|'\" ", min_size=1, max_size=12).filter(lambda text: text.strip() != "")


def text_of(data: str, media_type: str, bounds: Bounds | None = None) -> str:
    parsed = parse(data.encode(), media_type, bounds or Bounds(), "x.csv" if "csv" in media_type else "x.json")
    assert parsed.records
    return parsed.text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_and_quoted_ones_stay_in_their_cell(delimiter: str) -> None:
    rows = [["Name", "Firm"], ["Ann", f"Miller{delimiter} Sons"], ["Bob", "Two\nlines"], ["", "Alone"]]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    firm = " ".join(f"Miller{delimiter} Sons".split())
    expected = f"Name: Ann\nFirm: {firm}\n\nName: Bob\nFirm: Two lines\n\nFirm: Alone"
    assert text_of(buffer.getvalue(), media.CSV) == expected


@pytest.mark.parametrize("said", ["sep=;\r\n", "\ufeffSEP=;\n", ""])
def test_a_first_line_that_says_the_delimiter_is_no_row(said: str) -> None:
    data = f"{said}Name;Fee\nNorth;1,50\n".encode()
    assert parse(data, media.CSV, Bounds()).text == "Name: North\nFee: 1,50"


def test_a_table_without_a_header_numbers_its_columns() -> None:
    assert text_of("1,2\n3,4", media.CSV) == "Column 1: 1\nColumn 2: 2\n\nColumn 1: 3\nColumn 2: 4"


@given(st.lists(st.lists(WORD, min_size=2, max_size=2), min_size=1, max_size=8))
def test_no_cell_is_lost(rows: list[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t").writerows([["first", "second"], *rows])
    text = text_of(buffer.getvalue(), media.TSV)
    expected = [
        f"{name}: {' '.join(cell.split())}"
        for cells in rows
        for name, cell in zip(["first", "second"], cells, strict=True)
    ]
    assert [line for line in text.split("\n") if line] == expected


def test_json_records_are_paths_and_values() -> None:
    value = [
        {"name": "Ann", "address": {"city": "Bonn"}, "tags": ["a", "b"], "ok": True, "left": None},
        {"name": "Bob"},
    ]
    assert text_of(json.dumps(value), media.JSON) == (
        "name: Ann\naddress.city: Bonn\ntags: a, b\nok: true\nleft: null\n\nname: Bob"
    )


def test_lists_of_objects_inside_say_which_one() -> None:
    assert text_of('{"items": [{"id": 1}, {"id": 2}]}', media.JSON) == "items[0].id: 1\n\nitems[1].id: 2"


def test_json_lines_are_records() -> None:
    assert text_of('{"a": 1}\n{"a": 2}\n', media.JSON_LINES) == "a: 1\n\na: 2"


def test_numbers_stay_as_they_are_written() -> None:
    digits = "9" * 10_000
    assert text_of(f'{{"a": {digits}, "b": 1e999, "c": 1.10}}', media.JSON) == f"a: {digits}\nb: 1e999\nc: 1.10"


def test_broken_json_is_said_with_its_place_and_only_where_json_was_promised() -> None:
    with pytest.raises(DocumentRejected, match="line 2, column"):
        text_of('{"a": 1,\n "b"}', media.JSON)
    note = b'{"note": this is no JSON}'
    assert parse(note, media.detect("note.txt", None, note), Bounds(), "note.txt").text == note.decode()


@pytest.mark.parametrize("text", ["[" * 10_000 + "]" * 10_000, '{"a":' * 600 + "1" + "}" * 600])
def test_deep_json_is_refused(text: str) -> None:
    with pytest.raises(DocumentRejected, match="levels deep"):
        text_of(text, media.JSON)


def test_a_long_table_is_refused_before_it_is_whole() -> None:
    with pytest.raises(DocumentRejected, match="by rows"):
        text_of("a,b\n" + "x,y\n" * 1000, media.CSV, Bounds(characters=1000))
