"""What kind of file it is: content first where it speaks, then the extension, then what was declared."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
ZIP = "application/zip"
UNKNOWN = "application/octet-stream"

SUPPORTED = frozenset({PDF, DOCX, HTML, MARKDOWN, PLAIN, CSV, TSV, JSON, JSON_LINES})
REMEDY = "send PDF, DOCX, HTML, Markdown, plain text, CSV, TSV or JSON instead"

BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

_PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_ODT = "application/vnd.oasis.opendocument.text"
_EPUB = "application/epub+zip"
_OLE = "application/x-ole-storage"
_RTF = "application/rtf"
_XML = "application/xml"

_EXTENSIONS = {
    ".pdf": PDF,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".rst": PLAIN,
    ".log": PLAIN,
    ".csv": CSV,
    ".tsv": TSV,
    ".tab": TSV,
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".xml": _XML,
    ".rtf": _RTF,
    ".doc": "application/msword",
    ".docx": DOCX,
    ".pptx": _PPTX,
    ".xlsx": _XLSX,
    ".odt": _ODT,
    ".epub": _EPUB,
}
_SAME = {
    "application/xhtml+xml": HTML,
    "application/x-ndjson": JSON_LINES,
    "application/jsonlines": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/csv": CSV,
    "text/x-markdown": MARKDOWN,
    "text/json": JSON,
    "text/xml": _XML,
    "application/x-pdf": PDF,
}
_TEXTS = frozenset({HTML, MARKDOWN, PLAIN, CSV, TSV, JSON, JSON_LINES})
# First bytes of kinds that are no text and that no reader here takes.
_MAGIC = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"{\\rtf", _RTF),
    (b"\x89PNG\r\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%!PS", "application/postscript"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x7fELF", "application/x-executable"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
# A part that only this kind of ZIP file has.
_ZIPPED = (("word/document.xml", DOCX), ("ppt/presentation.xml", _PPTX), ("xl/workbook.xml", _XLSX))
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_MIMETYPES = (_ODT, _EPUB)  # said in the first part, which is not compressed
_NAMES = {
    _PPTX: "a PowerPoint presentation (PPTX)",
    _XLSX: "an Excel workbook (XLSX)",
    _ODT: "an OpenDocument text (ODT)",
    _EPUB: "an e-book (EPUB)",
    ZIP: "a ZIP archive",
    _OLE: "an old Office file (DOC, XLS, PPT) or an Office file with a password",
    "application/msword": "an old Word file (DOC)",
    _RTF: "an RTF file",
    _XML: "an XML file",
    UNKNOWN: "no text and of no known kind",
}
_ADVICE = {
    _PPTX: "export it as PDF",
    _XLSX: "export each sheet as CSV",
    _ODT: "save it as DOCX or PDF",
    _EPUB: "convert it to HTML or PDF",
    ZIP: "unpack it and send its files",
    _OLE: "save it as DOCX without a password, or export it as PDF or CSV",
    "application/msword": "save it as DOCX",
    _RTF: "save it as DOCX",
}
_SNIFFED = 8192
_HTML_START = re.compile(
    r"(?:\s|<\?xml[^>]{0,200}\?>|<!--(?:[^-]|-(?!->)){0,2000}-->)*<(?:!doctype\s+html|html)\b", re.I
)
_JSON_START = re.compile(
    r'\s*(?:\[\s*)*\{\s*(?:"(?:[^"\\\n]|\\.){0,500}"\s*:|\}\s*\Z)|\s*\[\s*\[?\s*"(?:[^"\\\n]|\\.)*"\s*,'
)


def detect(filename: str, declared: str | None, data: bytes) -> str:
    """Find a file's media type; one that isn't in `SUPPORTED` names what the file seems to be.

    Looks at a few kilobytes, so it may be called where nothing may take long.

    Args:
        declared: what the sender called it, parameters such as `; charset=` allowed.
    """
    head = data[:_SNIFFED]
    by_name = _EXTENSIONS.get(PurePosixPath(filename).suffix.lower())
    # Readers of PDF look for its mark in the first 1,024 bytes; in a text file it may just be spoken of.
    if head.lstrip().startswith(b"%PDF-") or (by_name in (None, PDF) and b"%PDF-" in head[:1024]):
        return PDF
    if head.startswith(_ZIP_STARTS):
        return _zip_kind(data, by_name)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if data and not _is_text(head):
        # A name that promises text must not carry bytes into the index.
        return by_name if by_name is not None and by_name not in _TEXTS else UNKNOWN
    text = _decode(head)
    if _HTML_START.match(text):
        return HTML
    said = (declared or "").partition(";")[0].strip().lower()
    said = _SAME.get(said, said)
    if by_name in (None, PLAIN) and said in ("", PLAIN, UNKNOWN, JSON) and _JSON_START.match(text):
        return JSON
    if by_name is not None:
        # What is readable text is no PDF and no DOCX, whatever it is called; the reader says what is wrong with it.
        return by_name
    if said and said != UNKNOWN and said != PLAIN:
        return said
    if said == PLAIN or not PurePosixPath(filename).suffix:
        return PLAIN
    return UNKNOWN


def archive_kind(names: Collection[str]) -> str:
    """What a ZIP file with these parts is."""
    for part, kind in _ZIPPED:
        if part in names:
            return kind
    if "META-INF/container.xml" in names:
        return _EPUB
    return _ODT if "META-INF/manifest.xml" in names and "content.xml" in names else ZIP


def unreadable(kind: str) -> str:
    """The reason for refusing a kind that has no reader, and what to do."""
    name = _NAMES.get(kind, f"of type {kind}")
    return f"The file is {name}, which can't be read yet: {_ADVICE.get(kind, REMEDY)}."


def _zip_kind(data: bytes, by_name: str | None) -> str:
    """By the names of parts, which stand uncompressed in a ZIP file; without them it may be cut off: then its name."""
    for part, kind in _ZIPPED:
        if part.encode() in data:
            return kind
    for kind in _MIMETYPES:
        if b"mimetype" + kind.encode() in data[:_SNIFFED]:
            return kind
    return by_name if by_name in (DOCX, _PPTX, _XLSX, _ODT, _EPUB) else ZIP


def _is_text(head: bytes) -> bool:
    """Whether it may be text: no NUL, or those of UTF-16 and UTF-32, of which every second byte at least is none."""
    if head.startswith(tuple(bom for bom, _ in BOMS)):
        return True
    return b"\x00" not in head or wide_encoding(head) is not None


def wide_encoding(data: bytes) -> str | None:
    """The UTF-16 or UTF-32 that bytes without a byte-order mark are in, by where their NULs stand; None for neither."""
    head = data[: _SNIFFED - _SNIFFED % 4]
    for encoding, width, low in (("utf-32-le", 4, 0), ("utf-32-be", 4, 3), ("utf-16-le", 2, 0), ("utf-16-be", 2, 1)):
        if len(head) % width or len(data) % width:
            continue
        text = head.decode(encoding, errors="replace")
        if head[low::width].count(0) == 0 and _is_plausible(text):
            return encoding
    return None


def _is_plausible(text: str) -> bool:
    """Whether nearly all is letters, digits, punctuation and white space; random bytes give many unassigned signs."""
    odd = sum(not (char.isprintable() or char in "\t\r\n\f") or char == "\ufffd" for char in text)
    return bool(text) and odd <= len(text) * 0.01


def _decode(head: bytes) -> str:
    for bom, encoding in BOMS:
        if head.startswith(bom):
            return head.decode(encoding, errors="replace")
    return head.decode(wide_encoding(head) or "utf-8" if b"\x00" in head else "utf-8", errors="replace")
