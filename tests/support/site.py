"""A site on loopback that says what it was asked, with marks by which a page is known to be unchanged."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.network import free_port

OPENED_PORT = free_port()  # of loopback, at which the stack of `plain_stack` may fetch


@dataclass
class Site:
    """Pages by path: a text, bytes, or what answers.

    Attributes:
        hangs: paths that are not answered, and what is told when one is asked.
        asked: (path, status, when) of each answer.
    """

    port: int = 0
    pages: dict[str, object] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    hangs: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: list[tuple[str, int, float]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def entry(self) -> str:
        """What the operator's list must hold."""
        return f"127.0.0.1:{self.port}"

    def statuses(self, path: str) -> list[int]:
        return [status for asked, status, _ in self.asked if asked == path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.hangs:
            self.hangs[request.path].set()
            await asyncio.sleep(60)
        page = self.pages.get(request.path)
        if isinstance(page, int):
            response = web.Response(status=page)
        elif page is None:
            response = web.Response(status=404)
        else:
            data = page if isinstance(page, bytes) else str(page).replace("SITE", self.url).encode()
            mark = f'"{hashlib.sha256(data).hexdigest()}"'
            kind = self.types.get(request.path, "text/plain")
            if request.headers.get("if-none-match") == mark:
                response = web.Response(status=304)
            else:
                response = web.Response(body=data, headers={"etag": mark, "content-type": kind})
        self.asked.append((request.path, response.status, time.monotonic()))
        return response


@asynccontextmanager
async def open_site(port: int = 0) -> AsyncIterator[Site]:
    """Serve until the end, at a port or any free one."""
    site = Site()
    app = web.Application()
    app.router.add_get("/{tail:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()
