"""JSON and JSON lines: `path: value` lines, a blank line between records; numbers stay as they are written."""

import json
import re
from collections.abc import Iterator
from typing import Any

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise
from retrieval.parsers.text import decode

_WHITE = re.compile(r"[\s,\x1e]*")  # between values: JSON lines, JSON sequences (RFC 7464), values joined by commas
# Numbers stay text: no digit of a large one is lost, and 1e999 is not infinity.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False)


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Read one JSON value or many, one behind the other.

    Raises: DocumentRejected: broken JSON, nested deeper than `bounds.depth`, or too long.
    """
    text = decode(data).replace("\x00", "").lstrip("\ufeff")
    blocks: list[list[str]] = [[]]
    left = bounds.characters
    for value in _values(text, bounds):
        blocks.append([])
        for path, leaf in _leaves(value, bounds):
            if leaf is None:  # a record begins or ends
                blocks.append([])
                continue
            line = f"{path}: {leaf}" if path else leaf
            left -= len(line) + 1
            if left < 0:
                raise DocumentRejected(
                    f"The text of the JSON has more than {bounds.characters:,} characters, the limit. Split the file."
                )
            blocks[-1].append(line)
    return Parsed(normalise("\n\n".join("\n".join(lines) for lines in blocks if lines)), records=True)


def _values(text: str, bounds: Bounds) -> Iterator[Any]:
    position = _end_of_white(text, 0)
    while position < len(text):
        try:
            value, position = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DocumentRejected(
                f"The JSON is broken at line {error.lineno}, column {error.colno} ({error.msg}): correct it there."
            ) from error
        except RecursionError as error:
            raise _too_deep(bounds) from error
        yield value
        position = _end_of_white(text, position)


def _end_of_white(text: str, position: int) -> int:
    match = _WHITE.match(text, position)
    return match.end() if match else position


def _leaves(root: Any, bounds: Bounds) -> Iterator[tuple[str, str | None]]:
    """(path, value) of each leaf in order, and (path, None) around each object of a list; without recursion."""
    # In a list at the top, each record speaks for itself: its number would only be noise in its lines.
    stack: list[tuple[str, Any, int, bool]] = [("", root, 0, False)]
    while stack:
        path, value, depth, is_record = stack.pop()
        if depth > bounds.depth:
            raise _too_deep(bounds)
        if isinstance(value, _End):
            yield path, None
        elif isinstance(value, dict) and value:
            if is_record:
                yield path, None
                stack.append((path, _End(), depth, False))
            stack.extend(
                (f"{path}.{_name(key)}" if path else _name(key), item, depth + 1, False)
                for key, item in reversed(value.items())
            )
        elif isinstance(value, list) and value:
            if not any(isinstance(item, dict | list) for item in value):
                yield path, ", ".join(_shown(item) for item in value)
                continue
            stack.extend(
                (f"{path}[{number}]" if path else "", value[number], depth + 1, True)
                for number in range(len(value) - 1, -1, -1)
            )
        elif isinstance(value, dict | list):
            yield path, "empty"
        else:
            yield path, _shown(value)


class _End:
    """Marks where a record ends."""


def _name(key: str) -> str:
    return " ".join(key.split())


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    return "null" if value is None else "true" if value else "false"


def _too_deep(bounds: Bounds) -> DocumentRejected:
    return DocumentRejected(f"The JSON is nested more than {bounds.depth} levels deep: flatten it.")
