"""Presentations, workbooks and OpenDocument files: order, tables with the names of their columns, and refusals."""

import time as clock
from datetime import date, datetime, time

import openpyxl
import pptx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.comments import Comment
from openpyxl.worksheet.table import Table
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from retrieval import media
from retrieval.chunking import Limits, chunk
from retrieval.errors import DocumentRejected
from retrieval.media import detect
from retrieval.parsers import parse
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise
from tests.unit.retrieval import samples
from tests.unit.retrieval.files import zipped

LIMIT = Bounds(characters=1_000_000)
_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_TO = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def read(data: bytes, name: str) -> Parsed:
    return parse(data, detect(name, None, data), LIMIT, name)


# ------------------------------------------------------------------------------------------------------ presentations


def test_slides_are_pages_below_their_titles_with_tables_and_notes() -> None:
    parsed = read(samples.slides(samples.PIERS, samples.PIERS), "a.pptx")
    assert [number for number, _, _ in parsed.pages] == [1, 2]
    first, second = (parsed.text[start:end] for _, start, end in parsed.pages)
    assert first.startswith("# Harbour 1\n\nPier | Fee | Keeper\nNorth | 14 | Ada\n")
    assert first.endswith("## Notes\n\nSay it slowly.")
    assert second.startswith("# Harbour 2\n")
    assert "Notes" not in second


def test_no_chunk_is_of_two_slides() -> None:
    parsed = read(samples.slides(samples.PIERS, samples.PIERS, samples.PIERS), "a.pptx")
    pieces = chunk(parsed, Limits(), "show")
    assert [(each.page, each.context) for each in pieces] == [
        (1, "show > Harbour 1"),
        (2, "show > Harbour 2"),
        (3, "show > Harbour 3"),
    ]


def test_shapes_are_read_by_rows_from_left_to_right_whatever_their_order_in_the_file() -> None:
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[6])
    for words, left, top in (("fourth", 5, 3), ("second", 5, 1.05), ("first", 1, 1), ("third", 1, 3)):
        slide.shapes.add_textbox(Inches(left), Inches(top), Inches(2), Inches(1)).text_frame.text = words
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Inches(1), Inches(5), Inches(1), Inches(1)).text_frame.text = "fifth"
    text = read(samples.saved(show.save), "a.pptx").text
    assert text.split() == ["#", "Slide", "1", "first", "second", "third", "fourth", "fifth"]


def test_a_chart_gives_its_figures_and_a_hidden_slide_is_called_so() -> None:
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[5])
    slide.shapes.title.text = "Sales"
    data = CategoryChartData()
    data.categories = ["May", "June"]
    data.add_series("Tea", (5, 7))
    data.add_series("Rum", (1.5, 2))
    place = (Inches(1), Inches(2), Inches(4), Inches(3))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *place, data)
    slide._element.set("show", "0")
    text = read(samples.saved(show.save), "a.pptx").text
    assert text.startswith("# Sales (hidden slide)\n")
    assert "Category | Tea | Rum\nMay | 5 | 1.5\nJune | 7 | 2" in text


def test_more_slides_than_pages_are_allowed_are_refused() -> None:
    data = samples.slides(samples.PIERS, samples.PIERS)
    with pytest.raises(DocumentRejected, match="2 slides; the limit is 1"):
        parse(data, media.PPTX, Bounds(pages=1))


# ---------------------------------------------------------------------------------------------------------- workbooks


def test_each_row_says_its_sheet_and_its_columns() -> None:
    rows = [("Pier", "Fee"), *((f"Pier {number}", number) for number in range(60))]
    parsed = read(samples.workbook(rows, samples.PIERS, names=["Fees", "Keepers"]), "harbour.xlsx")
    chunks = chunk(parsed, Limits(300, 100), "harbour")
    for number in range(60):
        holder = next((each for each in chunks if f"Pier: Pier {number}\nFee: {number}" in each.text), chunks[0])
        assert f"Pier: Pier {number}\nFee: {number}" in holder.text
        assert holder.context == "harbour > Fees"
        assert parsed.text[holder.start : holder.end] == holder.text
    last = next(each for each in chunks if "Pier: South\nFee: 22\nKeeper: Bo" in each.text)
    assert last.context == "harbour > Keepers"


