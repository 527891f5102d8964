"""The text in a streamed chat completion."""

from collections.abc import AsyncIterator

import orjson


class StreamBroken(Exception):
    """The upstream ended the stream with an error event instead of a finished answer."""


async def texts(frames: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Read the content deltas out of server-sent events, however they are cut into pieces.

    Raises: StreamBroken: an error event, or an end without `[DONE]`.
    """
    buffer = b""
    async for piece in frames:
        buffer += piece
        while (cut := buffer.find(b"\n\n")) >= 0:
            event, buffer = buffer[:cut], buffer[cut + 2 :]
            if not event.startswith(b"data:"):
                continue
            data = event[5:].strip()
            if data == b"[DONE]":
                return
            for text in _contents(data):
                yield text
    raise StreamBroken("the stream ended before the answer did")


def _contents(data: bytes) -> list[str]:
    """The content of an event's choices. Raises: StreamBroken: it is an error, or no chunk of a chat."""
    try:
        chunk = orjson.loads(data)
        if "error" in chunk:
            raise StreamBroken(str(chunk["error"].get("message", "the upstream failed")))
        contents = [choice.get("delta", {}).get("content") for choice in chunk.get("choices") or ()]
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:  # the router looks into few frames
        raise StreamBroken("the upstream sent an event that is no chunk of a chat") from error
    return [text for text in contents if isinstance(text, str) and text]
