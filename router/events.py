r"""Server-sent events as bytes: where a frame ends, and what it says.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

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