def test_dates_shares_times_and_flags_are_shown_as_a_person_reads_them() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Name", "Day", "Moment", "Hour", "Share", "Sum", "Open"])
    sheet.append(["A", date(2026, 11, 3), datetime(2026, 11, 3, 7, 45), time(7, 45), 0.07, 0.1 + 0.2, True])
    sheet["E2"].number_format = "0%"
    text = read(samples.saved(book.save), "a.xlsx").text
    assert text.split("\n")[2:] == [
        "Name: A",
        "Day: 2026-11-03",
        "Moment: 2026-11-03 07:45:00",
        "Hour: 07:45:00",
        "Share: 7%",
        "Sum: 0.3",
        "Open: TRUE",
    ]


def _sheet(inner: str, **parts: str) -> bytes:
    """A workbook of one sheet that no library writes."""
    return zipped(
        {
            "xl/workbook.xml": [
                f'<workbook {_MAIN} xmlns:r="{_TO}"><sheets><sheet name="S" r:id="r1"/></sheets></workbook>'.encode()
            ],
            "xl/_rels/workbook.xml.rels": [
                '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
                f'<Relationship Id="r1" Type="{_TO}/worksheet" Target="s.xml"/></Relationships>'.encode()
            ],
            "xl/s.xml": [f"<worksheet {_MAIN}>{inner}</worksheet>".encode()],
            **{name: [text.encode()] for name, text in parts.items()},
        }
    )


def test_a_formula_is_its_kept_value_and_one_that_was_never_calculated_is_itself() -> None:
    cells = '<c r="A1"><f>SUM(B1:B9)</f><v>45</v></c><c r="B1"><f>A1*2</f></c><c r="C1" t="str"><f>X</f><v>tea</v></c>'
    text = read(_sheet(f'<sheetData><row r="1">{cells}</row></sheetData>'), "a.xlsx").text
    assert text == "# S\n\nColumn A: 45\nColumn B: =A1*2\nColumn C: tea"


def test_merged_cells_hidden_sheets_captions_and_two_rows_of_names() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Sales"
    for row in (
        ["Sales by region"],
        [],
        ["Region", "Spring", None, "Autumn", None],
        [None, "Tea", "Rum", "Tea", "Rum"],
        ["North", 1, 2, 3, 4],
        ["South", 5, 6, 7, 8],
        ["North-west", 5, 6, 7, 8],
    ):
        sheet.append(row)
    for area in ("A1:E1", "B3:C3", "D3:E3", "A5:A6"):
        sheet.merge_cells(area)
    sheet["B5"].comment = Comment("nobody reads this", "Ada")
    hidden = book.create_sheet("Costs")
    hidden.append(["# of piers", "Cost"])
    hidden.append([3, 9])
    hidden.sheet_state = "hidden"
    text = read(samples.saved(book.save), "a.xlsx").text
    assert "# Sales\n\nSales by region\n\nRegion: North\nSpring Tea: 1\nSpring Rum: 2\nAutumn Tea: 3\n" in text
    assert "Region: North\nSpring Tea: 5\n" in text  # of the cell that reaches down
    assert "# Costs (hidden sheet)\n\n # of piers: 3\nCost: 9" in text


def test_a_table_that_the_workbook_names_keeps_its_header_beside_another() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Pier", "Opens", None, "Keeper", "Town"])
    sheet.append(["North", "early", None, "Ada", "Hull"])
    sheet.append(["South", "late", None, "Bo", "Ayr"])
    for name, area in (("one", "A1:B3"), ("two", "D1:E3")):
        sheet.add_table(Table(displayName=name, ref=area))
    text = read(samples.saved(book.save), "a.xlsx").text
    assert "Pier: South\nOpens: late\n\nKeeper: Ada\nTown: Hull" in text


def test_a_blank_row_within_a_table_costs_it_no_names_and_a_new_table_has_its_own() -> None:
    rows = [("Pier", "Fee"), ("North", 14), (), ("South", 22), (), ("Keeper", "Age"), ("Ada", 40)]
    text = read(samples.workbook(rows), "a.xlsx").text
    assert "Pier: South\nFee: 22" in text
    assert "Keeper: Ada\nAge: 40" in text


