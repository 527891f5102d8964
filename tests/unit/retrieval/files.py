"""Makes files for tests, harmless and hostile ones, with nothing of the code under test."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

_NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STYLES = f"""<w:styles {_NAMESPACE}>
<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Kopf2"><w:name w:val="heading 2"/></w:style>
<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Chapter"/><w:basedOn w:val="Kopf2"/></w:style>
<w:style w:type="paragraph" w:styleId="TOC1"><w:name w:val="toc 1"/></w:style>
</w:styles>"""
NUMBERING = f"""<w:numbering {_NAMESPACE}>
<w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="0"><w:numFmt w:val="decimal"/></w:lvl></w:abstractNum>
<w:abstractNum w:abstractNumId="8"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>
</w:numbering>"""


def zipped(parts: Mapping[str, Iterable[bytes]]) -> bytes:
    """A ZIP file; parts come in pieces, so that a bomb is never whole in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, pieces in parts.items():
            with archive.open(name, "w") as part:
                for piece in pieces:
                    part.write(piece)
    return buffer.getvalue()


def docx(body: str | Iterable[bytes], **parts: str) -> bytes:
    """A DOCX; `parts` are named without folder and extension: `styles`, `footnotes`, `header1`."""
    pieces = [body.encode()] if isinstance(body, str) else body
    others = {f"word/{name}.xml": [text.encode()] for name, text in parts.items()}
    document = (f"<w:document {_NAMESPACE}><w:body>".encode(), *pieces, b"</w:body></w:document>")
    return zipped({"[Content_Types].xml": [b"<Types/>"], "word/document.xml": document, **others})


def part(root: str, inner: str) -> str:
    """Another part of a DOCX, such as `footnotes`."""
    return f"<w:{root} {_NAMESPACE}>{inner}</w:{root}>"


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def row(*cells: str) -> str:
    return "<w:tr>" + "".join(f"<w:tc>{cell}</w:tc>" for cell in cells) + "</w:tr>"


Placed = tuple[float, float, str]  # x, y in points, text


def pdf(pages: Sequence[Sequence[Placed]], size: int = 10) -> bytes:
    """A PDF that draws texts in the order given."""
    streams = [
        "".join(f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n" for x, y, text in page).encode() for page in pages
    ]
    return _pdf([(b"", stream) for stream in streams])


def pdf_bomb(mebibytes: int) -> bytes:
    """A page whose drawing unpacks, twice, to many mebibytes of text."""
    packer = zlib.compressobj(9)
    line = b"BT /F1 10 Tf 1 1 Td (a) Tj ET " * (2**20 // 30)
    once = b"".join(packer.compress(line) for _ in range(mebibytes)) + packer.flush()
    return _pdf([(b"/Filter [/FlateDecode /FlateDecode]", zlib.compress(once, 9))])


def _pdf(pages: Sequence[tuple[bytes, bytes]]) -> bytes:
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, (options, stream) in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(stream), options, stream))
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
        % (len(objects) + 1, table, len(objects) + 1, len(out))
    )
