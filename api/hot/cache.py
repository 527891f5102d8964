"""Model requests that ask for the cache: what an upstream said to the very same request, told again byte for byte."""

import re
from typing import Any

import orjson

from api.caching.cache import Cache, Flight, Hit
from api.caching.name import Name, name_of
from api.errors import NotSupportedYet, RequestInvalid
from api.hot.exchange import Exchange, Headers
from api.metering import Metered
from core.principal import CacheWish, Principal
from router.router import Answer, Call

_TOOLS = ("tools", "functions", "tool_choice", "function_call")  # what is said then may be acted upon
_STREAM = b"text/event-stream; charset=utf-8"
_FRAME = re.compile(rb".+?(?:\n\r?\n|\Z)", re.DOTALL)  # as upstreams write them: lines end in \n or \r\n


def cache_wish(body: dict[str, Any], usual: CacheWish) -> CacheWish:
    """Take the field `cache` out of a request's body; without one, or null, it is as usual.

    Raises: RequestInvalid, NotSupportedYet.
    """
    asked = body.pop("cache", None)
    if asked is None:
        return usual
    if asked == "semantic" and body.get("retrieval") is None:
        message = "semantic is only for answers from documents: send retrieval, or ask for exact"
        raise NotSupportedYet(message, "cache")
    if asked not in ("exact", "semantic", "off"):
        raise RequestInvalid("cache is exact, semantic or off", "cache")
    return CacheWish(asked)


class Copies:
    """The cache as one model request uses it.

    Args:
        by: the group that answers it.
        guards: what looks at the group's texts, as the router names it.
        ttl_s: for which its answer is kept.
    """

    def __init__(
        self, cache: Cache, principal: Principal, route: str, call: Call, by: str, guards: str | None, ttl_s: float
    ) -> None:
        self._cache = cache
        self._name = _name(principal, route, call, by, guards)
        self._call = call
        self._ttl_s = ttl_s
        self._flight: Flight | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0

    async def tell(self, exchange: Exchange, metered: Metered, headers: Headers) -> bool:
        """Answer with an entry. Returns: whether there was one; else the request is to go its way."""
        found = None if any(self._call.body.get(name) for name in _TOOLS) else await self._cache.look(self._name)
        if not isinstance(found, Hit):
            self._flight = found
            return False
        entry = orjson.loads(found.body)
        metered.served(entry["nano_usd"])
        headers = [*headers, (b"x-cache", b"exact")]
        body = entry["said"].encode()
        if self._call.stream:
            exchange.start(200, _STREAM, [*headers, (b"cache-control", b"no-cache")])
            for frame in _FRAME.finditer(body):
                await exchange.piece(frame.group())
            await exchange.piece(b"", more=False)
        else:
            await exchange.whole(200, body, headers)
        return True

    @property
    def header(self) -> tuple[bytes, bytes]:
        """What the answer's header says, where no entry was told."""
        return b"x-cache", b"bypass" if self._flight is None else b"miss"

    def add(self, piece: bytes) -> None:
        """A piece of the answer is being sent."""
        self._bytes += len(piece)
        if self._bytes <= self._cache.bounds.entry_bytes:
            self._pieces.append(piece)

    def end(self, answer: Answer, metered: Metered) -> None:
        """The answer has ended: keep what was sent, if it is whole, and all of it of the group that was asked for."""
        if self._flight is None:
            return
        if answer.broken or answer.by_others or self._bytes > self._cache.bounds.entry_bytes:
            self._flight.leave(barren=True)
            return
        try:
            said = b"".join(self._pieces).decode()
        except UnicodeDecodeError:
            self._flight.leave(barren=True)
            return
        self._flight.keep(orjson.dumps({"nano_usd": metered.nano_usd, "said": said}).decode(), self._ttl_s)

    def close(self) -> None:
        """Whatever happened: nobody waits for this request any more."""
        if self._flight is not None:
            self._flight.leave()


def _name(principal: Principal, route: str, call: Call, by: str, guards: str | None) -> Name:
    seen = {} if guards is None else {"guards": guards}
    return name_of(principal, "chat", {"route": route, "group": by, "body": call.body, **seen})
