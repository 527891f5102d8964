"""Plain text and Markdown: decoding is all there is to it."""

import re

from charset_normalizer import from_bytes

from retrieval.errors import DocumentRejected
from retrieval.media import BOMS, wide_encoding
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise

_HEADING = re.compile(r"^#{1,6}[ \t]++(.+)$", re.MULTILINE)
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd]")  # \x1b colours the output of programs
_MOST_UNREADABLE = 0.01
_SURELY = 20  # letters of several bytes that are right for each that is not: no other encoding looks like that
_JUDGED = 2**16  # bytes of a file from which its legacy encoding is told
_LEGACY = (
    "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 koi8_r cp866 iso8859_2 mac_roman "
    "shift_jis cp932 euc_jp gb18030 big5 cp949"
).split()


def parse_plain(data: bytes, _bounds: Bounds) -> Parsed:
    """Raises: DocumentRejected: the bytes are no text."""
    return Parsed(normalise(decode(data)))


def parse_markdown(data: bytes, _bounds: Bounds) -> Parsed:
    """Keep Markdown as it is written: its source is what a person wrote and can quote.

    Raises: DocumentRejected: the bytes are no text.
    """
    text = normalise(decode(data))
    heading = _HEADING.search(text)
    return Parsed(text, structured=True, title=_titled(heading.group(1)) if heading else None)


def _titled(heading: str) -> str:
    """What a heading says, without signs that close it; such signs alone are what it says."""
    return heading.rstrip(" \t#") or heading[:1]


def decode(data: bytes) -> str:
    """Decode by byte-order mark, else as UTF-8, else as UTF-16 or UTF-32, else in the likeliest legacy encoding.

    Raises: DocumentRejected: this is no text, or the encoding that the byte-order mark promises is broken.
    """
    text = _decode(data)
    if len(_UNREADABLE.findall(text)) > _MOST_UNREADABLE * len(text):
        raise DocumentRejected("The file is no text, whatever its name says: send the document itself, or UTF-8 text.")
    return text


def _decode(data: bytes) -> str:
    for bom, encoding in BOMS:
        if data.startswith(bom):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise DocumentRejected(f"The file begins as {encoding} but is broken: save it as UTF-8.") from error
    if b"\x00" in data and (wide := wide_encoding(data)) is not None:
        return data.decode(wide, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", errors="replace")
        lost = text.count("\ufffd")
        if sum(char > "\x7f" for char in text) > _SURELY * lost:  # cut within a letter, or with a byte that strayed in
            return text
        return data.decode(_legacy(data), errors="replace")


def _legacy(data: bytes) -> str:
    """The likeliest 8-bit or East Asian encoding; Windows-1252 where nothing speaks against it."""
    # What is ASCII says nothing: lines with other bytes are judged first.
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)[:_JUDGED]
    found = from_bytes(sample, cp_isolation=_LEGACY)
    best = found.best()
    if best is None:
        return "cp1252"
    tied = {match.encoding for match in found if (match.chaos, -match.coherence) <= (best.chaos, -best.coherence)}
    return "cp1252" if "cp1252" in tied else best.encoding
