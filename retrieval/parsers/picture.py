"""Pictures: the text that recognition finds in them; each picture of a TIFF is a page."""

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.paging import Pages
from retrieval.parsers.parsed import Parsed
from retrieval.parsers.pdf import unwrapped
from retrieval.parsers.recognition import NOT_INSTALLED, Recogniser


def parse(data: bytes, bounds: Bounds, recogniser: Recogniser | None = None) -> Parsed:
    """Raises: DocumentRejected: broken, too large, without words, or there is no recogniser."""
    if recogniser is None:
        raise DocumentRejected(f"The file is a picture. {NOT_INSTALLED}")
    pages = Pages(bounds.characters)
    for number, text in enumerate(recogniser.picture(data, bounds.pages), start=1):
        pages.add(number, unwrapped(text))
    parsed = pages.parsed(None)
    if not parsed.text:
        raise DocumentRejected("Text recognition found no words in the picture: send a larger or clearer one.")
    return Parsed(parsed.text, pages=parsed.pages if len(parsed.pages) > 1 else ())
