r"""Server-sent events as bytes: where a frame ends, and what it says.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
from typing import Any

import orjson

DONE = b"[DONE]"


def frame(data: bytes) -> bytes:
    """One event."""
    return b"data: " + data + b"\n\n"


def data_of(frame: bytes) -> bytes:
    """The event's data: its `data:` lines, joined; empty where it has none, as a comment."""
    lines = (line[5:].strip() for line in frame.splitlines() if line.startswith(b"data:"))
    return b"\n".join(lines)


def frame_end(buffer: bytes, start: int, scan_from: int) -> int:
    r"""The index behind the blank line that ends the frame; -1 if it isn't there. Lines end in \n or \r\n."""
    scan_from = max(start, scan_from)
    plain = buffer.find(b"\n\n", scan_from)
    if buffer.find(b"\r", start) < 0:
        return plain + 2 if plain >= 0 else -1
    wide = buffer.find(b"\n\r\n", scan_from)
    ends = [at for at in (plain + 2 if plain >= 0 else -1, wide + 3 if wide >= 0 else -1) if at >= 0]
    return min(ends, default=-1)


def loads(data: bytes) -> Any:
    """Parse what an event says, also where it holds half of a sign beyond 16 bits: some upstreams tear these apart.

    Raises: ValueError: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if not has_halves(data):
            raise
        try:
            return json.loads(data)
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error


def dumps(value: Any) -> bytes:
    """Write JSON, also of what holds half of a sign, as `loads` reads it."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def has_halves(data: bytes) -> bool:
    """Whether JSON may hold half of a sign; a doubt is yes."""
    return rb"\ud" in data or rb"\uD" in data
