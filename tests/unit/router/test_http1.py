"""The connections to engines, with a transport that only notes what it is told."""

import asyncio
from typing import Any, cast

from router.http1 import Client, Connection, Origin

_LONG = 300_000  # more than is held before a connection is told to wait


class Transport:
    """Notes whether it reads."""

    def __init__(self) -> None:
        self.reading = True

    def write(self, _data: bytes) -> None:
        return

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


async def test_a_connection_whose_answer_came_whole_reads_for_whoever_has_it_next() -> None:
    """The end came with the bytes that made it wait, and the next answer was never read."""
    client = Client(60.0)
    connection = Connection(client, Origin.of("http://127.0.0.1:9"))
    transport = Transport()
    connection.connection_made(cast(asyncio.BaseTransport, cast(Any, transport)))
    asked = asyncio.create_task(connection.ask(b"", b""))
    await asyncio.sleep(0)
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {_LONG}\r\n\r\n".encode()
    connection.data_received(head + b"x" * 1000)
    response = await asked
    connection.data_received(b"x" * (_LONG - 1000))
    assert transport.reading
    assert len(await response.body()) == _LONG
    assert transport.reading


async def test_a_connection_whose_answer_goes_on_waits_for_its_reader() -> None:
    connection = Connection(Client(60.0), Origin.of("http://127.0.0.1:9"))
    transport = Transport()
    connection.connection_made(cast(asyncio.BaseTransport, cast(Any, transport)))
    asked = asyncio.create_task(connection.ask(b"", b""))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"x" * _LONG)
    response = await asked
    assert not transport.reading
    assert len(await response.read()) == _LONG
    assert transport.reading
