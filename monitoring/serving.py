"""`/metrics` and `/health` of a process that serves nothing else: keeper or ingestion worker in a pod of its own.

Served by the process's own event loop: one that hangs does not answer.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from monitoring.metrics import exposition
from monitoring.tally import tally

_ELSEWHERE = b"# Counted in the folder PROMETHEUS_MULTIPROC_DIR, of which the gateway tells.\n"


@asynccontextmanager
async def serving(host: str, port: int | None) -> AsyncIterator[None]:
    """Serve until the block ends; without a port do nothing.

    Where processes share a folder of metrics, `/metrics` names none: the gateway's tells of all of them, and what two
    targets told would be summed twice.

    Raises: SystemExit: the address can't be listened on.
    """
    if port is None:
        yield
        return
    app = web.Application()
    app.add_routes([web.get("/metrics", _metrics), web.get("/health", _health)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SystemExit(f"STOKER_METRICS_PORT: nobody can listen on {host}:{port}: {error}") from error
        yield
    finally:
        await runner.cleanup()


async def _metrics(_: web.Request) -> web.Response:
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return web.Response(body=_ELSEWHERE, headers={"content-type": CONTENT_TYPE_LATEST})
    tally.flush()
    text, media_type = await asyncio.to_thread(exposition)
    return web.Response(body=text, headers={"content-type": media_type})


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
