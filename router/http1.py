"""A small HTTP/1.1 client for engines of our own: kept connections, bytes as they come, a fraction of a library's cost.

It does what the native lane and the watch need and no more: POST with a body at hand, GET, answers by length or in
chunks, TLS. httptools (Node's llhttp) parses. Redirects, cookies, compression and proxies are not its business.
"""

import asyncio
import ssl
import time
from collections import deque
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httptools

_HIGH_WATER = 256 * 1024  # bytes unread at which an upstream is held back
_MAX_HEAD = 64 * 1024


class ConnectFailed(Exception):
    """No connection could be made."""


class Broken(Exception):
    """The connection or the protocol broke in the middle."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server is, read once from its address."""

    host: str
    port: int
    tls: bool
    prefix: str
    host_header: bytes

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Read `http://host:port/prefix`. Raises: ValueError: it has no host or a bad port."""
        parts: SplitResult = urlsplit(url)
        if not parts.hostname or parts.scheme not in ("http", "https"):
            raise ValueError(f"{url} is no HTTP address")
        tls = parts.scheme == "https"
        netloc = parts.netloc.rpartition("@")[2]
        port = parts.port or (443 if tls else 80)
        encoding = "ascii" if "[" in netloc else "idna"  # brackets: an IPv6 address
        return cls(parts.hostname, port, tls, parts.path.rstrip("/"), netloc.encode(encoding))


class Client:
    """Holds idle connections by origin; make it inside a running event loop.

    Args:
        idle_s: how long a connection is kept that nobody uses; shorter than the servers keep it.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._idle: dict[Origin, deque[Connection]] = {}
        self._open: set[Connection] = set()
        self._tls: ssl.SSLContext | None = None

    async def post(self, origin: Origin, path: str, head: bytes, body: bytes, connect_s: float) -> "Response":
        """Send a request; returns once the answer's head is there.

        Args:
            head: further header lines, each ended by CRLF.
            connect_s: for the connection alone; the caller bounds the rest.

        Raises:
            ConnectFailed: nothing was sent.
            Broken: the server closed before it answered, or speaks no HTTP.
        """
        length = b"content-length: %d\r\n" % len(body)
        return await self._ask(origin, _request(b"POST", origin, path, length + head), body, connect_s)

    async def get(self, origin: Origin, path: str, head: bytes, connect_s: float) -> "Response":
        """The same without a body."""
        return await self._ask(origin, _request(b"GET", origin, path, head), b"", connect_s)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def aclose(self) -> None:
        for connection in list(self._open):
            connection.close()
        await asyncio.sleep(0)  # transports close in the loop's next round

    async def _ask(self, origin: Origin, request: bytes, body: bytes, connect_s: float) -> "Response":
        connection = self._take(origin) or await self._connect(origin, connect_s)
        try:
            return await connection.ask(request, body)
        except BaseException:
            connection.close()
            raise

    def _take(self, origin: Origin) -> "Connection | None":
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()  # the one used last is the likeliest to live
            if connection.usable(time.monotonic() - self._idle_s):
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin, connect_s: float) -> "Connection":
        tls = None
        if origin.tls:
            tls = self._tls = self._tls or ssl.create_default_context()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin),
                    origin.host,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
        except TimeoutError as error:
            raise ConnectFailed("did not accept a connection in time") from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed("can't be reached") from error
        return connection

    def _opened(self, connection: "Connection") -> None:
        self._open.add(connection)

    def _closed(self, connection: "Connection") -> None:
        self._open.discard(connection)

    def _release(self, connection: "Connection") -> None:
        """Keep a connection whose answer is whole; those idle for too long go meanwhile."""
        idle = self._idle.setdefault(connection.origin, deque())
        oldest = time.monotonic() - self._idle_s
        while idle and not idle[0].usable(oldest):
            idle.popleft().close()
        idle.append(connection)


