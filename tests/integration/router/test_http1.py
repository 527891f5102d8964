"""The native lane's client against servers that behave badly, one answer at a time over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from router.http1 import Broken, Client, ConnectFailed, Origin
from tests.support.network import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Origin]:
    tasks: set[asyncio.Task[None]] = set()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass  # the client cut it
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    try:
        yield Origin.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def client(idle_s: float = 4.0) -> AsyncIterator[Client]:
    made = Client(idle_s)
    try:
        yield made
    finally:
        await made.aclose()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
async def test_an_answer_is_the_same_however_its_bytes_are_cut(cut: int) -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=x\r\nRetry-After: 7\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\ntrailer: x\r\n\r\n"
    )
    seen = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            seen.append(await request_of(reader))
            for at in range(0, len(answer), cut):
                writer.write(answer[at : at + cut])
                await writer.drain()
                await asyncio.sleep(0)

    async with serving(handler) as origin, client() as made:
        for _ in range(2):
            response = await made.post(origin, "/chat", b"x: y\r\n", b"{}", 1.0)
            assert (response.status, response.content_type, response.retry_after) == (200, "text/event-stream", "7")
            assert await response.body() == b"hello world"
            assert await response.read() == b""
        assert made.connections == 1
    assert seen[0].startswith(b"POST /v1/chat HTTP/1.1\r\nhost: 127.0.0.1:")
    assert seen[0].endswith(b"\r\ncontent-length: 2\r\nx: y\r\n\r\n{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["nothing", "half a head", "another protocol", "headers without end"],
)
async def test_what_is_no_answer_is_broken(answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        await writer.drain()

    async with serving(handler) as origin, client() as made:
        with pytest.raises(Broken):
            await made.post(origin, "/", b"", b"{}", 1.0)
        await asyncio.sleep(0.05)
        assert made.connections == 0


@pytest.mark.parametrize("body", [b"content-length: 10\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhel"])
async def test_a_body_that_is_cut_is_broken_and_its_beginning_is_not_lost(body: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + body)
        await writer.drain()

    async with serving(handler) as origin, client() as made:
        response = await made.post(origin, "/", b"", b"{}", 1.0)
        assert (await response.read()).startswith(b"hel")
        with pytest.raises(Broken):
            await response.read()


async def test_silence_ends_a_read_at_its_limit_and_the_next_one_waits_anew() -> None:
    go_on = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")
        await go_on.wait()
        writer.write(b"b")
        await writer.drain()
        await asyncio.sleep(5)

    async with serving(handler) as origin, client() as made:
        response = await made.post(origin, "/", b"", b"{}", 1.0)
        loop = asyncio.get_running_loop()
        assert await response.read(30.0) == b"a"  # its timer is armed far ahead, the next one's is not
        began_s = loop.time()
        with pytest.raises(TimeoutError):
            await response.read(0.2)
        assert 0.19 <= loop.time() - began_s < 5
        go_on.set()
        assert await response.read(5.0) == b"b"
        assert await response.read(5.0) == b""


async def test_a_reader_who_is_slow_holds_the_server_back_and_gets_everything() -> None:
    size, written = 8 * 1024 * 1024, 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(b"x" * 65536)
            written += 65536
            await writer.drain()

    async with serving(handler) as origin, client() as made:
        response = await made.post(origin, "/", b"", b"{}", 1.0)
        await asyncio.sleep(0.5)
        assert written < size  # kernel buffers and ours hold the rest back
        assert len(await response.body()) == size


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with serving(handler) as origin, client() as made:
        for _ in range(3):
            response = await made.post(origin, "/", b"", b"{}", 1.0)
            assert await response.body() == b"ok"
            await asyncio.sleep(0.05)
    assert connections == 3


async def test_an_idle_connection_is_not_kept_beyond_its_time() -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()

    async def ask(made: Client, origin: Origin) -> None:
        assert await (await made.post(origin, "/", b"", b"{}", 1.0)).body() == b"ok"

    async with serving(handler) as origin, client(idle_s=0.2) as made:
        await ask(made, origin)
        await ask(made, origin)
        assert connections == 1
        await asyncio.sleep(0.3)
        await ask(made, origin)
        assert connections == 2


async def test_leaving_early_cuts_the_connection_and_finishing_keeps_it() -> None:
    cut = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        await writer.drain()
        assert await reader.read() == b""
        cut.set()

    async with serving(handler) as origin, client() as made:
        response = await made.post(origin, "/", b"", b"{}", 1.0)
        assert await response.read() == b"half"
        response.close()
        async with asyncio.timeout(5):
            await cut.wait()
        response.close()


async def test_where_nobody_listens_nothing_is_sent() -> None:
    async with client() as made:
        with pytest.raises(ConnectFailed):
            await made.post(Origin.of(f"http://127.0.0.1:{free_port()}"), "/", b"", b"{}", 1.0)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a/v1/", Origin("a", 80, tls=False, prefix="/v1", host_header=b"a")),
        ("https://u:p@b:8443", Origin("b", 8443, tls=True, prefix="", host_header=b"b:8443")),
        ("http://[::1]:9/v1", Origin("::1", 9, tls=False, prefix="/v1", host_header=b"[::1]:9")),
    ],
)
def test_an_address_is_read_once(url: str, expected: Origin) -> None:
    assert Origin.of(url) == expected


@pytest.mark.parametrize("url", ["ftp://a", "http://", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no HTTP address"):
        Origin.of(url)
