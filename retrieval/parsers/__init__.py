"""Bytes to normalised text, one file for each format; runs in a process of its own (`retrieval.parsing`)."""

from collections.abc import Callable

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import html, pdf, text
from retrieval.parsers.parsed import Parsed

_PARSERS: dict[str, Callable[[bytes], Parsed]] = {
    media.PDF: pdf.parse,
    media.HTML: html.parse,
    media.MARKDOWN: text.parse_markdown,
    media.PLAIN: text.parse_plain,
}


def parse(data: bytes, media_type: str, max_characters: int) -> Parsed:
    """Turn a file into normalised text.

    Raises: DocumentRejected: with a reason that a person can act on.
    """
    if not data:
        raise DocumentRejected("The file is empty (0 bytes).")
    parser = _PARSERS.get(media_type)
    if parser is None:
        raise DocumentRejected(
            f"Files of type {media_type} can't be read yet: send PDF, HTML, Markdown or plain text instead."
        )
    parsed = parser(data)
    if not parsed.text.strip():
        raise DocumentRejected("The file holds no text.")
    if len(parsed.text) > max_characters:
        raise DocumentRejected(
            f"The text has {len(parsed.text):,} characters; the limit is {max_characters:,}. Split the file."
        )
    return parsed
