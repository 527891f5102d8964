"""How much of a machine one file may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits inside the parsing process; its time and memory are limited from outside (`retrieval.parsing`).

    Attributes:
        characters: longest normalised text.
        pages: most pages of a PDF, or slides.
        depth: deepest nesting of elements, objects or arrays.
        unpacked_bytes: most that may be decompressed of one file, all of its parts together.
        attachments: most of an e-mail that are read.
        messages: how deep e-mails may be attached to e-mails.
    """

    characters: int = 5_000_000
    pages: int = 2_000
    depth: int = 500
    unpacked_bytes: int = 256 * 2**20
    attachments: int = 50
    messages: int = 3
