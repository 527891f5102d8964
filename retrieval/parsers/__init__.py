"""Bytes to normalised text, one file for each format; runs in a process of its own (`retrieval.parsing`)."""

from collections.abc import Callable

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import docx, html, pdf, records, tables, text
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed

_PARSERS: dict[str, Callable[[bytes, Bounds], Parsed]] = {
    media.PDF: pdf.parse,
    media.DOCX: docx.parse,
    media.HTML: html.parse,
    media.MARKDOWN: text.parse_markdown,
    media.PLAIN: text.parse_plain,
    media.CSV: tables.parse_csv,
    media.TSV: tables.parse_tsv,
    media.JSON: records.parse,
    media.JSON_LINES: records.parse,
}


def parse(data: bytes, media_type: str, bounds: Bounds, filename: str = "") -> Parsed:
    """Turn a file into normalised text.

    Args:
        filename: where its extension says plain text, text that only looks like JSON is read as it is.

    Raises: DocumentRejected: with a reason that a person can act on.
    """
    if not data:
        raise DocumentRejected("The file is empty (0 bytes).")
    if media_type == media.ZIP:  # nothing in its name or first parts said more
        media_type = media.archive_kind(Archive(data, bounds).names())
    parser = _PARSERS.get(media_type)
    if parser is None:
        raise DocumentRejected(media.unreadable(media_type))
    try:
        parsed = parser(data, bounds)
    except DocumentRejected:
        if media_type != media.JSON or filename.lower().endswith(".json"):
            raise
        parsed = text.parse_plain(data, bounds)
    if not parsed.text.strip():
        raise DocumentRejected("The file holds no text.")
    if len(parsed.text) > bounds.characters:
        raise DocumentRejected(
            f"The text has {len(parsed.text):,} characters; the limit is {bounds.characters:,}. Split the file."
        )
    return parsed
