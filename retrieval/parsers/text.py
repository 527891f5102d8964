"""Plain text and Markdown: decoding is all there is to it."""

import re

from retrieval.errors import DocumentRejected
from retrieval.media import BOMS
from retrieval.parsers.parsed import Parsed, normalise

_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)


def parse_plain(data: bytes) -> Parsed:
    """Raises: DocumentRejected: the bytes are no text."""
    return Parsed(normalise(decode(data)))


def parse_markdown(data: bytes) -> Parsed:
    """Keep Markdown as it is written: its source is what a person wrote and can quote.

    Raises: DocumentRejected: the bytes are no text.
    """
    text = normalise(decode(data))
    heading = _HEADING.search(text)
    return Parsed(text, structured=True, title=heading.group(1).strip() if heading else None)


def decode(data: bytes) -> str:
    """Decode by byte-order mark, else as UTF-8, else as Windows-1252.

    Raises: DocumentRejected: there are NUL bytes, or the encoding that the byte-order mark promises is broken.
    """
    for bom, encoding in BOMS:
        if data.startswith(bom):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise DocumentRejected(f"The file begins as {encoding} but is broken: save it as UTF-8.") from error
    if b"\x00" in data:
        raise DocumentRejected("The file holds NUL bytes, so it is no text: save it as UTF-8 text.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
