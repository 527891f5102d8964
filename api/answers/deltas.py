"""What is said in a streamed chat completion."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from api.answers.pairs import Pairs
from router.events import DONE, data_of, frame_end, has_halves, loads


class StreamBroken(Exception):
    """The upstream ended the stream with an error event instead of a finished answer."""


async def texts(frames: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The content deltas. Raises: StreamBroken, as `chunks` does."""
    async for chunk in chunks(frames):
        try:
            contents = [choice.get("delta", {}).get("content") for choice in chunk.get("choices") or ()]
        except (AttributeError, TypeError) as error:
            raise no_chunk() from error
        for text in contents:
            if isinstance(text, str) and text:
                yield text


async def chunks(frames: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """Read the chunks out of server-sent events, however they are cut into pieces.

    Raises: StreamBroken: an error event, an event that is no chunk, or an end without `[DONE]`.
    """
    buffer, pairs = b"", Pairs()
    async for piece in frames:
        buffer += piece
        while (end := frame_end(buffer, 0, 0)) >= 0:
            event, buffer = buffer[:end], buffer[end:]
            data = data_of(event)
            if data == DONE:
                return
            if data:
                yield _chunk(data, pairs)
    raise StreamBroken("the stream ended before the answer did")


def no_chunk() -> StreamBroken:
    """An event is something else than what a chat sends; the router looks into few of them."""
    return StreamBroken("the upstream sent an event that is no chunk of a chat")


def _chunk(data: bytes, pairs: Pairs) -> Mapping[str, Any]:
    """Raises: StreamBroken: it is an error, or no chunk of a chat."""
    try:
        chunk = loads(data)
        if chunk.get("error"):
            raise StreamBroken(str(chunk["error"].get("message", "the upstream failed")))
        if pairs or has_halves(data):
            pairs.join(chunk)
    except (ValueError, AttributeError, TypeError) as error:
        raise no_chunk() from error
    if not isinstance(chunk, dict):
        raise no_chunk()
    return chunk
