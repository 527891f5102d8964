"""`python -m tests.faults.answers.model PORT`: a model that always says the same, slowly enough to be cut off."""

import asyncio
import sys

from aiohttp import web

from tests.support.openai_server import OpenAiServer

SAID = "The ferry leaves at 07:45 every day. It leaves from the eastern quay."
_PAUSE_S = 0.02  # before each word


async def _serve(port: int) -> None:
    server = OpenAiServer("words", script=lambda _name, _body: SAID, pause_s=_PAUSE_S)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
