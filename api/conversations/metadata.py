"""Metadata and titles as OpenAI's objects carry them: a few short texts by name."""

from typing import Any

from api.errors import RequestInvalid

MAX_KEYS = 16
_MAX_NAME = 64
_MAX_VALUE = 512


def read_metadata(raw: object, param: str = "metadata") -> dict[str, Any]:
    """Take metadata; null is none. Raises: RequestInvalid."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise RequestInvalid(f"{param} must be an object of names and texts", param)
    if len(raw) > MAX_KEYS:
        raise RequestInvalid(f"{param} holds at most {MAX_KEYS} entries", param)
    for name, value in raw.items():
        if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME or not is_text(name):
            raise RequestInvalid(f"a name in {param} has 1 to {_MAX_NAME} characters", param)
        if not isinstance(value, str) or len(value) > _MAX_VALUE or not is_text(value):
            raise RequestInvalid(f"{param}[{name!r}] must be a text of at most {_MAX_VALUE} characters", param)
    return dict(raw)


def is_text(text: str) -> bool:
    """Whether every store takes it: no half of a surrogate pair, no zero byte."""
    return not any(char == "\0" or 0xD800 <= ord(char) < 0xE000 for char in text)
