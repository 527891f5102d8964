"""PDF: columns in reading order, whole words, exact pages."""

import pytest

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed
from tests.unit.retrieval.files import pdf


def read(data: bytes, bounds: Bounds | None = None) -> Parsed:
    return parse(data, media.PDF, bounds or Bounds())


def test_columns_drawn_line_by_line_are_read_one_after_the_other() -> None:
    page = [(50, 780, "A title that runs across both of the columns of this page and over the gutter of it")]
    for number in range(20):
        page.append((50, 740 - 14 * number, f"left line {number} fills nearly all of its column"))
        page.append((260, 740 - 14 * number, f"right line {number} fills nearly all of its own"))
    words = " ".join(read(pdf([page])).text.split())
    assert words.startswith("A title")
    assert words.index("left line 19") < words.index("right line 0")
    assert "left line 0 fills nearly all of its column left line 1" in words


def test_a_table_of_two_columns_is_read_row_by_row() -> None:
    page = [(x, 740 - 14 * row, text) for row in range(20) for x, text in ((50, f"Item {row}"), (300, f"{row} EUR"))]
    lines = read(pdf([page])).text.split("\n")
    assert lines[3] == "Item 3 3 EUR"


def test_words_broken_at_a_line_end_are_whole_again() -> None:
    page = [(50, 700, "The committee demanded a recon-"), (50, 688, "sideration of the old rules.")]
    assert read(pdf([page])).text == "The committee demanded a reconsideration of the old rules."


def test_each_page_is_its_span() -> None:
    parsed = read(pdf([[(50, 700, "one")], [], [(50, 700, "three")]]))
    assert [(page, parsed.text[start:end]) for page, start, end in parsed.pages] == [(1, "one"), (2, ""), (3, "three")]


def test_pages_are_limited() -> None:
    with pytest.raises(DocumentRejected, match="3 pages; the limit is 2"):
        read(pdf([[(50, 700, "x")]] * 3), Bounds(pages=2))


def test_a_scan_is_told_to_be_read_by_ocr_first() -> None:
    with pytest.raises(DocumentRejected, match="OCR"):
        read(pdf([[]]))
