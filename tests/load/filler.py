"""`python -m tests.load.filler PORT URL`: stands before an embedding server while a benchmark fills collections.

Documents get made vectors, since embedding 100,000 chunks takes an hour on a small CPU: each is a random mixture of two
vectors that the real server gave for texts of the same kind, and noise. Everything else is passed on.
"""

import asyncio
import base64
import sys

import aiohttp
import numpy as np
import orjson
from aiohttp import web

from tests.load.search import Writer

_SAMPLE = 512
_AT_ONCE = 64
_NOISE = 0.3


async def serve(port: int, url: str) -> None:
    """Serve until ended."""
    chance = np.random.default_rng(3)
    writer = Writer(11)
    async with aiohttp.ClientSession(url) as real:

        async def embedded(texts: list[str]) -> np.ndarray:
            body = {"input": texts, "model": name, "encoding_format": "float", "input_type": "document"}
            async with real.post("/v1/embeddings", json=body) as answer:
                return np.array([one["embedding"] for one in (await answer.json())["data"]], np.float32)

        async with real.get("/v1/models") as answer:
            name = (await answer.json())["data"][0]["id"]
        texts = [writer.words(24) for _ in range(_SAMPLE)]
        batches = [await embedded(texts[first : first + _AT_ONCE]) for first in range(0, _SAMPLE, _AT_ONCE)]
        sample = np.concatenate(batches)

        def made(count: int) -> np.ndarray:
            share = chance.random((count, 1))
            one, other = (sample[chance.integers(_SAMPLE, size=count)] for _ in range(2))
            noise = chance.normal(scale=_NOISE / np.sqrt(sample.shape[1]), size=one.shape)
            rows = share * one + (1 - share) * other + noise
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")

        async def embeddings(request: web.Request) -> web.Response:
            body = await request.json()
            if body.get("input_type") != "document":
                return await forward(request)
            data = [
                {"object": "embedding", "index": at, "embedding": base64.b64encode(row.tobytes()).decode()}
                for at, row in enumerate(made(len(body["input"])))
            ]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            answer = {"object": "list", "data": data, "model": name, "usage": usage}
            return web.Response(body=orjson.dumps(answer), content_type="application/json")

        async def forward(request: web.Request) -> web.Response:
            async with real.request(request.method, request.path, data=await request.read()) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/embeddings", embeddings)
        app.router.add_route("*", "/{rest:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
