"""A small file of every format, made by the libraries that people make such files with where there is one."""

import io
from collections.abc import Callable, Iterable, Sequence
from email.message import EmailMessage

import docx as python_docx
import openpyxl
import pptx
from PIL import Image, ImageDraw
from pptx.util import Inches

from tests.unit.retrieval.files import pdf, zipped

Rows = Sequence[Sequence[object]]

PIERS: Rows = (
    ("Pier", "Fee", "Keeper"),
    ("North", 14, "Ada"),
    ("South", 22, "Bo"),
    ("West", 31, "Cy"),
)
_ODF = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "presentation": "presentation",
        "style": "style",
    }.items()
)


def word(*tables: Rows) -> bytes:
    """A DOCX."""
    document = python_docx.Document()
    document.add_heading("Harbour", 1)
    document.add_paragraph("The harbour has piers.")
    for rows in tables or (PIERS,):
        table = document.add_table(len(rows), len(rows[0]))
        for row, cells in zip(table.rows, rows, strict=True):
            for cell, value in zip(row.cells, cells, strict=True):
                cell.text = str(value)
        document.add_paragraph("So much for them.")
    return saved(document.save)


def slides(*tables: Rows) -> bytes:
    """A PPTX: a slide with a table for each, and notes on the first."""
    show = pptx.Presentation()
    for number, rows in enumerate(tables or (PIERS,), start=1):
        slide = show.slides.add_slide(show.slide_layouts[5])
        slide.shapes.title.text = f"Harbour {number}"
        place = (Inches(1), Inches(2), Inches(6), Inches(2))
        table = slide.shapes.add_table(len(rows), len(rows[0]), *place).table
        for row, cells in enumerate(rows):
            for column, value in enumerate(cells):
                table.cell(row, column).text = str(value)
    show.slides[0].notes_slide.notes_text_frame.text = "Say it slowly."
    return saved(show.save)


