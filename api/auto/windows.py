"""Whether what is asked fits into a model's window, as far as an engine of ours says how large that is."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from api.fields import completion_bound
from core.reach import Reach
from router.counting import Counted, Messages

_KNOWN_S = 60.0  # for which an engine's window is taken for granted
_ANSWER_TOKENS = 256  # for which there has to be room where a request says nothing
_MOST_BYTES = 16  # of a token, on average of a whole text; what is larger fits however it is cut
_PARTS = ("messages", "input", "prompt", "system", "instructions", "tools", "functions")


class Counts(Protocol):
    """The router, as far as it is needed here."""

    async def count_tokens(self, group: str, messages: Messages, *, reach: Reach) -> Counted | None: ...


class Windows:
    """Remembers the windows of model groups for a while."""

    def __init__(self, router: Counts) -> None:
        self._router = router
        self._known: dict[str, tuple[int, float]] = {}  # tokens, and until when they are known

    async def fit(self, group: str, body: Mapping[str, Any], reach: Reach) -> bool:
        """Whether prompt and answer fit; also where nobody can say.

        A prompt that fits with a token for each of its bytes is not counted, nor is one that can't fit at all.

        Raises: RequestInvalid: the body's bound is no number.
        """
        text = b"\n".join(map(_words, filter(None, (body.get(name) for name in _PARTS))))
        answer = completion_bound(body) or _ANSWER_TOKENS
        window = await self._window(group, reach)
        if window is None or len(text) + answer <= window:
            return True
        if len(text) > _MOST_BYTES * window:
            return False
        counted = await self._count(group, text.decode(errors="replace"), reach)
        return counted is None or counted.tokens + answer <= counted.window

    async def _window(self, group: str, reach: Reach) -> int | None:
        window, until_s = self._known.get(group, (0, 0.0))
        if asyncio.get_running_loop().time() < until_s:
            return window
        counted = await self._count(group, "", reach)
        return None if counted is None else counted.window

    async def _count(self, group: str, text: str, reach: Reach) -> Counted | None:
        counted = await self._router.count_tokens(group, [{"role": "user", "content": text}], reach=reach)
        if counted is not None:
            self._known[group] = counted.window, asyncio.get_running_loop().time() + _KNOWN_S
        return counted


def _words(part: object) -> bytes:
    """What a model reads of a part, without the signs of JSON around the one text that most are."""
    if isinstance(part, str):
        return part.encode(errors="replace")
    if isinstance(part, list) and all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in part):
        return b"\n".join(_words(one["content"]) for one in part)
    return orjson.dumps(part)
