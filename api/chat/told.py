"""An answer from documents as it is told, in pieces that know their sources, for the forms in which chats tell it."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from api.answers.events import Citation, Cited, Done, Event, Retrieved, Token


class Voice(Protocol):
    """Tells the events of one answer in the form of one API."""

    def tell(self, event: Event) -> bytes:
        """The event as a part of a stream; empty: nothing is to be told yet."""
        ...

    def whole(self, done: Done) -> dict[str, Any]:
        """The answer in one piece, after all its events."""
        ...

    def broken(self, status: int, error: dict[str, Any], /) -> bytes:
        """The end of a stream that can't go on; `error` is OpenAI's error object."""
        ...


@dataclass(slots=True)
class Piece:
    """A stretch of the answer, and what it stands on.

    Attributes:
        at: its first character in the answer.
        checked: somebody looked whether a source says it.
    """

    at: int
    text: str
    checked: bool
    citations: list[Citation] = field(default_factory=list)

    @property
    def start(self) -> int:
        """Its first character in the answer that is no white space."""
        return self.at + len(self.text) - len(self.text.lstrip())

    @property
    def end(self) -> int:
        return self.at + len(self.text.rstrip())


class Told:
    """What was told so far.

    Attributes:
        pieces: all joined are the answer; what nobody checked is one piece, of which no part has a source.
        documents: that were found, each version once, the best first: (id, version) to (place, file's id).
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.documents: dict[tuple[str, int], tuple[int, str | None]] = {}

    def hear(self, event: Event) -> bool:
        """Take an event. Returns: whether a new piece began with it."""
        match event:
            case Retrieved(result):
                for passage in result.passages:
                    place = (len(self.documents), passage.file_id)
                    self.documents.setdefault((passage.document_id, passage.document_version), place)
            case Token(text, supported):
                last = self.pieces[-1] if self.pieces else None
                if supported is None and last is not None and not last.checked:
                    last.text += text
                    return False
                at = 0 if last is None else last.at + len(last.text)
                self.pieces.append(Piece(at, text, supported is not None))
                return True
            case Cited(citation) if self.pieces:
                self.pieces[-1].citations.append(citation)
        return False
