"""A client that reads no further: whoever serves its socket does not wait for it for ever."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from api.sockets import session
from api.sockets.session import SocketSession

WHO = "somebody"


class Deaf:
    """A socket whose client reads `takes` messages, says `words`, and then does neither."""

    def __init__(self, takes: int, *words: dict[str, Any]) -> None:
        self.headers = SimpleNamespace(getlist=lambda _name: [])
        self._takes = takes
        self._words = [orjson.dumps(word).decode() for word in words]

    async def accept(self) -> None: ...

    async def receive(self) -> dict[str, Any]:
        if not self._words:
            await asyncio.Event().wait()
        return {"type": "websocket.receive", "text": self._words.pop(0)}

    async def send_text(self, _text: str) -> None:
        await self._send()

    async def close(self, _code: int, _reason: str) -> None:
        await self._send()

    async def _send(self) -> None:
        self._takes -= 1
        if self._takes < 0:
            await asyncio.Event().wait()


async def known(*_: object) -> str:
    return WHO


async def events() -> AsyncIterator[str]:
    yield "delta"
    await asyncio.Event().wait()


async def answered(*_: object) -> AsyncIterator[str]:
    return events()


@pytest.mark.parametrize(
    "takes", [0, 1, 2, 3], ids=["that it is let in", "an answer", "why it ended", "that it is closed"]
)
async def test_who_reads_no_further_holds_a_socket_no_longer_than_an_answer_may_take(
    monkeypatch: pytest.MonkeyPatch, takes: int
) -> None:
    principal = SimpleNamespace(tenant_id="t", key_id="k")
    monkeypatch.setattr(session, "by_cookie", known)
    monkeypatch.setattr(session, "checked", lambda _who: asyncio.sleep(0, SimpleNamespace(principal=principal)))
    monkeypatch.setattr(session, "answered", answered)
    monkeypatch.setattr(session, "told", lambda event, _conversation: [(event, {})])
    settings = SimpleNamespace(request_deadline_s=0.05, socket_idle_s=0.05, socket_auth_s=0.05)
    state: Any = SimpleNamespace(settings=settings, identities=None, clock=time)
    socket: Any = Deaf(takes, {"type": "query", "query": "When?", "collection": "c"})
    serving = asyncio.create_task(SocketSession(state, socket).serve())
    ended, _ = await asyncio.wait({serving}, timeout=10)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert ended, "somebody still waits for a reader"
