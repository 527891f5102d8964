"""XML as a stream of events: no tree, no entities of its own, bounded depth; built on expat."""

from collections.abc import Iterable
from html.entities import html5
from typing import Protocol
from xml.parsers import expat

from retrieval.errors import DocumentRejected


class Reader(Protocol):
    """What is told of a file's elements, in order; names are `namespace name` with a space between."""

    def start(self, name: str, attributes: dict[str, str], /) -> None: ...

    def end(self, name: str, /) -> None: ...

    def text(self, text: str, /) -> None: ...


def read(
    pieces: Iterable[bytes], reader: Reader, depth: int, *, with_doctype: bool = False, with_prefixes: bool = False
) -> None:
    """Tell a reader what a file holds.

    Args:
        with_doctype: a document type may be named, as formats older than namespaces do; what it names is never fetched.
        with_prefixes: names are `namespace name prefix` where the file has a prefix for the namespace.

    Raises: DocumentRejected: the XML is broken, declares entities, or nests deeper than `depth`.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.namespace_prefixes = with_prefixes
    parser.buffer_text = True
    level = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal level
        level += 1
        if level > depth:
            raise DocumentRejected(f"The file nests elements more than {depth} levels deep: simplify it.")
        reader.start(name, attributes)

    def end(name: str) -> None:
        nonlocal level
        level -= 1
        reader.end(name)

    def doctype(_name: str, _system: str | None, _public: str | None, has_declarations: int) -> None:
        if has_declarations or not with_doctype:
            raise DocumentRejected("The file declares XML entities, which no office program writes: save it anew.")

    def skipped(name: str, is_parameter: bool) -> None:
        if not is_parameter:  # one of the document type that was not fetched; most are those of HTML
            reader.text(html5.get(f"{name};", ""))

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = doctype
    parser.SkippedEntityHandler = skipped
    try:
        for piece in pieces:
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that nobody knows
        if not isinstance(error, expat.ExpatError):
            raise DocumentRejected("The file's XML is in an encoding that can't be read: save it as UTF-8.") from error
        raise DocumentRejected(
            f"The file is damaged: its XML ends or breaks at line {error.lineno}. Save it anew."
        ) from error
