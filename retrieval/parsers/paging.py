"""Pages one behind the other, with their spans."""

from retrieval.errors import DocumentRejected
from retrieval.parsers.parsed import Parsed, normalise

_BETWEEN_PAGES = "\n\n"


class Pages:
    """Gathers the texts of pages.

    Args:
        characters: most that all of them may have.
    """

    def __init__(self, characters: int) -> None:
        self._limit = characters
        self._parts: list[str] = []
        self._spans: list[tuple[int, int, int]] = []
        self._position = 0

    def add(self, number: int, text: str) -> None:
        """Put a page behind the others; one without text has an empty span.

        Raises: DocumentRejected: the text gets too long.
        """
        text = normalise(text).strip()
        if text:
            if self._parts:
                self._parts.append(_BETWEEN_PAGES)
                self._position += len(_BETWEEN_PAGES)
            self._parts.append(text)
        self._spans.append((number, self._position, self._position + len(text)))
        self._position += len(text)
        if self._position > self._limit:
            raise DocumentRejected(f"The text has more than {self._limit:,} characters, the limit. Split the file.")

    def parsed(self, title: str | None) -> Parsed:
        """The whole, structured by headings."""
        return Parsed("".join(self._parts), pages=tuple(self._spans), structured=True, title=title)
