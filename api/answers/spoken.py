"""What has been said of an answer so far."""

from api.answers.events import Citation, Cited, Token


class Spoken:
    """Gathers an answer piece by piece.

    Attributes:
        citations: of what was said, each once, in order.
        is_own: the model said something of it that a source says too, or that nobody looked at.
    """

    def __init__(self) -> None:
        self._pieces: list[Token] = []
        self._told: set[str] = set()
        self.citations: list[Citation] = []
        self.is_own = False

    def __bool__(self) -> bool:
        """Whether anything was said."""
        return bool(self._pieces)

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(piece.text for piece in self._pieces).rstrip()

    @property
    def unsupported(self) -> tuple[tuple[int, int], ...]:
        """The stretches of the answer that no source supports, as (start, end), neighbours joined."""
        answer, found, at = self.text, list[tuple[int, int]](), 0
        for piece in self._pieces:
            start, words = at + len(piece.text) - len(piece.text.lstrip()), piece.text.strip()
            at += len(piece.text)
            if piece.supported is not False or not words:
                continue
            if found and not answer[found[-1][1] : start].strip():
                start = found.pop()[0]
            found.append((start, at - len(piece.text) + len(piece.text.rstrip())))
        return tuple(found)

    def has(self, sentence: str) -> bool:
        """Whether it was said already: small models repeat themselves."""
        return sentence.strip() in self._told

    def say(self, text: str, supported: bool | None) -> Token:
        """Add what the model said. Returns: it, as it is told."""
        self.is_own = self.is_own or supported is not False
        return self.add(text, supported)

    def add(self, text: str, supported: bool | None) -> Token:
        """Add a piece; white space before the first one is left out."""
        self._told.add(text.strip())
        token = Token(text if self._pieces else text.lstrip(), supported)
        self._pieces.append(token)
        return token

    def cite(self, citation: Citation) -> list[Cited]:
        """Add a source. Returns: it, if it is new."""
        if citation in self.citations:
            return []
        self.citations.append(citation)
        return [Cited(citation)]
