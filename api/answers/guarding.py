"""The chunks of a chat whose model has read documents, without links that may not be shown and without hidden text."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from api.answers.deltas import no_chunk
from api.answers.links import LinkBuffer, Links
from core.visible import without_hidden

Chunk = Mapping[str, Any]
_SAID = ("content", "reasoning_content", "reasoning", "refusal")


async def guarded(chunks: AsyncIterator[Chunk], links: Links) -> AsyncIterator[Chunk]:
    """The same chunks; the end of a text that may become a link comes with what follows it.

    Raises: StreamBroken: as the chunks do, or one of them is none.
    """
    guard = _Guard(links)
    async for chunk in chunks:
        try:
            for passed in guard.of(chunk):
                yield passed
        except (AttributeError, TypeError) as error:
            raise no_chunk() from error
    for passed in guard.rest():
        yield passed


class _Guard:
    def __init__(self, links: Links) -> None:
        self._links = links
        self._held: dict[str, LinkBuffer] = {}

    def of(self, chunk: Chunk) -> list[Chunk]:
        """What is passed on of a chunk, after what waited and is over with it."""
        choices = list(chunk.get("choices") or ())
        deltas = [choice.get("delta") or {} for choice in choices]
        said = {name for delta in deltas for name in _SAID if isinstance(delta.get(name), str) and delta[name]}
        calls = any(delta.get("tool_calls") for delta in deltas)
        over = [] if not said and not calls else self._flush({name for name in self._held if name not in said})
        passed = [
            {**choice, "delta": {**delta, **{name: self._add(name, delta[name]) for name in said & delta.keys()}}}
            for choice, delta in zip(choices, deltas, strict=True)
        ]
        return [*over, {**chunk, "choices": passed} if said else chunk]

    def rest(self) -> list[Chunk]:
        """What waited when the stream has ended."""
        return self._flush(set(self._held))

    def _add(self, name: str, text: str) -> str:
        return self._held.setdefault(name, LinkBuffer(self._links)).add(without_hidden(text))

    def _flush(self, names: set[str]) -> list[Chunk]:
        rests = [(name, self._held.pop(name).rest()) for name in sorted(names)]
        return [{"choices": [{"index": 0, "delta": {name: rest}}]} for name, rest in rests if rest]
