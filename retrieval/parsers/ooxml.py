"""What DOCX, PPTX and XLSX have in common: their main part, relations between parts, the title.

Source: ECMA-376, part 2 (Open Packaging Conventions)
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import xml
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import normalise

_TITLE = "http://purl.org/dc/elements/1.1/ title"


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part points to.

    Attributes:
        kind: the last word of the relation's type, such as `slide`.
        target: name of the other part.
    """

    kind: str
    target: str


def main_part(archive: Archive, usual: str, bounds: Bounds) -> str:
    """The part that everything begins with, in the folder of the `usual` one.

    Raises: DocumentRejected: the file has none, so it is of another kind.
    """
    if usual in archive:
        return usual
    for relation in relations(archive, "", bounds).values():
        if relation.kind == "officeDocument" and relation.target.startswith(usual.partition("/")[0] + "/"):
            return relation.target
    raise DocumentRejected(media.unreadable(media.archive_kind(archive.names())))


def relations(archive: Archive, part: str, bounds: Bounds) -> Mapping[str, Relation]:
    """What a part points to inside of the file, by id; `part` is empty for the file itself."""
    folder, _, name = part.rpartition("/")
    reader = _Relations(folder)
    source = posixpath.join(folder, "_rels", f"{name}.rels")
    if source in archive:
        xml.read(archive.pieces(source), reader, bounds.depth)
    return {key: each for key, each in reader.found.items() if each.target in archive}


def title(archive: Archive, bounds: Bounds, part: str = "docProps/core.xml") -> str | None:
    """What the file's properties call it: OpenDocument has them in another part, and in the same words."""
    if part not in archive:
        return None
    properties = _Properties()
    xml.read(archive.pieces(part), properties, bounds.depth)
    return normalise(" ".join("".join(properties.title).split())).strip() or None


@dataclass(slots=True)
class _Relations:
    folder: str
    found: dict[str, Relation] = field(default_factory=dict)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not name.endswith(" Relationship") or attributes.get("TargetMode") == "External":
            return
        target = posixpath.normpath(posixpath.join("/", self.folder, attributes.get("Target", ""))).lstrip("/")
        self.found[attributes.get("Id", "")] = Relation(attributes.get("Type", "").rpartition("/")[2], target)

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


@dataclass(slots=True)
class _Properties:
    title: list[str] = field(default_factory=list)
    inside: bool = False

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self.inside = name == _TITLE

    def end(self, _name: str) -> None:
        self.inside = False

    def text(self, text: str) -> None:
        if self.inside:
            self.title.append(text)
