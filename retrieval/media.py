"""What kind of file it is: content first where it speaks, then the extension, then what was declared."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
EPUB = "application/epub+zip"
RTF = "application/rtf"
EML = "message/rfc822"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"
XML = "application/xml"
PNG, JPEG, TIFF, WEBP = "image/png", "image/jpeg", "image/tiff", "image/webp"
ZIP = "application/zip"
UNKNOWN = "application/octet-stream"

IMAGES = frozenset({PNG, JPEG, TIFF, WEBP})
# Source code: media type and extensions of each language.
_CODE = {
    "text/x-python": ".py .pyi .pyw",
    "text/javascript": ".js .mjs .cjs .jsx",
    "text/x-typescript": ".ts .mts .cts",
    "text/x-tsx": ".tsx",
    "text/x-go": ".go",
    "text/x-java": ".java",
    "text/x-c": ".c .h",
    "text/x-c++": ".cc .cpp .cxx .hh .hpp .hxx",
    "text/x-rust": ".rs",
    "text/x-ruby": ".rb",
    "text/x-sh": ".sh .bash",
    "application/sql": ".sql",
    "application/yaml": ".yaml .yml",
    "application/toml": ".toml .ini .cfg .conf",
    "text/x-source": ".cs .css .dart .ex .exs .graphql .gradle .hs .kt .kts .lua .php .pl .proto .ps1 .r .scala .scss "
    ".swift .tf .vue .zig",
}
CODE = frozenset(_CODE)
SUPPORTED = (
    frozenset({PDF, DOCX, PPTX, XLSX, ODT, ODS, ODP, EPUB, RTF, EML, HTML, MARKDOWN, PLAIN, CSV, TSV, JSON, JSON_LINES})
    | {XML}
    | CODE
    | IMAGES
)
REMEDY = (
    "send PDF, DOCX, PPTX, XLSX, OpenDocument, EPUB, RTF, EML, HTML, Markdown, plain text, CSV, TSV, JSON, XML or "
    "source code instead"
)

BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

_OLE = "application/x-ole-storage"
_LOCKED_OFFICE = "application/x-ole-encrypted"
_MSG = "application/vnd.ms-outlook"
_MBOX = "application/mbox"
_XLSB = "application/vnd.ms-excel.sheet.binary.macroenabled.12"

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
    ".xml": XML,
    ".rss": XML,
    ".atom": XML,
    ".svg": XML,
    ".rtf": RTF,
    ".doc": "application/msword",
    ".docx": DOCX,
    ".docm": DOCX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".ppsx": PPTX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
    ".xlsb": _XLSB,
    ".odt": ODT,
    ".ods": ODS,
    ".odp": ODP,
    ".epub": EPUB,
    ".eml": EML,
    ".mbox": _MBOX,
    ".msg": _MSG,
    ".png": PNG,
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".tif": TIFF,
    ".tiff": TIFF,
    ".webp": WEBP,
    **{extension: kind for kind, extensions in _CODE.items() for extension in extensions.split()},
}
EXTENSIONS = frozenset(extension for extension, kind in _EXTENSIONS.items() if kind in SUPPORTED)
PICTURE_EXTENSIONS = frozenset(extension for extension, kind in _EXTENSIONS.items() if kind in IMAGES)
_SAME = {
    "application/xhtml+xml": HTML,
    "application/x-ndjson": JSON_LINES,
    "application/jsonlines": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/csv": CSV,
    "text/x-markdown": MARKDOWN,
    "text/json": JSON,
    "text/xml": XML,
    "text/rtf": RTF,
    "application/x-rtf": RTF,
    "application/javascript": "text/javascript",
    "application/x-javascript": "text/javascript",
    "application/x-yaml": "application/yaml",
    "text/yaml": "application/yaml",
    "text/x-yaml": "application/yaml",
    "application/x-sh": "text/x-sh",
    "image/jpg": JPEG,
    "application/x-pdf": PDF,
}
_TEXTS = frozenset({HTML, MARKDOWN, PLAIN, CSV, TSV, JSON, JSON_LINES, XML, EML, RTF, _MBOX}) | CODE
# First bytes of kinds that are told by them.
_MAGIC = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"{\\rtf", RTF),
    (b"\x89PNG\r\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF8", "image/gif"),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
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
_ZIPPED = (
    ("word/document.xml", DOCX),
    ("ppt/presentation.xml", PPTX),
    ("xl/workbook.xml", XLSX),
    ("xl/workbook.bin", _XLSB),
)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_MIMETYPES = (ODT, ODS, ODP, EPUB)  # said in the first part, which is not compressed
# Names of streams in an OLE file, as they stand there.
_LOCKED_STREAM = "EncryptedPackage".encode("utf-16-le")
_MSG_STREAM = "__substg1.0_".encode("utf-16-le")
_NAMES = {
    PPTX: "a PowerPoint presentation (PPTX)",
    XLSX: "an Excel workbook (XLSX)",
    ODT: "an OpenDocument text (ODT)",
    EPUB: "an e-book (EPUB)",
    ZIP: "a ZIP archive",
    _XLSB: "a binary Excel workbook (XLSB)",
    _OLE: "an old Office file (DOC, XLS, PPT)",
    _LOCKED_OFFICE: "an Office file with a password",
    _MSG: "an Outlook message (MSG)",
    _MBOX: "a mailbox of many messages (MBOX)",
    "application/msword": "an old Word file (DOC)",
    UNKNOWN: "no text and of no known kind",
}
_ADVICE = {
    PPTX: "save it as PPTX anew",
    XLSX: "save it as XLSX anew",
    ODT: "save it anew",
    EPUB: "convert it to HTML or PDF",
    ZIP: "unpack it and send its files",
    _XLSB: "save it as XLSX",
    _OLE: "save it as DOCX, PPTX or XLSX, or export it as PDF or CSV",
    _LOCKED_OFFICE: "save a copy without a password",
    _MSG: "save the message as EML",
    _MBOX: "split it, and send each message as EML",
    "application/msword": "save it as DOCX",
    "image/gif": "save it as PNG",
}
_SNIFFED = 8192
_HTML_START = re.compile(
    r"(?:\s|<\?xml[^>]{0,200}\?>|<!--(?:[^-]|-(?!->)){0,2000}-->)*<(?:!doctype\s+html|html)\b", re.I
)
_JSON_START = re.compile(
    r'\s*(?:\[\s*)*\{\s*(?:"(?:[^"\\\n]|\\.){0,500}"\s*:|\}\s*\Z)|\s*+\[\s*+\[?+\s*+"(?:[^"\\\n]|\\.)*"\s*,'
)
_SAID = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")
_XML_START = re.compile(r"\s*<\?xml\s")
_MBOX_START = re.compile(r"From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} +\d")
_HEADER = re.compile(r"([!-9;-~]+):[ \t]?[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n")
_LETTER = frozenset(
    ("received", "return-path", "message-id", "mime-version", "delivered-to")
)  # only e-mails have these
_LEAST_HEADERS = 3


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
            return _ole_kind(data, by_name) if kind == _OLE else kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WEBP
    if data and not _is_text(head):
        # A name that promises text must not carry bytes into the index.
        return by_name if by_name is not None and by_name not in _TEXTS else UNKNOWN
    text = _decode(head)
    if _HTML_START.match(text):
        return HTML
    said = (declared or "").partition(";")[0].strip().lower()
    said = _SAME.get(said, said) if _SAID.fullmatch(said) else ""
    if by_name in (None, PLAIN) and said in ("", PLAIN, UNKNOWN, JSON) and _JSON_START.match(text):
        return JSON
    if by_name in (None, PLAIN, EML, _MBOX) and (letter := _letter_kind(text)):
        return letter
    if by_name in (None, PLAIN) and said in ("", PLAIN, UNKNOWN, XML) and _XML_START.match(text):
        return XML
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
        return EPUB
    return ODT if "META-INF/manifest.xml" in names and "content.xml" in names else ZIP


def unreadable(kind: str) -> str:
    """The reason for refusing a kind that has no reader, and what to do."""
    name = _NAMES.get(kind, f"of type {kind}")
    return f"The file is {name}, which can't be read: {_ADVICE.get(kind, REMEDY)}."


def _zip_kind(data: bytes, by_name: str | None) -> str:
    """By the names of parts, which stand uncompressed in a ZIP file; without them it may be cut off: then its name."""
    for part, kind in _ZIPPED:
        if part.encode() in data:
            return kind
    for kind in _MIMETYPES:
        if b"mimetype" + kind.encode() in data[:_SNIFFED]:
            return kind
    if b"META-INF/container.xml" in data:
        return EPUB
    if b"META-INF/manifest.xml" in data and b"content.xml" in data:
        return ODT
    return by_name if by_name in (DOCX, PPTX, XLSX, ODT, ODS, ODP, EPUB) else ZIP


def _ole_kind(data: bytes, by_name: str | None) -> str:
    """By the names of its streams."""
    if _LOCKED_STREAM in data:
        return _LOCKED_OFFICE
    return _MSG if by_name == _MSG or _MSG_STREAM in data else _OLE


def _letter_kind(text: str) -> str | None:
    """An e-mail or a mailbox, if the text begins as one."""
    if _MBOX_START.match(text):
        return _MBOX
    names: list[str] = []
    position = 0
    while match := _HEADER.match(text, position):
        names.append(match.group(1).lower())
        position = match.end()
    return EML if len(names) >= _LEAST_HEADERS and not _LETTER.isdisjoint(names) else None


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
