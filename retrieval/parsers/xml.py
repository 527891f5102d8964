"""XML as a stream of events: no tree, no entities of its own, bounded depth; built on expat."""

from collections.abc import Iterable
from typing import Protocol
from xml.parsers import expat

from retrieval.errors import DocumentRejected


class Reader(Protocol):
    """What is told of a file's elements, in order; names are `namespace name` with a space between."""

    def start(self, name: str, attributes: dict[str, str], /) -> None: ...

    def end(self, name: str, /) -> None: ...

    def text(self, text: str, /) -> None: ...


def read(pieces: Iterable[bytes], reader: Reader, depth: int) -> None:
    """Raises: DocumentRejected: the XML is broken, declares entities, or nests deeper than `depth`."""
    parser = expat.ParserCreate(namespace_separator=" ")
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

    def doctype(*_: object) -> None:
        raise DocumentRejected("The file declares XML entities, which no office program writes: save it anew.")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = doctype
    try:
        for piece in pieces:
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise DocumentRejected(
            f"The file is damaged: its XML ends or breaks at line {error.lineno}. Save it anew."
        ) from error
