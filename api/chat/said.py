"""What is said in a chat that is answered from documents: a question, what came before it, what the system says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.answers.question import Turn
from api.errors import RequestInvalid

MAX_QUESTION = 8000  # characters, as in /v1/query
MAX_SYSTEM = 8000
_MOST_TURNS = 20
_SYSTEM = ("system", "developer")
_SPEAKERS = ("user", "assistant")
_SILENT = ("tool", "function")  # what they say serves no search


@dataclass(frozen=True, slots=True)
class Said:
    """The messages of one request.

    Attributes:
        question: what the user said last.
        turns: what was said before it, the oldest first.
        system: all that the system says; None: nothing.
    """

    question: str
    turns: tuple[Turn, ...]
    system: str | None


def read_said(messages: Sequence[Any], system: object = None) -> Said:
    """Read the messages of a chat, in OpenAI's or Anthropic's form, which agree on texts.

    Args:
        system: Anthropic's own field for what the system says.

    Raises: RequestInvalid: the place of what can't be read, and what would do.
    """
    ordered = [] if system is None else [_text(system, "system")]
    turns: list[Turn] = []
    question = ""
    for at, message in enumerate(messages):
        param = f"messages[{at}]"
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role in _SYSTEM:
            ordered.append(_text(content, f"{param}.content"))
        elif role == "user" and at == len(messages) - 1:
            question = _text(content, f"{param}.content")
        elif role in _SPEAKERS:
            if text := _spoken(content):
                turns.append(Turn(role, text))
        elif role not in _SILENT:
            raise RequestInvalid(f"{param}.role must be one of {', '.join(_SYSTEM + _SPEAKERS)}", f"{param}.role")
    if not question.strip():
        raise RequestInvalid("with retrieval the last message is the question: end with one of the user's", "messages")
    if len(question) > MAX_QUESTION:
        raise RequestInvalid(f"a question has at most {MAX_QUESTION:,} characters; say it shorter", "messages")
    orders = "\n\n".join(part for part in ordered if part.strip())
    if len(orders) > MAX_SYSTEM:
        raise RequestInvalid(f"with retrieval the system says at most {MAX_SYSTEM:,} characters", "messages")
    return Said(question, tuple(turns[-_MOST_TURNS:]), orders or None)


def _text(content: object, param: str) -> str:
    """The text of a message that must be one. Raises: RequestInvalid."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestInvalid(f"{param} must be a text or a list of parts", param)
    for at, part in enumerate(content):
        if not _is_text(part):
            kind = part.get("type") if isinstance(part, dict) else part
            raise RequestInvalid(
                f"{param}[{at}] is no text but {str(kind)[:40]!r}: with retrieval only text is read", f"{param}[{at}]"
            )
    return _spoken(content)


def _spoken(content: object) -> str:
    """As much of a message as is text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if _is_text(part))


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
