"""DOCX: structure survives, what is no content does not, and what is broken is said."""

import pytest

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from tests.unit.retrieval.files import NUMBERING, STYLES, docx, paragraph, part, row


def text_of(body: str, **parts: str) -> str:
    return parse(docx(body, styles=STYLES, numbering=NUMBERING, **parts), media.DOCX, Bounds()).text


def test_headings_are_markdown_whatever_their_style_is_called() -> None:
    body = paragraph("One", '<w:pStyle w:val="Heading1"/>') + paragraph("Two", '<w:pStyle w:val="Own"/>')
    assert text_of(body + paragraph("Text")) == "# One\n\n## Two\n\nText"


def test_lists_keep_their_marks_and_numbers() -> None:
    def item(text: str, number: int, level: int = 0) -> str:
        return paragraph(text, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')

    body = item("open", 1) + item("close", 1) + item("tea", 2) + item("out of it", 0)
    assert text_of(body) == "1. open\n2. close\n- tea\n\nout of it"


def test_a_row_is_a_line_and_merged_cells_are_said_once() -> None:
    body = (
        "<w:tbl>"
        + row(paragraph("Name"), paragraph("Weight") + paragraph("in g"))
        + row("<w:tcPr><w:vMerge w:val='restart'/></w:tcPr>" + paragraph("Teal"), paragraph("300"))
        + row("<w:tcPr><w:vMerge/></w:tcPr>" + paragraph("Teal"), paragraph("310"))
        + row("<w:tcPr><w:gridSpan w:val='2'/></w:tcPr>" + paragraph("Both"), paragraph("last"))
        + "</w:tbl>"
    )
    assert text_of(body) == "Name | Weight in g\nTeal | 300\n| 310\nBoth | last"


def test_a_table_that_frames_text_keeps_its_headings() -> None:
    heading = paragraph("Offer", '<w:pStyle w:val="Heading1"/>')
    body = "<w:tbl>" + row(heading + paragraph("Cheap."), paragraph("Aside.")) + "</w:tbl>"
    assert text_of(body) == "# Offer\n\nCheap.\nAside."


def test_headers_deleted_text_field_codes_and_hidden_text_are_left_out() -> None:
    body = (
        paragraph("Contents", '<w:pStyle w:val="TOC1"/>')
        + "<w:p><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>inserted</w:t></w:r></w:ins><w:r><w:instrText>PAGE</w:instrText></w:r>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
        "<w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom></w:p>"
        "<w:sdt><w:sdtContent>" + paragraph("in a form") + "</w:sdtContent></w:sdt>"
    )
    assert text_of(body, header1=part("hdr", paragraph("Page header"))) == "inserted\n\nin a form"


def test_footnotes_stand_at_the_end() -> None:
    body = '<w:p><w:r><w:t>Claim</w:t><w:footnoteReference w:id="2"/></w:r></w:p>'
    notes = part("footnotes", f'<w:footnote w:id="2">{paragraph("Proof")}</w:footnote>')
    assert text_of(body, footnotes=notes) == "Claim[^2]\n\n[^2]: Proof"


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_said_to_be(kept: float) -> None:
    whole = docx("".join(paragraph(f"Paragraph {number}") for number in range(500)))
    with pytest.raises(DocumentRejected, match="cut off"):
        parse(whole[: int(len(whole) * kept)], media.DOCX, Bounds())


def test_broken_xml_is_said_with_its_line() -> None:
    with pytest.raises(DocumentRejected, match="line 1"):
        parse(docx("<w:p><w:r>"), media.DOCX, Bounds())
