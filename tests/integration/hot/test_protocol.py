"""A slow client holds no place for ever: the head of a request has its time, its body another."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from api.hot import protocol

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"


async def _read_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await PlainTextResponse("read")(scope, receive, send)


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    config = uvicorn.Config(_read_all, http=protocol.Protocol, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol.Protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1]
    server.close()
    for connection in list(state.connections):
        connection.shutdown()


async def _sent_slowly(port: int, pieces: list[bytes], pause_s: float = 0.05) -> bytes:
    """Send pieces with a pause after each. Returns: the first 12 bytes that come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(reader.read(12))
    try:
        async with asyncio.timeout(5):
            for piece in pieces:
                if not reading.done():
                    writer.write(piece)
                    await asyncio.sleep(pause_s)
            return await reading
    finally:
        reading.cancel()
        writer.close()


@pytest.mark.parametrize("sent", [b"", HEAD[:20], HEAD[:-2]], ids=["nothing", "a line", "all but its end"])
async def test_a_head_that_does_not_come_in_time_closes_the_connection(port: int, sent: bytes) -> None:
    assert await _sent_slowly(port, [sent]) == b"HTTP/1.1 431"


async def test_a_head_that_comes_drop_by_drop_has_no_more_time(port: int) -> None:
    drops = [HEAD[at : at + 1] for at in range(len(HEAD) - 1)]
    assert await _sent_slowly(port, drops) == b"HTTP/1.1 431"


async def test_a_body_may_come_later_than_a_head(port: int) -> None:
    assert await _sent_slowly(port, [HEAD + b"a", b"b"], pause_s=0.5) == b"HTTP/1.1 200"


async def test_the_next_head_on_a_kept_connection_has_its_time_too(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(5):
            for _ in range(2):
                writer.write(HEAD + b"ab")
                assert (await reader.readuntil(b"read")).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0.5)  # idle: nobody is at a head
            writer.write(HEAD[:20])
            assert (await reader.read(12)) == b"HTTP/1.1 431"
    finally:
        writer.close()
