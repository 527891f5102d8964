"""What has been said of an answer so far: visible text, and no link that may not be shown."""

from api.answers.events import Citation, Cited, Token
from api.answers.links import LinkBuffer, Links
from core.visible import visible, without_hidden


class Spoken:
    """Gathers an answer piece by piece.

    Args:
        links: that may be shown.

    Attributes:
        citations: of what was said, each once, in order.
        is_own: the model said something of it that a source says too, or that nobody looked at.
        is_quoted: no word of a model's was told.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._passing = LinkBuffer(links)
        self._pieces: list[Token] = []
        self._told: set[str] = set()
        self.citations: list[Citation] = []
        self.is_own = False
        self.is_quoted = True

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

    def say(self, sentence: str, *, supported: bool) -> list[Token]:
        """Add a sentence of the model's. Returns: it, as it is told."""
        self.is_own = self.is_own or supported
        self.is_quoted = False
        return self.add(sentence, supported)

    def add(self, text: str, supported: bool | None) -> list[Token]:
        """Add what somebody else says."""
        self._told.add(text.strip())
        return self._add(self._links.cleaned(visible(text)), supported)

    def pass_on(self, piece: str) -> list[Token]:
        """Add a piece of what the model says, at which nobody looks; what may become a link waits for its end."""
        self.is_own, self.is_quoted = True, False
        return self._add(self._passing.add(without_hidden(piece)), None)

    def rest(self) -> list[Token]:
        """Add what waited."""
        return self._add(self._passing.rest(), None)

    def _add(self, text: str, supported: bool | None) -> list[Token]:
        """White space before the first piece is left out."""
        token = Token(text if self._pieces else text.lstrip(), supported)
        if not token.text:
            return []
        self._pieces.append(token)
        return [token]

    def cite(self, citation: Citation) -> list[Cited]:
        """Add a source. Returns: it, if it is new."""
        if citation in self.citations:
            return []
        self.citations.append(citation)
        return [Cited(citation)]
