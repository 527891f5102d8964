"""Asks over HTTP/1.1: kept connections, a bound on how many, and the moment of every piece that comes back."""

import asyncio
import ssl
import time
from collections import deque
from urllib.parse import urlsplit

import httptools
import orjson

from tests.load.generator.answer import Answer, Failure, Sample
from tests.load.generator.plan import PlanInvalid
from tests.load.generator.scenarios import Asked


class Wire:
    """The connections of one process to one server.

    Args:
        url: `http://` or `https://`, host, port.
        limit: open at once; who gets none waits.
        zero_s: the reading of `time.monotonic` at which the run begins.

    Raises: PlanInvalid: that is no address.
    """

    def __init__(self, url: str, key: str, limit: int, timeout_s: float, zero_s: float) -> None:
        self._host, self._port, self._tls, self._prefix = parts_of(url)
        if not key.isascii() or not key.isprintable() or " " in key:
            raise PlanInvalid("the key holds characters that no header may have: set STOKER_API_KEY anew")
        self._key = key
        self._timeout_s = timeout_s
        self._zero_s = zero_s
        self._free = asyncio.Semaphore(limit)
        self._idle: deque[_Connection] = deque()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._zero_s

    async def ask(self, asked: Asked, number: int, scheduled_s: float) -> tuple[Sample, str]:
        """Ask, and measure from the scheduled moment on. Returns: what was measured, and the text if it is wanted."""
        sample = Sample(number, asked.kind, scheduled_s)
        answer = Answer(asked.form, sample, keep_text=asked.then is not None)
        begun_s = self.now()
        sample.ready_s = begun_s - scheduled_s
        try:
            async with asyncio.timeout(scheduled_s + self._timeout_s - begun_s):
                async with self._free:
                    sample.held_s = self.now() - begun_s
                    await self._ask(self._request(asked), answer)
        except TimeoutError:
            answer.fail(Failure.TIMEOUT, self.now())
        return sample, answer.text

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, request: bytes, answer: Answer) -> None:
        try:
            connection = await self._connection()
        except OSError:
            answer.fail(Failure.CONNECT, self.now())
            return
        again = False
        try:
            again = await connection.ask(request, answer)
        finally:
            self._idle.append(connection) if again else connection.close()

    async def _connection(self) -> "_Connection":
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(lambda: _Connection(self._zero_s), self._host, self._port, ssl=self._tls)
        return made

    def _request(self, asked: Asked) -> bytes:
        body = orjson.dumps(asked.body)
        head = (
            f"POST {self._prefix}{asked.path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-type: application/json\r\n"
            f"accept: text/event-stream, application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def parts_of(url: str) -> tuple[str, int, ssl.SSLContext | None, str]:
    """Host, port, how to encrypt, and the path before all others. Raises: PlanInvalid: that is no address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        raise PlanInvalid(f"{url!r} is no address: give --url http://HOST:PORT, or set STOKER_URL")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/").removesuffix("/v1")


class _Connection(asyncio.Protocol):
    """One connection; one answer at a time."""

    def __init__(self, zero_s: float) -> None:
        self._zero_s = zero_s
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[bool] | None = None
        self._headers: dict[str, str] = {}
        self._at_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, answer: Answer) -> bool:
        """Returns: whether the connection may be used again."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._headers = answer, {}
        self._done = asyncio.get_running_loop().create_future()
        answer.sample.sent_s = time.monotonic() - self._zero_s
        self._transport.write(request)
        return await self._done

    def close(self) -> None:
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport, but acts as one

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()  # nobody asked
            return
        self._at_s = time.monotonic() - self._zero_s
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._answer is not None:
                self._answer.fail(Failure.MALFORMED, self._at_s)
            self._finish(again=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None:
            at_s = time.monotonic() - self._zero_s
            if self._answer.sample.status == 0:
                self._answer.fail(Failure.BROKEN, at_s)
            elif "content-length" in self._headers or "transfer-encoding" in self._headers:
                self._answer.fail(Failure.TRUNCATED, at_s)
            self._answer.end(at_s)
        self._finish(again=False)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._answer is not None:
            self._answer.head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        if self._answer is not None:
            self._answer.body(body, self._at_s)
            if self._answer.sample.failure is not None:
                self._finish(again=False)

    def on_message_complete(self) -> None:
        if self._answer is not None and self._parser.get_status_code() >= 200:
            self._answer.end(self._at_s)
            self._finish(again=self._parser.should_keep_alive())

    def _finish(self, *, again: bool) -> None:
        self._answer = None
        if self._done is not None and not self._done.done():
            self._done.set_result(again)
