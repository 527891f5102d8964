"""A whole gateway without index and models: its engine is the mock, and its embedding server tells of one space."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from aiohttp import web

from tests.support.gateway import Gateway, Upstream, gateway, mock_upstream
from tests.support.network import free_port

NOTHING_LISTENS = "http://127.0.0.1:9"


@contextmanager
def listed_space() -> Iterator[str]:
    """An embedding server that says what it serves, for collections to be made in. Gives: its address."""
    port, loop, stop, ready = free_port(), asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "space", "object": "model", "dimensions": 2}]})

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/v1/models", models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@contextmanager
def whole_gateway(folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[Gateway, Upstream]]:
    """Start it with these settings, on free ports of loopback."""
    with mock_upstream() as upstream, listed_space() as embedding:
        given = {"STOKER_EMBEDDING_URL": embedding, "STOKER_FETCH_ALLOW": "127.0.0.1:9", **settings}
        with gateway(folder, upstream.port, settings=given) as one:
            yield one, upstream


def caller(gate: Gateway, key: str | None = None) -> httpx.Client:
    """A client with a key, the first admin's where none is given."""
    return httpx.Client(base_url=gate.url, headers={"authorization": f"Bearer {key or gate.key}"}, timeout=30)
