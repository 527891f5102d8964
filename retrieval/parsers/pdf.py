"""PDF: the text layer page by page, with pdfium."""

import re

import pypdfium2

from retrieval.errors import DocumentRejected
from retrieval.parsers.parsed import Parsed, normalise

_FORMAT_ERROR, _PASSWORD_ERROR, _SECURITY_ERROR = 3, 4, 5  # FPDF_ERR_...
_BETWEEN_PAGES = "\n\n"
_LINE_HYPHEN = "\x02"  # pdfium's mark for a hyphen at a line's end, whose line break it has already taken out
# A line is continued where it ends in a space, or where the next one begins with a small letter.
_WRAPPED = re.compile(r"[ \t]+\n(?=[^\s•‣▪◦*-])|(?<=[^\s.:!?])\n(?=[a-zà-öø-ÿ])")


def parse(data: bytes) -> Parsed:
    """Raises: DocumentRejected: encrypted, broken, or without a text layer."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise DocumentRejected(_reason(error)) from error
    pages: list[tuple[int, int, int]] = []
    parts: list[str] = []
    position = 0
    count = len(document)
    for number in range(1, count + 1):
        text = _page_text(document, number)
        if text:
            if parts:
                parts.append(_BETWEEN_PAGES)
                position += len(_BETWEEN_PAGES)
            parts.append(text)
        pages.append((number, position, position + len(text)))
        position += len(text)
    if not parts:
        raise DocumentRejected(
            f"The PDF has {count} page(s) but no text layer: it seems to be scanned. Run text recognition (OCR) first."
        )
    title = document.get_metadata_dict().get("Title", "").strip()
    return Parsed("".join(parts), pages=tuple(pages), title=normalise(title) or None)


def _page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    try:
        raw: str = document[number - 1].get_textpage().get_text_bounded()
    except pypdfium2.PdfiumError as error:
        raise DocumentRejected(f"Page {number} of the PDF is broken: repair or re-export the file.") from error
    lines = raw.replace("\r\n", "\n").replace(_LINE_HYPHEN, "")
    return normalise(_WRAPPED.sub(" ", lines)).strip()


def _reason(error: pypdfium2.PdfiumError) -> str:
    if error.err_code == _PASSWORD_ERROR:
        return "The PDF is encrypted and needs a password: save a copy without one."
    if error.err_code == _SECURITY_ERROR:
        return "The PDF uses a protection that can't be opened: save a copy without it."
    if error.err_code == _FORMAT_ERROR:
        return "The PDF is corrupt: its structure can't be read. Repair or re-export the file."
    return "The PDF can't be opened: repair or re-export the file."
