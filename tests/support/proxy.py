"""Stands between two parts and does to their connections what networks do: the eight faults that Toxiproxy knows.

A proxy runs in the thread of its `Network`; tests, whether they have an event loop or not, begin and end its faults.
A fault meets connections that are open already as well as new ones, and the proxy counts what it has met.
"""

import asyncio
import contextlib
import enum
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_PIECE_BYTES = 65_536
_LINGER_NONE = struct.pack("ii", 1, 0)  # close by a reset
_TICK_S = 0.02  # for which bytes of a narrow line are gathered


class Fault(enum.Enum):
    """What becomes of the connections."""

    LATENCY = "each piece comes late"
    DOWN = "nobody listens, and what was open is closed"
    BANDWIDTH = "so many bytes a second"
    SLOW_CLOSE = "the other end hears of a close late"
    TIMEOUT = "silence; at its end the connections that were silent are closed"
    RESET = "every connection is reset"
    SLICE = "small pieces with pauses in between"
    LIMIT = "closed after so many bytes from the server"


@dataclass(frozen=True, slots=True)
class Toxic:
    """A fault and how bad it is.

    Attributes:
        seconds: LATENCY: of each piece; SLOW_CLOSE: until the close is passed on; SLICE: between pieces.
        size_bytes: BANDWIDTH: a second; SLICE: of a piece; LIMIT: that pass on each connection.
    """

    fault: Fault
    seconds: float = 0.0
    size_bytes: int = 0


MILD = {
    Fault.LATENCY: Toxic(Fault.LATENCY, seconds=0.1),
    Fault.DOWN: Toxic(Fault.DOWN),
    Fault.BANDWIDTH: Toxic(Fault.BANDWIDTH, size_bytes=20_000),
    Fault.SLOW_CLOSE: Toxic(Fault.SLOW_CLOSE, seconds=2.0),
    Fault.TIMEOUT: Toxic(Fault.TIMEOUT),
    Fault.RESET: Toxic(Fault.RESET),
    Fault.SLICE: Toxic(Fault.SLICE, seconds=0.001, size_bytes=64),
    Fault.LIMIT: Toxic(Fault.LIMIT, size_bytes=600),
}
"""What parts are to live with."""


_NONE = Toxic(Fault.LATENCY)