def test_hours_that_were_added_up_are_hours_and_no_day_of_the_year_1900() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Keeper", "Hours"])
    for hours, form in ((40.0, "[h]:mm"), (61.5, "[h]:mm:ss"), (7.25, "[hh]:mm"), (-2.0, "[h]:mm"), (6.5, "h:mm")):
        sheet.append(["Ada", hours / 24])
        sheet.cell(sheet.max_row, 2).number_format = form
    text = read(samples.saved(book.save), "a.xlsx").text
    shown = [line.removeprefix("Hours: ") for line in text.split("\n") if line.startswith("Hours")]
    assert shown == ["40:00:00", "61:30:00", "07:15:00", "-02:00:00", "06:30:00"]


def test_numbers_keep_the_zeros_that_their_format_puts_before_them() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Town", "Postcode"])
    for number, form in ((1067, "00000"), (123456, "00000"), (7, "0"), (7, "#,##0"), (7.5, "000"), (-7, "000")):
        sheet.append(["Dresden", number])
        sheet.cell(sheet.max_row, 2).number_format = form
    text = read(samples.saved(book.save), "a.xlsx").text
    shown = [line.removeprefix("Postcode: ") for line in text.split("\n") if line.startswith("Postcode")]
    assert shown == ["01067", "123456", "7", "7", "7.5", "-7"]


def test_signs_that_xml_cannot_hold_are_read_as_the_workbook_means_them() -> None:
    cells = "".join(
        f'<c r="{place}1" t="inlineStr"><is><t>{text}</t></is></c>'
        for place, text in (
            ("A", "Ada_x000D_\nSmith"),
            ("B", "a_x005F_x0041_b"),
            ("C", "_xD83D__xDE00_"),
            ("D", "_xDC00_"),
        )
    )
    text = read(_sheet(f'<sheetData><row r="1">{cells}</row></sheetData>'), "a.xlsx").text
    for shown in ("Ada Smith", "a_x0041_b", "\U0001f600", "\ufffd"):
        assert shown in text
    assert "_x000D_" not in text


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([("Region", 2023, 2024), ("North", 12, 14)], "Region: North\n2023: 12\n2024: 14"),
        ([("Region", "Code", 2030, 2025, 2020), ("North", "N", 1, 2, 3)], "2030: 1\n2025: 2\n2020: 3"),
        ([("Ann", 2019, 2020), ("Bo", 2011, 2015)], "Column A: Ann"),  # of one who came and left
        ([("Bike", 1999), ("Car", 15000)], "Column A: Bike"),
        ([("Bike", 1999, 1950), ("Car", 1500, 8)], "Column A: Bike"),
        ([("Bike", 1999, 2000, 2002), ("Car", 1500, 8, 7)], "Column A: Bike"),
        ([(2023, 2024), (12, 14)], "Column A: 2023"),
    ],
)
def test_years_above_figures_are_names_of_columns(rows: list[tuple[object, ...]], shown: str) -> None:
    assert shown in read(samples.workbook(rows), "a.xlsx").text
    table = "\n".join(",".join(map(str, row)) for row in rows).encode()
    shown_in_csv = shown.replace("Column A", "Column 1")
    assert shown_in_csv in read(table, "a.csv").text


def test_many_small_tables_below_merged_cells_are_read_in_time_proportional_to_their_number() -> None:
    words = "<is><t>a</t></is></c>"
    rows = "".join(
        f'<row r="{n}"><c r="A{n}" t="inlineStr">{words}<c r="B{n}" t="inlineStr">{words}</row>'
        f'<row r="{n + 1}"><c r="A{n + 1}"><v>1</v></c><c r="B{n + 1}"><v>2</v></c></row>'
        for n in range(1, 60_000, 3)
    )
    merged = "".join(f'<mergeCell ref="D{n}:E{n}"/>' for n in range(1, 60_000, 3))
    data = _sheet(f"<sheetData>{rows}</sheetData><mergeCells>{merged}</mergeCells>")
    began_s = clock.monotonic()
    read(data, "a.xlsx")
    assert clock.monotonic() - began_s < 8  # each table looking through all merged cells takes far longer


