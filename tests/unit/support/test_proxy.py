"""What each fault of the proxy does to a connection, told by a client and a server of sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.support.proxy import Fault, Proxy, Toxic

LONG = b"0123456789" * 400


@dataclass
class Server:
    """Says what it hears, and keeps when its clients left."""

    port: int = 0
    left: list[float] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        self.left.append(time.monotonic())
        writer.close()


@asynccontextmanager
async def between() -> AsyncIterator[tuple[Server, Proxy]]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    proxy = Proxy(server.port)
    await proxy.listen()
    try:
        yield server, proxy
    finally:
        await proxy.close()
        listener.close()
        await asyncio.gather(*server.tasks)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, proxy: Proxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def echo(self, data: bytes) -> float:
        """Returns: seconds until all of it has come back."""
        began_s = time.monotonic()
        self.writer.write(data)
        assert await asyncio.wait_for(self.reader.readexactly(len(data)), 20) == data
        return time.monotonic() - began_s

    async def close(self) -> None:
        self.writer.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # sockets set no event of ours
            await asyncio.sleep(0.005)


async def test_without_a_fault_bytes_go_through_both_ways_and_a_close_is_passed_on() -> None:
    async with between() as (server, proxy):
        client = await Client.to(proxy)
        await client.echo(LONG * 100)
        await client.close()
        await until(lambda: server.left)
        assert proxy.met == {}
        assert proxy.touches == []


async def test_latency_delays_each_piece_on_connections_that_were_open() -> None:
    async with between() as (_, proxy):
        client = await Client.to(proxy)
        await client.echo(b"a")
        await proxy.begin(Toxic(Fault.LATENCY, seconds=0.1))
        assert await client.echo(b"a") >= 0.2  # there and back
        await proxy.end()
        assert proxy.met == {Fault.LATENCY: 1}
        await client.close()


async def test_latency_ends_with_the_fault() -> None:
    async with between() as (_, proxy):
        client = await Client.to(proxy)
        await proxy.begin(Toxic(Fault.LATENCY, seconds=60))
        echo = asyncio.create_task(client.echo(b"a"))
        await until(lambda: proxy.touches)
        await proxy.end()
        await echo
        await client.close()


async def test_down_refuses_closes_what_is_open_and_comes_back_on_the_same_port() -> None:
    async with between() as (_, proxy):
        client = await Client.to(proxy)
        await client.echo(b"a")
        await proxy.begin(Toxic(Fault.DOWN))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.readexactly(1), 20)
        with pytest.raises(ConnectionRefusedError):
            await Client.to(proxy)
        await proxy.end()
        again = await Client.to(proxy)
        await again.echo(b"a")
        assert proxy.met == {Fault.DOWN: 1}
        for each in (client, again):
            await each.close()


async def test_bandwidth_bounds_the_bytes_of_a_second() -> None:
    async with between() as (_, proxy):
        client = await Client.to(proxy)
        await proxy.begin(Toxic(Fault.BANDWIDTH, size_bytes=10_000))
        assert await client.echo(LONG) >= 0.3  # 4,000 bytes
        await proxy.end()
        await client.close()


async def test_slow_close_tells_the_server_late() -> None:
    async with between() as (server, proxy):
        client = await Client.to(proxy)
        await client.echo(b"a")
        await proxy.begin(Toxic(Fault.SLOW_CLOSE, seconds=0.3))
        closed_s = time.monotonic()
        await client.close()
        await until(lambda: server.left)
        assert server.left[0] - closed_s >= 0.3
        assert proxy.met == {Fault.SLOW_CLOSE: 1}


async def test_a_time_out_is_silence_and_then_a_close() -> None:
    async with between() as (_, proxy):
        client, idle = await Client.to(proxy), await Client.to(proxy)
        await idle.echo(b"a")
        await proxy.begin(Toxic(Fault.TIMEOUT))
        client.writer.write(b"a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.2)
        await proxy.end()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.readexactly(1), 20)
        await idle.echo(b"a")  # who said nothing meanwhile has met nothing
        assert proxy.met == {Fault.TIMEOUT: 1}
        for each in (client, idle):
            await each.close()


async def test_a_reset_is_a_reset_for_open_and_for_new_connections() -> None:
    async with between() as (server, proxy):
        client = await Client.to(proxy)
        await client.echo(b"a")
        await proxy.begin(Toxic(Fault.RESET))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.readexactly(1), 20)
        new = await Client.to(proxy)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(new.reader.readexactly(1), 20)
        await until(lambda: server.left)
        assert proxy.met == {Fault.RESET: 2}
        for each in (client, new):
            await each.close()


async def test_slices_are_whole_in_the_end() -> None:
    async with between() as (_, proxy):
        client = await Client.to(proxy)
        await proxy.begin(Toxic(Fault.SLICE, seconds=0.002, size_bytes=100))
        assert await client.echo(LONG) >= 0.07  # 39 pauses there, and as many back
        client.writer.write(b"x" * 250)
        assert len(await client.reader.read(65_536)) < 250
        await proxy.end()
        await client.close()


async def test_a_limit_counts_the_servers_bytes_since_the_fault_began() -> None:
    async with between() as (_, proxy):
        client = await Client.to(proxy)
        await client.echo(LONG)
        await proxy.begin(Toxic(Fault.LIMIT, size_bytes=50))
        await client.echo(b"x" * 30)
        client.writer.write(b"x" * 30)
        assert await asyncio.wait_for(client.reader.read(), 20) == b"x" * 20
        assert proxy.met == {Fault.LIMIT: 1}
        await client.close()


async def test_a_part_that_is_away_is_a_reset() -> None:
    async with between() as (server, _):
        pass
    proxy = Proxy(server.port)
    await proxy.listen()
    client = await Client.to(proxy)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client.reader.readexactly(1), 20)
    await client.close()
    await proxy.close()
