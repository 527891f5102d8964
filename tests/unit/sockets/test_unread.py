"""A connection whose client reads no further is gone some time after it has ended."""

import asyncio
import socket
from typing import Any

import pytest
import uvicorn

from api.sockets import protocol

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: gate\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FULL_BYTES = 2**20


async def fill(receive: Any, send: Any) -> None:
    """Accept a socket, and send for as long as somebody takes it."""
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await send({"type": "websocket.send", "bytes": bytes(FULL_BYTES)})


async def gives_up(_scope: Any, receive: Any, send: Any) -> None:
    """As a session does, whose answer nobody has read in time."""
    try:
        await asyncio.wait_for(fill(receive, send), 0.3)
    except TimeoutError:
        return


async def waits(_scope: Any, receive: Any, send: Any) -> None:
    """Until the pings, which nobody answers, end it."""
    await fill(receive, send)


@pytest.mark.parametrize("app", [gives_up, waits])
async def test_a_connection_that_nobody_reads_is_gone_some_time_after_its_end(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_S", 0.2)
    pings = {"ws_ping_interval": 0.3, "ws_ping_timeout": 0.1} if app is waits else {}
    config = uvicorn.Config(
        app, ws="api.sockets.protocol:Protocol", lifespan="off", log_config=None, ws_per_message_deflate=False, **pings
    )
    with socket.socket() as listening, socket.socket() as client:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        monkeypatch.setattr(server, "install_signal_handlers", lambda: None, raising=False)
        serving = asyncio.create_task(server._serve([listening]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)  # its own name for it
        loop = asyncio.get_running_loop()
        while not server.started:  # noqa: ASYNC110  # it sets no event
            await asyncio.sleep(0.01)
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, HANDSHAKE)
        await loop.sock_recv(client, 4)
        end_s = loop.time() + 10
        while server.server_state.connections and loop.time() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        left = len(server.server_state.connections)
        server.should_exit = server.force_exit = True
        await serving
    assert left == 0