def workbook(*tables: Rows, names: Sequence[str] = ()) -> bytes:
    """An XLSX: a sheet for each table."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(tables or (PIERS,), start=1):
        sheet = book.create_sheet(names[number - 1] if names else f"Harbour {number}")
        for row in rows:
            sheet.append(list(row))
    return saved(book.save)


def opendocument(kind: str, body: str, styles: str = "", **parts: str) -> bytes:
    """An ODT, ODS or ODP (`text`, `spreadsheet`, `presentation`)."""
    content = (
        f"<office:document-content {_ODF}><office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    mimetype = f"application/vnd.oasis.opendocument.{kind}".encode()
    return zipped(
        {
            "mimetype": [mimetype],
            "META-INF/manifest.xml": [b"<manifest/>"],
            "content.xml": [content.encode()],
            **{name: [text.encode()] for name, text in parts.items()},
        }
    )


def opendocument_table(rows: Rows, name: str = "Harbour") -> str:
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="{"float" if isinstance(value, int) else "string"}">'
            f"<text:p>{value}</text:p></table:table-cell>"
            for value in row
        )
        + "</table:table-row>"
        for row in rows
    )
    return f'<table:table table:name="{name}">{cells}</table:table>'


def book(*chapters: str, encryption: str = "", package: str | None = None) -> bytes:
    """An EPUB."""
    items = "".join(
        f'<item id="c{n}" href="c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in _from_1(chapters)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in _from_1(chapters))
    opf = package or (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
        f"<dc:title>Piers</dc:title></metadata><manifest>{items}</manifest><spine>{order}</spine></package>"
    )
    parts: dict[str, Iterable[bytes]] = {
        "mimetype": [b"application/epub+zip"],
        "META-INF/container.xml": [
            b'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            b'<rootfile full-path="OPS/book.opf"/></rootfiles></container>'
        ],
        "OPS/book.opf": [opf.encode()],
    }
    for n, chapter in enumerate(chapters, start=1):
        page = f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>{chapter}</body></html>'
        parts[f"OPS/c {n}.xhtml"] = [page.encode()]
    if encryption:
        parts["META-INF/encryption.xml"] = [encryption.encode()]
    return zipped(parts)


def letter(body: str = "The pier opens at seven.", html: str = "", **attachments: bytes) -> bytes:
    """An e-mail; attachments are named `minutes_docx=...`."""
    message = EmailMessage()
    message["Subject"] = "Piers and fees"
    message["From"] = "Ada <ada@harbour.example>"
    message["To"] = "Bo <bo@harbour.example>"
    message["Date"] = "Tue, 03 Nov 2026 07:45:00 +0100"
    message["Message-ID"] = "<1@harbour.example>"
    message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
    for name, data in attachments.items():
        message.add_attachment(data, "application", "octet-stream", filename=".".join(name.rsplit("_", 1)))
    return message.as_bytes()


def nested_letters(levels: int) -> bytes:
    """E-mails attached to e-mails; the innermost is level 0."""
    inner = EmailMessage()
    inner["Subject"] = "Level 0"
    inner.set_content("The innermost words.")
    for level in range(1, levels + 1):
        outer = EmailMessage()
        outer["Subject"] = f"Level {level}"
        outer.set_content(f"Words of level {level}.")
        outer.add_attachment(inner)
        inner = outer
    return inner.as_bytes()


RTF = (
    rb"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial;}}{\info{\title Secret}}"
    rb"\pard\outlinelevel0 Harbour\par\pard Gr\'f6\'dfe of a pier \u8364?14, \u-10179?\u-8704? \v hidden\v0 end.\par"
    rb"{\f1 \'cf\'e8\'f0\'f1\par}\trowd\intbl Pier\cell Fee\cell\row\trowd\intbl North\cell 14\cell\row\pard Last.\par}"
)
XML = b"""<?xml version="1.0"?><catalog xmlns:dc="http://purl.org/dc/elements/1.1/">
<pier id="n"><dc:title>North</dc:title><fee currency="EUR">14</fee></pier>
<pier id="s"><dc:title>South</dc:title><fee currency="EUR">22</fee><note>Closed <b>all</b> winter.</note>
</pier></catalog>"""
PYTHON = b'''"""Fees of piers."""

RATE = 3


class Pier:
    """A pier."""

    def fee(self, days: int) -> int:
        """What so many days cost."""
        return RATE * days


def open_all() -> None:
    print("open")
'''


def picture(text: str = "The violet lighthouse", form: str = "PNG", size: tuple[int, int] = (700, 120)) -> bytes:
    """A drawing of a line of text."""
    drawn = Image.new("RGB", size, "white")
    ImageDraw.Draw(drawn).text((20, 30), text, fill="black", font_size=48)
    return saved(lambda file: drawn.save(file, form))


def scan(text: str = "The violet lighthouse") -> bytes:
    """A PDF of one page that is a picture."""
    drawn = Image.new("RGB", (1240, 400), "white")
    ImageDraw.Draw(drawn).text((60, 80), text, fill="black", font_size=56)
    return saved(lambda file: drawn.save(file, "PDF", resolution=150))


def all_formats() -> dict[str, bytes]:
    """A file of each format, by its name."""
    return {
        "a.docx": word(),
        "a.pptx": slides(),
        "a.xlsx": workbook(),
        "a.odt": opendocument("text", f'<text:h text:outline-level="1">Harbour</text:h>{opendocument_table(PIERS)}'),
        "a.ods": opendocument("spreadsheet", opendocument_table(PIERS)),
        "a.odp": opendocument(
            "presentation", f"<draw:page><draw:frame>{opendocument_table(PIERS)}</draw:frame></draw:page>"
        ),
        "a.epub": book("<h1>Piers</h1><p>North costs 14.</p>", "<h1>Keepers</h1><p>Ada keeps it.</p>"),
        "a.eml": letter(html="<p>The pier opens.</p>", minutes_docx=word(), fees_csv=b"Pier;Fee\nNorth;14\n"),
        "b.eml": nested_letters(2),
        "a.rtf": RTF,
        "a.xml": XML,
        "a.py": PYTHON,
        "a.ts": b"export class Pier { fee(): number { return 14 } }\n",
        "a.sql": b"CREATE TABLE piers (name text, fee int);\nCREATE VIEW open AS SELECT 1;\n",
        "a.yaml": b"piers:\n  north: 14\nkeepers:\n  - Ada\n",
        "a.pdf": pdf([[(50, 700, "The violet lighthouse.")]]),
        "a.html": b"<html><body><h1>Piers</h1><table><tr><td>North<td>14</table></body></html>",
        "a.md": b"# Piers\n\nNorth costs 14.\n",
        "a.csv": b"Pier;Fee\nNorth;14\nSouth;22\n",
        "a.json": b'[{"pier": "North", "fee": 14}]',
        "a.png": picture(),
    }


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def _from_1(items: Sequence[object]) -> range:
    return range(1, len(items) + 1)