NAMES = st.text("abcdeé漢# ", min_size=1, max_size=8).filter(lambda name: bool(name.strip()))


@given(
    st.lists(NAMES, min_size=2, max_size=5, unique_by=lambda name: " ".join(name.split())),
    st.lists(st.lists(st.integers(-(10**9), 10**9), min_size=5, max_size=5), min_size=1, max_size=8),
)
def test_every_cell_of_a_workbook_stands_beside_the_name_of_its_column(names: list[str], rows: list[list[int]]) -> None:
    parsed = read(samples.workbook([names, *(row[: len(names)] for row in rows)]), "a.xlsx")
    assert parsed.text == normalise(parsed.text)
    records = [record.split("\n") for record in parsed.text.split("\n\n")[1:]]
    assert len(records) == len(rows)
    for record, row in zip(records, rows, strict=True):
        shown = [" ".join(normalise(name).split()) for name in names]
        assert [line.strip() for line in record] == [f"{n}: {v}" for n, v in zip(shown, row, strict=False)]
    for piece in chunk(parsed, Limits(60, 60)):
        assert piece.text == parsed.text[piece.start : piece.end]
        assert piece.context in ("", "Harbour 1")


@pytest.mark.parametrize(
    "inner",
    [
        '<sheetData><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        '<row r="1"><c r="A1"><v>1</v></c></row></sheetData><mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells>',
        '<sheetData><row r="99999999"><c r="ZZZ1"><v>1</v></c><c><v>2</v></c>'
        '<c r="A1"><v>1e999</v></c></row></sheetData>',
    ],
)
def test_cells_far_apart_or_outside_of_any_sheet_take_no_memory(inner: str) -> None:
    assert len(read(_sheet(inner), "a.xlsx").text) < 200


def test_a_cell_whose_text_is_missing_is_damage_and_no_other_text() -> None:
    data = _sheet('<sheetData><row r="1"><c r="A1" t="s"><v>7</v></c></row></sheetData>')
    with pytest.raises(DocumentRejected, match="damaged: a cell names a text"):
        read(data, "a.xlsx")


# ------------------------------------------------------------------------------------------------------- OpenDocument


def test_a_table_of_very_many_columns_keeps_all_of_them() -> None:
    table = samples.opendocument_table([[f"c{number}" for number in range(80)]])
    text = read(samples.opendocument("text", table), "a.odt").text
    assert " | ".join(f"c{number}" for number in range(80)) in text


def test_an_opendocument_text_keeps_headings_lists_tables_and_notes() -> None:
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        '<text:h text:outline-level="2">Piers</text:h>'
        '<text:p>North<text:s text:c="2"/>pier<text:note><text:note-citation>1</text:note-citation><text:note-body>'
        "<text:p>In summer.</text:p></text:note-body></text:note>.<office:annotation><text:p>no</text:p>"
        "</office:annotation></text:p><text:list><text:list-item><text:p>one</text:p><text:list><text:list-item>"
        "<text:p>deep</text:p></text:list-item></text:list></text:list-item></text:list>"
        + samples.opendocument_table(samples.PIERS)
    )
    text = read(samples.opendocument("text", body), "a.odt").text
    assert text == (
        "## Piers\n\nNorth  pier1 (In summer.).\n\n- one\n  - deep\n\n"
        "Pier | Fee | Keeper\nNorth | 14 | Ada\nSouth | 22 | Bo\nWest | 31 | Cy"
    )


def test_opendocument_sheets_are_records_with_iso_dates_and_repeated_rows_are_bounded() -> None:
    cells = (
        '<table:table-cell office:value-type="string"><text:p>North</text:p></table:table-cell>'
        '<table:table-cell office:value-type="date" office:date-value="2026-11-03"><text:p>3/11/26</text:p>'
        '</table:table-cell><table:table-cell table:number-columns-repeated="16382"/>'
    )
    body = (
        '<table:table table:name="Days" table:style-name="ta1"><table:table-row>'
        "<table:table-cell><text:p>Pier</text:p></table:table-cell><table:table-cell><text:p>Day</text:p>"
        f"</table:table-cell></table:table-row><table:table-row>{cells}</table:table-row>"
        '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row></table:table>'
    )
    styles = '<style:style style:name="ta1"><style:table-properties table:display="false"/></style:style>'
    text = read(samples.opendocument("spreadsheet", body, styles), "a.ods").text
    assert text == "# Days (hidden sheet)\n\nPier: North\nDay: 2026-11-03"


