"""EPUB: the chapters of a book in the order in which they are read.

Source: W3C, EPUB 3.3; IDPF, Open Packaging Format 2.0.1
"""

import posixpath
from dataclasses import dataclass, field
from urllib.parse import unquote

from retrieval.errors import DocumentRejected
from retrieval.parsers import html, xml
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # of which only fonts are disguised
_CHAPTERS = frozenset(("application/xhtml+xml", "text/html", "application/xml", "text/x-oeb1-document"))
_DAMAGED = "The e-book is damaged ({detail}): send it again, or convert it to HTML or PDF."


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Raises: DocumentRejected: cut off, damaged, protected, too large unpacked, or without chapters."""
    archive = Archive(data, bounds)
    if _ENCRYPTION in archive:
        encryption = _Encryption()
        xml.read(archive.pieces(_ENCRYPTION), encryption, bounds.depth)
        if encryption.algorithms - set(_FONTS):
            raise DocumentRejected("The e-book is protected against copying (DRM): send one without protection.")
    if _CONTAINER not in archive:
        raise DocumentRejected(_DAMAGED.format(detail=f"{_CONTAINER} is missing"))
    container = _Container()
    xml.read(archive.pieces(_CONTAINER), container, bounds.depth)
    if container.package not in archive:
        raise DocumentRejected(_DAMAGED.format(detail="its list of chapters is missing"))
    package = _Package()
    xml.read(archive.pieces(container.package), package, bounds.depth, with_doctype=True)
    texts: list[str] = []
    left = bounds.characters
    for part in package.chapters(posixpath.dirname(container.package)):
        if part not in archive:
            raise DocumentRejected(_DAMAGED.format(detail=f"its chapter {part} is missing"))
        text = html.parse(b"".join(archive.pieces(part)), bounds).text
        left -= len(text) + 2
        if left < 0:
            raise DocumentRejected(
                f"The text has more than {bounds.characters:,} characters, the limit. Split the file."
            )
        if text.strip():
            texts.append(text)
    title = normalise(" ".join("".join(package.title).split())).strip()
    return Parsed(normalise("\n\n".join(texts)), structured=True, title=title or None)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


@dataclass(slots=True)
class _Container:
    package: str = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if _local(name) == "rootfile" and not self.package:
            self.package = attributes.get("full-path", "")

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


@dataclass(slots=True)
class _Encryption:
    algorithms: set[str] = field(default_factory=set)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if _local(name) == "EncryptionMethod":
            self.algorithms.add(attributes.get("Algorithm", ""))

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


@dataclass(slots=True)
class _Package:
    """The book's title, its files by id, and the ids of its chapters in order."""

    title: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    in_title: bool = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match _local(name):
            case "title":
                self.in_title = not self.title
            case "item" if attributes.get("media-type") in _CHAPTERS:
                self.files[attributes.get("id", "")] = attributes.get("href", "")
            case "itemref":
                self.order.append(attributes.get("idref", ""))

    def end(self, _name: str) -> None:
        self.in_title = False

    def text(self, text: str) -> None:
        if self.in_title:
            self.title.append(text)

    def chapters(self, folder: str) -> list[str]:
        """Names of parts, each once."""
        paths = (unquote(self.files[key].partition("#")[0]) for key in self.order if key in self.files)
        return list(dict.fromkeys(posixpath.normpath(posixpath.join(folder, path)) for path in paths))
