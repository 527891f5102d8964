"""A connection that a server closes while it is used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from retrieval.posting import posted

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def closing_server(closes: list[int], abrupt: bool) -> AsyncIterator[tuple[str, list[int]]]:
    """Closes the connection instead of answering the requests of these numbers, counted from 0 over all connections."""
    requests: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                requests.append(len(requests))
                if requests[-1] in closes:
                    if abrupt:
                        writer.transport.abort()
                    return
                writer.write(_ANSWER)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", requests


async def asked(session: aiohttp.ClientSession, url: str) -> str:
    """The answer's text, or the name of what was raised."""
    try:
        async with posted(session, url, {}) as response:
            return await response.text()
    except aiohttp.ClientError as error:
        return type(error).__name__


@pytest.mark.parametrize("abrupt", [False, True])
async def test_what_met_a_closing_connection_is_sent_once_more(abrupt: bool) -> None:
    async with closing_server([1], abrupt) as (url, requests), aiohttp.ClientSession() as session:
        assert [await asked(session, url) for _ in range(2)] == ["{}", "{}"]
    assert len(requests) == 3


async def test_a_server_that_closes_again_is_away() -> None:
    async with closing_server([1, 2], abrupt=False) as (url, requests), aiohttp.ClientSession() as session:
        assert [await asked(session, url) for _ in range(2)] == ["{}", "ServerDisconnectedError"]
    assert len(requests) == 3


async def test_what_breaks_while_the_answer_is_read_is_not_sent_again() -> None:
    async with closing_server([], abrupt=False) as (url, requests), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            async with posted(session, url, {}):
                raise aiohttp.ServerDisconnectedError
    assert len(requests) == 1
