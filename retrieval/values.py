"""Values that callers send along with documents: metadata and names, checked once on their way in."""

import json
import math
import unicodedata
from typing import Any

from retrieval.errors import InputInvalid

_MAX_KEYS = 64
_MAX_KEY = 200
_MAX_TEXT = 2000
_MAX_BYTES = 16_384
_MAX_INTEGER = 2**53
_MAX_FILENAME = 500


def check_metadata(metadata: object) -> dict[str, Any]:
    """Take flat metadata: text, numbers, true and false, so that every value can be filtered by.

    Raises: InputInvalid: it is nested, too large, or holds what a filter couldn't name.
    """
    if not isinstance(metadata, dict):
        raise InputInvalid("metadata", "metadata must be an object of names and values.")
    if len(metadata) > _MAX_KEYS:
        raise InputInvalid("metadata", f"metadata holds at most {_MAX_KEYS} entries.")
    for key, value in metadata.items():
        if not isinstance(key, str) or not 1 <= len(key) <= _MAX_KEY or _has_controls(key):
            raise InputInvalid(
                "metadata", f"A name in metadata has 1 to {_MAX_KEY} characters and no control characters."
            )
        _check_value(key, value)
    if len(json.dumps(metadata).encode()) > _MAX_BYTES:
        raise InputInvalid("metadata", f"metadata takes at most {_MAX_BYTES} bytes as JSON.")
    return dict(metadata)


def check_filename(filename: str) -> str:
    """Take a file's name, folders included, without control characters.

    Raises: InputInvalid: nothing is left of it, or it is too long.
    """
    if len(filename) > 4 * _MAX_FILENAME:  # before it is normalised, which takes long for a long one
        raise InputInvalid("filename", f"A file's name has 1 to {_MAX_FILENAME} characters.")
    name = unicodedata.normalize("NFC", filename).replace("\\", "/").strip("/ ")
    name = "".join(char for char in name if not _is_control(char))
    if not name or len(name) > _MAX_FILENAME:
        raise InputInvalid("filename", f"A file's name has 1 to {_MAX_FILENAME} characters.")
    return name


def _check_value(key: str, value: object) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return
    if isinstance(value, float) and math.isfinite(value):
        return
    if (
        isinstance(value, str)
        and len(value) <= _MAX_TEXT
        and not _has_controls(value.translate({9: 32, 10: 32, 13: 32}))
    ):
        return
    raise InputInvalid(
        "metadata",
        f"metadata[{key!r}] must be text of at most {_MAX_TEXT} characters, a finite number, true or false: "
        "lists and objects can't be filtered by.",
    )


def _has_controls(text: str) -> bool:
    return any(_is_control(char) for char in text)


def _is_control(char: str) -> bool:
    code = ord(char)
    return code < 32 or code == 127 or 0xD800 <= code < 0xE000
