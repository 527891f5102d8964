"""Bytes to normalised text, one file for each format; runs in a process of its own (`retrieval.parsing`)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import (
    code,
    docx,
    elements,
    epub,
    html,
    mail,
    odf,
    pdf,
    picture,
    pptx,
    records,
    rtf,
    tables,
    text,
    xlsx,
)
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed
from retrieval.parsers.recognition import Recogniser

_PARSERS: dict[str, Callable[[bytes, Bounds], Parsed]] = {
    media.DOCX: docx.parse,
    media.PPTX: pptx.parse,
    media.XLSX: xlsx.parse,
    media.ODT: odf.parse,
    media.ODS: odf.parse,
    media.ODP: odf.parse,
    media.EPUB: epub.parse,
    media.RTF: rtf.parse,
    media.XML: elements.parse,
    media.HTML: html.parse,
    media.MARKDOWN: text.parse_markdown,
    media.PLAIN: text.parse_plain,
    media.CSV: tables.parse_csv,
    media.TSV: tables.parse_tsv,
    media.JSON: records.parse,
    media.JSON_LINES: records.parse,
    **{kind: partial(code.parse, kind) for kind in media.CODE},
}


def parse(
    data: bytes, media_type: str, bounds: Bounds, filename: str = "", recogniser: Recogniser | None = None
) -> Parsed:
    """Turn a file into normalised text.

    Args:
        filename: where its extension says plain text, text that only looks like JSON is read as it is; the title of
            source code.
        recogniser: finds text in scans and pictures; without it they are refused.

    Raises: DocumentRejected: with a reason that a person can act on.
    """
    if not data:
        raise DocumentRejected("The file is empty (0 bytes).")
    if media_type == media.ZIP:  # nothing in its name or first parts said more
        media_type = media.archive_kind(Archive(data, bounds).names())
    parser = _parser(media_type, recogniser)
    if parser is None:
        raise DocumentRejected(media.unreadable(media_type))
    try:
        parsed = parser(data, bounds)
    except DocumentRejected:
        if media_type != media.JSON or filename.lower().endswith(".json"):
            raise
        parsed = text.parse_plain(data, bounds)
    if media_type in media.CODE:
        parsed = replace(parsed, title=filename or None)
    if not parsed.text.strip():
        raise DocumentRejected("The file holds no text.")
    if len(parsed.text) > bounds.characters:
        raise DocumentRejected(
            f"The text has {len(parsed.text):,} characters; the limit is {bounds.characters:,}. Split the file."
        )
    return parsed


def _parser(media_type: str, recogniser: Recogniser | None) -> Callable[[bytes, Bounds], Parsed] | None:
    if media_type == media.EML:
        return partial(mail.parse, read=partial(parse, recogniser=recogniser))
    if media_type == media.PDF:
        return partial(pdf.parse, recogniser=recogniser)
    if media_type in media.IMAGES:
        return partial(picture.parse, recogniser=recogniser)
    return _PARSERS.get(media_type)
