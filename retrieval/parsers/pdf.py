"""PDF: the text layer page by page, with pdfium; columns one after the other."""

import re
import unicodedata
from collections import Counter

import pypdfium2

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.columns import Box, regions
from retrieval.parsers.parsed import Parsed, normalise
from retrieval.parsers.recognition import NOT_INSTALLED, Recogniser

_FORMAT_ERROR, _PASSWORD_ERROR, _SECURITY_ERROR = 3, 4, 5  # FPDF_ERR_...
_BETWEEN_PAGES = "\n\n"
_LINE_HYPHEN = "\x02"  # pdfium's mark for a hyphen at a line's end, whose line break it has already taken out
_BROKEN_WORD = re.compile("(?<=[^\\W\\d_])[-\u00ad\u2010][ \t]*\n(?=[a-zà-öø-ÿ])")
# A line is continued where it ends in a space, or where the next one begins with a small letter.
_WRAPPED = re.compile(r"(?<![ \t])[ \t]+\n(?=[^\s•‣▪◦*-])|(?<=[^\s.:!?])\n(?=[a-zà-öø-ÿ])")
_MOST_RUNS = 2000  # of text on one page: drawings and tables have more, and no columns of prose
_MOST_UNMAPPED = 0.3  # share of characters that stand for no letter
_SCAN_DPI = 150
_SCAN_PIXELS = 8_000_000  # of a page that is larger than paper
_UNMAPPED = frozenset(("Co", "Cn"))  # Unicode's categories: private use and unassigned


def parse(data: bytes, bounds: Bounds, recogniser: Recogniser | None = None) -> Parsed:
    """Read the text layer.

    Args:
        recogniser: reads pages that show something and have no text layer.

    Raises: DocumentRejected: encrypted, broken, too many pages, or without a text layer and a recogniser.
    """
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise DocumentRejected(_reason(error)) from error
    count = len(document)
    if count > bounds.pages:
        raise DocumentRejected(f"The PDF has {count:,} pages; the limit is {bounds.pages:,}. Split the file.")
    pages: list[tuple[int, int, int]] = []
    parts: list[str] = []
    position = 0
    for number in range(1, count + 1):
        text = _page_text(document, number)
        if not text and recogniser is not None:
            text = _scan_text(document, number, recogniser)
        if text:
            if parts:
                parts.append(_BETWEEN_PAGES)
                position += len(_BETWEEN_PAGES)
            parts.append(text)
        pages.append((number, position, position + len(text)))
        position += len(text)
        if position > bounds.characters:
            raise DocumentRejected(
                f"The PDF's text has more than {bounds.characters:,} characters, the limit. Split the file."
            )
    if not parts:
        scan = f"The PDF has {count} page(s) but no text layer: it seems to be scanned."
        if recogniser is not None:
            raise DocumentRejected(f"{scan} Text recognition found no words in it: scan it anew, larger or upright.")
        raise DocumentRejected(f"{scan} {NOT_INSTALLED}")
    whole = "".join(parts)
    if sum(unicodedata.category(char) in _UNMAPPED for char in whole) > _MOST_UNMAPPED * len(whole):
        raise DocumentRejected(
            "The PDF's fonts do not say which letters they show, so its text can't be read: "
            "export it anew, or run text recognition (OCR) first."
        )
    title = document.get_metadata_dict().get("Title", "").strip()
    return Parsed(whole, pages=tuple(pages), title=normalise(title) or None)


def _page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    try:
        page = document[number - 1]
        try:
            textpage = page.get_textpage()
            raw = _in_columns(textpage) or textpage.get_text_bounded()
        finally:
            page.close()  # a long document's pages are not kept
    except pypdfium2.PdfiumError as error:
        raise DocumentRejected(f"Page {number} of the PDF is broken: repair or re-export the file.") from error
    return unwrapped(raw.replace("\r\n", "\n").replace(_LINE_HYPHEN, ""))


def unwrapped(lines: str) -> str:
    """The lines of a page as text: words and sentences that were broken at a line's end are whole again."""
    # The normal form drops characters: it comes last, and what the spans of pages count is its text.
    return normalise(_WRAPPED.sub(" ", _BROKEN_WORD.sub("", lines))).strip()


def _scan_text(document: pypdfium2.PdfDocument, number: int, recogniser: Recogniser) -> str:
    """What recognition finds on a page that shows something."""
    try:
        page = document[number - 1]
        try:
            if next(page.get_objects(max_depth=1), None) is None:
                return ""
            scale = min(_SCAN_DPI / 72, (_SCAN_PIXELS / max(1.0, page.get_width() * page.get_height())) ** 0.5)
            bitmap = page.render(scale=scale, rev_byteorder=True)
            picture, size = bytes(bitmap.buffer), (bitmap.width, bitmap.height, bitmap.stride, bitmap.n_channels)
            bitmap.close()
        finally:
            page.close()
    except pypdfium2.PdfiumError as error:
        raise DocumentRejected(f"Page {number} of the PDF is broken: repair or re-export the file.") from error
    return unwrapped(recogniser.page(picture, *size))


def _in_columns(textpage: pypdfium2.PdfTextPage) -> str:
    """The page's text region by region; empty where the file's own order will do."""
    runs = textpage.count_rects()
    if runs > _MOST_RUNS:
        return ""
    found = regions([Box(*textpage.get_rect(index)) for index in range(runs)])
    if not found:
        return ""
    texts = [textpage.get_text_bounded(box.left - 1, box.bottom - 1, box.right + 1, box.top + 1) for box in found]
    text = "\r\n".join(texts)
    # Regions may overlap or leave something out: then the file's own order is the lesser evil.
    return text if _letters(text) == _letters(textpage.get_text_bounded()) else ""


def _letters(text: str) -> Counter[str]:
    return Counter(char for char in text if char.isalnum())


def _reason(error: pypdfium2.PdfiumError) -> str:
    if error.err_code == _PASSWORD_ERROR:
        return "The PDF is encrypted and needs a password: save a copy without one."
    if error.err_code == _SECURITY_ERROR:
        return "The PDF uses a protection that can't be opened: save a copy without it."
    if error.err_code == _FORMAT_ERROR:
        return "The PDF is corrupt: its structure can't be read. Repair or re-export the file."
    return "The PDF can't be opened: repair or re-export the file."