def _request(method: bytes, origin: Origin, path: str, head: bytes) -> bytes:
    """The request without its body."""
    target = origin.prefix.encode() + path.encode()
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, target, origin.host_header, head)


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, client: Client, origin: Origin) -> None:
        self._client = client
        self.origin = origin
        self._transport: asyncio.Transport | None = None
        self._released_s = 0.0
        self._response: Response | None = None
        self._parser = httptools.HttpResponseParser(self)

    def usable(self, since_s: float) -> bool:
        """Whether it is open and was released after `since_s`."""
        return self._transport is not None and not self._transport.is_closing() and self._released_s > since_s

    async def ask(self, request: bytes, body: bytes) -> "Response":
        """Send, and wait for the head. Raises: Broken."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Broken("closed before the request was sent")
        self._parser = httptools.HttpResponseParser(self)
        response = self._response = Response(self)
        # A large body goes by itself: joining it would copy it.
        if len(body) < _HIGH_WATER:
            transport.write(request + body)
        else:
            transport.write(request)
            transport.write(body)
        await response.head()
        return response

    def close(self) -> None:
        """Cut the connection at once, on which an engine aborts the request."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport, but acts as one
        self._client._opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._client._closed(self)
        if self._response is not None:
            self._response.lost()

    def data_received(self, data: bytes) -> None:
        if self._response is None:
            self.close()  # an idle connection has nothing to say
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._response.fail(Broken(f"speaks no HTTP: {error}"))
            self.close()
        else:
            if self._response is not None:
                self._response.arrived()

    # httptools calls these
    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None:
            self._response.add_header(name, value)

    def on_headers_complete(self) -> None:
        if self._response is not None:
            self._response.begin(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        if self._response is not None:
            self._response.add(body)

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or response.status < 200:
            return  # 100 Continue and its kin announce another answer
        self._response = None
        response.finish()
        if self._parser.should_keep_alive():
            self._released_s = time.monotonic()
            self._client._release(self)
        else:
            self.close()


class Response:
    """An answer: its head is there, its body comes.

    Attributes:
        status: of HTTP.
        content_type: without parameters, in lower case.
        retry_after: that header; None where it is missing.
    """

    __slots__ = (
        "_connection",
        "_deadline_s",
        "_done",
        "_error",
        "_head_bytes",
        "_parts",
        "_paused",
        "_size",
        "_timer",
        "_waiter",
        "content_type",
        "retry_after",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self._size = 0
        self._head_bytes = 0
        self._done = False
        self._paused = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_s = 0.0
        self.status = 0
        self.content_type = ""
        self.retry_after: str | None = None

    async def head(self) -> None:
        """Wait for status and headers. Raises: Broken."""
        while self.status < 200:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def read(self, limit_s: float | None = None) -> bytes:
        """What has come since the last read, waiting for some; empty at the end.

        Args:
            limit_s: how long to wait; None: for ever.

        Raises:
            TimeoutError: nothing came in time.
            Broken: the connection was lost before the end.
        """
        while not self._parts:
            if self._done:
                return b""
            if self._error is not None:
                raise self._error
            if limit_s is not None:
                self._arm(limit_s)
            await self._wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._connection.resume()
        return data

    async def body(self, max_bytes: int | None = None) -> bytes:
        """The whole body, or its first `max_bytes`. Raises: Broken."""
        parts, size = [], 0
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if max_bytes is not None and size >= max_bytes:
                break
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return whole if max_bytes is None else whole[:max_bytes]

    def wake(self) -> None:
        """Have a `read` that waits raise TimeoutError now."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def close(self) -> None:
        """Cut an answer that is not whole; does nothing to one that is, whose connection is used on."""
        self._disarm()
        if not self._done:
            self._connection.close()

    # what the connection calls
    def add_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD:
            self.fail(Broken("sends too many headers"))
            self._connection.close()
            return
        lower = name.lower()
        if lower == b"content-type":
            self.content_type = value.decode("latin-1").partition(";")[0].strip().lower()
        elif lower == b"retry-after":
            self.retry_after = value.decode("latin-1")

    def begin(self, status: int) -> None:
        if self._error is None:
            self.status = status

    def add(self, body: bytes) -> None:
        self._parts.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER and not self._paused:
            self._paused = True
            self._connection.pause()

    def arrived(self) -> None:
        self._wake()

    def finish(self) -> None:
        self._done = True
        if self._paused:  # all of it is here, and whoever has the connection next must hear its answer
            self._paused = False
            self._connection.resume()
        self._disarm()
        self._wake()

    def lost(self) -> None:
        """The connection is gone: an answer without a length may end so, but none of ours does."""
        if not self._done:
            self.fail(Broken("closed its connection"))

    def fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._disarm()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _arm(self, limit_s: float) -> None:
        """One timer serves many reads: it looks again when it fires, instead of being moved by each read."""
        loop = asyncio.get_running_loop()
        self._deadline_s = loop.time() + limit_s
        if self._timer is None or self._timer.when() > self._deadline_s:
            self._disarm()
            self._timer = loop.call_at(self._deadline_s, self._look)

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._waiter is None or self._waiter.done():
            return  # the next read arms anew
        if loop.time() >= self._deadline_s:
            self._waiter.set_exception(TimeoutError())
        else:
            self._timer = loop.call_at(self._deadline_s, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
