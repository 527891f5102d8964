"""What of a model request says how hard it is: the user's last messages, and whether more than words is at play."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TURNS = 3  # a short "and why?" is as hard as what it follows
_ACTS = ("tools", "functions")
_WORDS = ("text", "input_text")


@dataclass(frozen=True, slots=True)
class Read:
    """A request as `Auto` looks at it.

    Attributes:
        turns: the user's last messages, as far as they hold words, the newest last.
        acts: the model may call tools, or is shown pictures or sounds.
    """

    turns: tuple[str, ...]
    acts: bool = False


def read(body: Mapping[str, Any]) -> Read:
    """Read the body of a chat, a completion, a message or a response; one that is no such body says nothing."""
    acts = any(body.get(name) for name in _ACTS)
    said = next((body[name] for name in ("messages", "input", "prompt") if body.get(name)), "")
    if isinstance(said, str):
        return Read((said,) if said else (), acts)
    turns = []
    for one in said if isinstance(said, Sequence) else ():
        if isinstance(one, str):
            turns.append(one)
        elif isinstance(one, Mapping) and one.get("role") == "user":
            words, shows = _content(one.get("content"))
            acts = acts or shows
            if words:
                turns.append(words)
    return Read(tuple(turns[-_TURNS:]), acts)


def _content(content: object) -> tuple[str, bool]:
    """The words of one message, and whether there is more than words in it."""
    if isinstance(content, str):
        return content, False
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    words = [part["text"] for part in parts if part.get("type") in _WORDS and isinstance(part.get("text"), str)]
    return "\n\n".join(words), any(part.get("type") not in _WORDS for part in parts)
