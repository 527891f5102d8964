"""Signs beyond 16 bits that an upstream tears apart: one half in this chunk, the other half in the next one."""

from typing import Any

_Place = tuple[int, str]  # a choice's index and a field of its delta


class Pairs:
    """Puts the halves of one stream's signs together again; a half that stays alone becomes U+FFFD."""

    def __init__(self) -> None:
        self._held: dict[_Place, str] = {}

    def __bool__(self) -> bool:
        """Whether a half waits for the other one."""
        return bool(self._held)

    def join(self, chunk: dict[str, Any]) -> None:
        """Mend the texts of a chunk. Raises: AttributeError, TypeError: it is none."""
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            for name, text in delta.items():
                if isinstance(text, str) and text:
                    delta[name] = self._joined((choice.get("index", 0), name), text)

    def _joined(self, place: _Place, text: str) -> str:
        text = self._held.pop(place, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held[place] = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