def test_an_opendocument_presentation_has_its_slides_as_pages() -> None:
    page = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>Piers</text:p></draw:text-box>'
        "</draw:frame><draw:frame><draw:text-box><text:p>Seven of them</text:p></draw:text-box></draw:frame>"
        "<presentation:notes><draw:frame><text:p>Slowly</text:p></draw:frame></presentation:notes></draw:page>"
    )
    parsed = read(samples.opendocument("presentation", page * 2), "a.odp")
    first, second = (parsed.text[start:end] for _, start, end in parsed.pages)
    assert first == second == "# Piers\n\nSeven of them\n\n## Notes\n\nSlowly"


def test_a_hidden_slide_of_an_opendocument_is_called_so() -> None:
    style = (
        '<style:style style:name="dp2"><style:drawing-page-properties presentation:visibility="hidden"/></style:style>'
    )
    shown = "<draw:frame><draw:text-box><text:p>Seven</text:p></draw:text-box></draw:frame></draw:page>"
    pages = f'<draw:page draw:style-name="dp1">{shown}<draw:page draw:style-name="dp2">{shown}'
    text = read(samples.opendocument("presentation", pages, style), "a.odp").text
    assert text == "# Slide 1\n\nSeven\n\n# Slide 2 (hidden slide)\n\nSeven"


def test_an_encrypted_opendocument_is_refused_as_such() -> None:
    manifest = '<m:manifest xmlns:m="urn:m"><m:encryption-data/></m:manifest>'
    data = samples.opendocument("text", "", **{"META-INF/manifest.xml": manifest})
    with pytest.raises(DocumentRejected, match="encrypted: save a copy without a password"):
        read(data, "a.odt")


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("name", ["a.pptx", "a.xlsx", "a.odt", "a.ods", "a.odp", "a.epub", "a.docx"])
def test_what_is_cut_off_empty_or_something_else_ends_with_a_reason(name: str) -> None:
    whole = samples.all_formats()[name]
    for data, words in (
        (b"", "empty"),
        (whole[: len(whole) // 2], "damaged or was cut off"),
        (whole[:-30], "damaged or was cut off"),
        (b"PK\x03\x04 nothing of the kind", "damaged or was cut off"),
        (b"plain words", "damaged or was cut off"),
    ):
        with pytest.raises(DocumentRejected, match=words):
            read(data, name)


@pytest.mark.parametrize("name", ["a.pptx", "a.xlsx", "a.odt", "a.ods", "a.odp", "a.epub", "a.docx", "a.eml", "a.rtf"])
@pytest.mark.parametrize("disguise", ["report.txt", "report.pdf", "report", "report.docx"])
def test_a_wrong_name_changes_nothing(name: str, disguise: str) -> None:
    data = samples.all_formats()[name]
    if name == "a.eml" and disguise in ("report.pdf", "report.docx"):
        return  # text that claims to be something else is held to what it claims
    assert detect(disguise, None, data) == detect(name, None, data)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "with a password"),
        ("a.msg", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Outlook message .* as EML"),
        ("a", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "__substg1.0_".encode("utf-16-le"), "Outlook message .* as EML"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office file .* DOCX, PPTX or XLSX"),
        ("a.mbox", b"From ada@example Tue Nov  3 07:45:00 2026\nSubject: x\n\nHi\n", "split it, and send each"),
        ("a.eml", b"From ada@example Tue Nov  3 07:45:00 2026\nSubject: x\n\nHi\n", "split it, and send each"),
    ],
)
def test_what_no_reader_takes_is_named_with_a_remedy(name: str, data: bytes, words: str) -> None:
    with pytest.raises(DocumentRejected, match=words):
        read(data, name)
