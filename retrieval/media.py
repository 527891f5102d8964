"""What kind of file it is: content first where it speaks, then the extension, then what was declared."""

from pathlib import PurePosixPath

PDF = "application/pdf"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
UNKNOWN = "application/octet-stream"

SUPPORTED = frozenset({PDF, HTML, MARKDOWN, PLAIN})

BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

_EXTENSIONS = {
    ".pdf": PDF,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": "application/xhtml+xml",
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".rst": PLAIN,
    ".log": PLAIN,
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".xml": "application/xml",
    ".rtf": "application/rtf",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".epub": "application/epub+zip",
}
_SNIFFED = 8192
_HTML_STARTS = (b"<!doctype html", b"<html")


def detect(filename: str, declared: str | None, data: bytes) -> str:
    """Find a file's media type; one that isn't in `SUPPORTED` names what the file seems to be.

    Args:
        declared: what the sender called it, parameters such as `; charset=` allowed.
    """
    head = data[:_SNIFFED]
    by_name = _EXTENSIONS.get(PurePosixPath(filename).suffix.lower())
    # Readers of PDF look for its mark in the first 1,024 bytes; in a text file it may just be spoken of.
    if head.lstrip().startswith(b"%PDF-") or (by_name in (None, PDF) and b"%PDF-" in head[:1024]):
        return PDF
    if data and not _is_text(head):
        # A name that promises text must not carry bytes into the index.
        return by_name if by_name not in (None, HTML, MARKDOWN, PLAIN) else UNKNOWN
    if by_name is not None:
        return by_name
    said = (declared or "").partition(";")[0].strip().lower()
    if said and said != UNKNOWN and said != PLAIN:
        return said
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:20].lower().startswith(_HTML_STARTS):
        return HTML
    if said == PLAIN or not PurePosixPath(filename).suffix:
        return PLAIN
    return UNKNOWN


def _is_text(head: bytes) -> bool:
    return head.startswith(tuple(bom for bom, _ in BOMS)) or b"\x00" not in head
