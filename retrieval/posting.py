"""Posts to servers of ours whose work may be done twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from monitoring import tracing


@asynccontextmanager
async def posted(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any]
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to a post of JSON.

    A connection that has been idle may be closed by its server in the moment in which it is used: that is no outage,
    so what broke before an answer began is sent once more, on another connection.

    Raises: aiohttp.ClientError, OSError: the server is away, also for the second time.
    """
    told = tracing.traceparent()
    headers = {"traceparent": told} if told else None
    try:
        response = await session.post(url, json=body, headers=headers)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        if isinstance(error, aiohttp.ClientConnectorError):  # there was no connection to begin with
            raise
        response = await session.post(url, json=body, headers=headers)
    async with response:
        yield response
