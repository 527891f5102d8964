"""Model answers that are told again."""

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from api.caching.cache import Hit
from api.hot.cache import Copies
from core.principal import Principal, Role
from core.reach import ANYWHERE
from router.router import Call

DONE = b"data: [DONE]"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"], ids=["lf", "crlf"])
async def test_a_stream_is_told_again_byte_for_byte_whatever_ends_its_lines(end: bytes) -> None:
    """An upstream whose lines end in CRLF had its answer kept, and an empty stream told from then on."""
    said = b"data: {}" + end + DONE + end
    told: list[bytes] = []

    async def look(_name: Any) -> Hit:
        return Hit(orjson.dumps({"nano_usd": 1, "said": said.decode()}).decode(), 0.0)

    async def piece(body: bytes, *, more: bool = True) -> None:
        told.append(body)

    cache: Any = SimpleNamespace(look=look)
    exchange: Any = SimpleNamespace(start=lambda *_: None, piece=piece)
    metered: Any = SimpleNamespace(served=lambda _: None)
    call = Call("chat.completions", "m", {"model": "m"}, stream=True, reach=ANYWHERE, request_id="r", tenant="t")
    copies = Copies(cache, Principal("t", "k", Role.MEMBER), "/v1/chat/completions", call, "m", None, 60.0)
    assert await copies.tell(exchange, metered, [])
    assert b"".join(told) == said
    assert told[:2] == [b"data: {}" + end, DONE + end]
