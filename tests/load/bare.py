"""The least that Python can do: raw ASGI and aiohttp pass a request on, with nothing switched on. A yardstick."""

import os

import aiohttp
from starlette.types import Receive, Scope, Send

UPSTREAM = os.environ.get("BARE_UPSTREAM", "")
_session: list[aiohttp.ClientSession] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Forward a body and stream the answer back."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    message = await receive()
    if scope["method"] == "GET":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    headers = {"content-type": "application/json"}
    async with _session[0].post(UPSTREAM + scope["path"], data=message["body"], headers=headers) as response:
        kind = response.content_type.encode()
        if response.content_length is not None:
            body = await response.read()
            length = b"%d" % len(body)
            await _start(send, [(b"content-type", kind), (b"content-length", length)])
            await send({"type": "http.response.body", "body": body})
            return
        await _start(send, [(b"content-type", kind)])
        while data := await response.content.readany():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _start(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _live(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        connector = aiohttp.TCPConnector(limit=0)
        _session.append(aiohttp.ClientSession(connector=connector, auto_decompress=False))
        await send({"type": "lifespan.startup.complete"})
    await _session.pop().close()
    await send({"type": "lifespan.shutdown.complete"})