@dataclass(eq=False)
class Link:
    """One connection and its other half.

    Attributes:
        seen: the fault that has met it, so that each is counted once.
        passed: bytes from the server since the fault began.
        silenced: it holds bytes that never went on.
    """

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    seen: Toxic | None = None
    passed: int = 0
    silenced: bool = False

    def reset(self) -> None:
        """Close both halves by a reset."""
        for writer in (self.client, self.server):
            if writer is None:
                continue
            with contextlib.suppress(OSError, ValueError):  # closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            writer.transport.abort()

    def close(self) -> None:
        """Close both halves behind what was written."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()


@dataclass
class Proxy:
    """Listens on a port of its own and passes on to the address of a part.

    Args:
        address: a port of 127.0.0.1, or the path of a Unix socket.

    Attributes:
        met: connections that each fault has met.
        touches: readings of the monotonic clock at which a fault did something to bytes or connections.
    """

    address: int | str
    name: str = ""
    met: Counter[Fault] = field(default_factory=Counter)
    touches: list[float] = field(default_factory=list)
    port: int = 0
    toxic: Toxic | None = None

    def __post_init__(self) -> None:
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._changed = asyncio.Event()
        self._listener: asyncio.Server | None = None
        # The port stays ours while nobody listens: one socket is bound to it and never listens.
        self._held = _bound(0)
        self.port = self._held.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, sock=_bound(self.port), limit=_PIECE_BYTES)

    async def begin(self, toxic: Toxic) -> None:
        """Have a fault from now on, in place of the one before."""
        self.toxic = toxic
        for link in self._links:
            link.passed = 0
        self._tell()
        if toxic.fault in (Fault.DOWN, Fault.RESET):
            if toxic.fault is Fault.DOWN and self._listener is not None:
                self._listener.close()
                self._listener = None
            for link in list(self._links):
                self._touch(link)
                link.reset()

    async def end(self) -> None:
        """Be a good network again."""
        self.toxic = None
        self._tell()
        for link in list(self._links):
            if link.silenced:
                link.reset()
        if self._listener is None:
            await self.listen()

    async def close(self) -> None:
        """Listen no more, and close every connection."""
        if self._listener is not None:
            self._listener.close()
        for link in list(self._links):
            link.reset()
        tasks = [task for task in self._tasks if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.close()

    def _tell(self) -> None:
        """Wake who waits for the fault to change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _touch(self, link: Link) -> None:
        toxic = self.toxic
        if toxic is None:
            return
        self.touches.append(time.monotonic())
        if link.seen is not toxic:
            link.seen = toxic
            self.met[toxic.fault] += 1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, link = asyncio.current_task(), Link(writer)
        self._tasks.add(task)
        self._links.add(link)
        try:
            if self.toxic is not None and self.toxic.fault is Fault.RESET:
                self._touch(link)
                link.reset()
                return
            there, link.server = await self._connect()
            await asyncio.gather(self._pump(link, reader, link.server), self._pump(link, there, writer, answers=True))
        except OSError:  # the part is away, or either end has gone
            link.reset()
        finally:
            link.close()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.address, str):
            return await asyncio.open_unix_connection(self.address, limit=_PIECE_BYTES)
        return await asyncio.open_connection("127.0.0.1", self.address, limit=_PIECE_BYTES)

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        """Pass on in one direction until either end closes."""
        while data := await reader.read(_PIECE_BYTES):
            await self._pass(link, data, writer, answers=answers)
        toxic = self.toxic
        if toxic is not None and toxic.fault is Fault.SLOW_CLOSE:
            self._touch(link)
            await self._wait(toxic.seconds)
        link.close()

    async def _pass(self, link: Link, data: bytes, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        toxic = self.toxic or _NONE
        match toxic.fault:
            case Fault.TIMEOUT:
                self._touch(link)
                link.silenced = True
                await self._until_changed(toxic)
                return  # its bytes are lost, and so is the connection
            case Fault.LATENCY if toxic.seconds:
                self._touch(link)
                await self._wait(toxic.seconds)
            case Fault.BANDWIDTH:
                data = await self._narrow(link, data, writer, toxic, max(1, int(toxic.size_bytes * _TICK_S)), _TICK_S)
            case Fault.SLICE:
                data = await self._narrow(link, data, writer, toxic, toxic.size_bytes, toxic.seconds)
            case Fault.LIMIT if answers:
                left = max(0, toxic.size_bytes - link.passed)
                link.passed += len(data)
                if len(data) > left:
                    self._touch(link)
                    writer.write(data[:left])
                    link.close()
                    raise ConnectionAbortedError
        writer.write(data)
        await writer.drain()

    async def _narrow(
        self, link: Link, data: bytes, writer: asyncio.StreamWriter, toxic: Toxic, piece: int, pause_s: float
    ) -> bytes:
        """Write a piece after the other. Returns: what is left when the fault has ended."""
        self._touch(link)
        while len(data) > piece and self.toxic is toxic:
            writer.write(data[:piece])
            await writer.drain()
            data = data[piece:]
            await asyncio.sleep(pause_s)
        return data

    async def _until_changed(self, toxic: Toxic) -> None:
        while self.toxic is toxic:
            await self._changed.wait()

    async def _wait(self, seconds: float) -> None:
        """Wait, but no longer than the fault lasts."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


class Network:
    """The proxies of a test, in a thread of their own; open it with `network`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._proxies: list[Proxy] = []

    def before(self, address: int | str, name: str = "") -> Proxy:
        """Put a proxy before a part."""

        async def make() -> Proxy:
            proxy = Proxy(address, name)
            await proxy.listen()
            return proxy

        proxy: Proxy = self.run(make())
        self._proxies.append(proxy)
        return proxy

    @contextmanager
    def faulty(self, toxic: Toxic, *proxies: Proxy) -> Iterator[None]:
        """Have the fault in these while the block runs."""
        for proxy in proxies:
            self.run(proxy.begin(toxic))
        try:
            yield
        finally:
            for proxy in proxies:
                self.run(proxy.end())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def close(self) -> None:
        for proxy in self._proxies:
            self.run(proxy.close())


@contextmanager
def network() -> Iterator[Network]:
    """Proxies until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = Network(loop)
    try:
        yield made
    finally:
        made.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _bound(port: int) -> socket.socket:
    """A socket on the port, beside another one of this process that does not listen."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
