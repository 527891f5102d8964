"""Lua scripts on one shared connection: calls of many requests travel together, at a fraction of the client's cost.

redis-py takes a connection from its pool for each command and reads with a timer of its own; here one connection, which
it has opened, carries all scripts, and replies are handed out in the order of the calls.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hiredis import PushNotification, Reader, pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError, ResponseError

from core.dependency import DependencyError, DependencyTimeout, DependencyUnavailable
from storage.redis import RedisClient

_FOLDER = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Packed:
    """Arguments that come again and again, packed once; only as the last of a call."""

    count: int
    data: bytes

    @classmethod
    def of(cls, *args: str | int) -> "Packed":
        return cls(len(args), _bodies(args))


Argument = str | int | Packed


class Script:
    """A script, named by the hash of its text.

    Args:
        parts: files below `storage/scripts` without `.lua`, joined in this order: what they share comes first.
    """

    def __init__(self, *parts: str) -> None:
        self.text = "\n".join((_FOLDER / f"{part}.lua").read_text() for part in parts)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


Call = tuple[Script, str, Sequence[Argument]]
"""A script, its key, and its arguments."""


class NotSent(DependencyUnavailable):
    """Nothing was sent: Redis is known to be away, or let nobody in."""


class ScriptLine:
    """The connection that scripts travel on; opened by the first call, opened anew after a failure.

    Attributes:
        lost: set when the connection ended: the server may have been restarted, and be empty. Whoever waits clears it.
    """

    def __init__(self, client: RedisClient) -> None:
        self.lost = asyncio.Event()
        self._client = client
        self._wire: _Wire | None = None
        self._opening = asyncio.Lock()

    async def run(self, script: Script, key: str, args: Sequence[Argument], deadline_s: float) -> Any:
        """Run one script on one key. Raises: DependencyError: Redis is away, silent, or refuses the script."""
        return (await self.run_all([(script, key, args)], deadline_s))[0]

    async def run_all(self, calls: Sequence[Call], deadline_s: float) -> list[Any]:
        """Run scripts one after another in one round trip. Returns: their replies, in order.

        Raises:
            NotSent: none can have run.
            DependencyError: any failed; some may have run, or run later.
        """
        wire, dependency = self._wire, self._client.dependency
        try:
            if wire is None or wire.closed:
                wire = await self._client.call(self._open, deadline_s)
            permit = dependency.acquire()
        except DependencyError as error:
            raise NotSent(error.name, str(error), error.retry_after_s) from error
        try:
            replies = await _exchange(wire, calls, deadline_s)
        except TimeoutError as error:
            dependency.report(permit, ok=False)
            raise DependencyTimeout("redis", f"redis did not answer within {deadline_s:g} s") from error
        except RedisConnectionError as error:
            dependency.report(permit, ok=False)
            raise DependencyUnavailable("redis", f"redis is away: {error}") from error
        except RedisError as error:
            dependency.report(permit, ok=True)
            raise DependencyUnavailable("redis", f"redis refused a script: {error}") from error
        except BaseException:
            dependency.withdraw(permit)
            raise
        dependency.report(permit, ok=True)
        return replies

    async def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _open(self, redis: Redis) -> "_Wire":
        async with self._opening:
            if self._wire is None or self._wire.closed:
                connection: AbstractConnection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
                connection.socket_timeout = None  # replies are awaited by all; each call has its own deadline
                await connection.connect()  # type: ignore[no-untyped-call]
                self._wire = _Wire(connection, self.lost)
            return self._wire


async def _exchange(wire: "_Wire", calls: Sequence[Call], deadline_s: float) -> list[Any]:
    """Send calls, each script's text ahead of its first on this connection: a call that had to be sent again would
    come after those behind it. Only where somebody has flushed the scripts since is one sent again.

    Raises: TimeoutError, RedisError.
    """
    new = {script.sha: script.text for script, _, _ in calls if script.sha not in wire.loaded}
    wire.loaded |= new.keys()
    commands = [_command("EVALSHA", script.sha, 1, key, *args) for script, key, args in calls]
    loads = [_command("SCRIPT", "LOAD", text) for text in new.values()]
    replies = (await wire.send(loads + commands, deadline_s))[len(loads) :]
    unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        texts = {calls[at][0].text for at in unknown}
        await wire.send([_command("SCRIPT", "LOAD", text) for text in texts], deadline_s)
        again = await wire.send([commands[at] for at in unknown], deadline_s)
        for at, reply in zip(unknown, again, strict=True):
            replies[at] = reply
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


class _Batch:
    """Commands sent together, and their replies so far."""

    __slots__ = ("count", "future", "replies", "sent_s")

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self.count = count
        self.replies: list[Any] = []
        self.future: asyncio.Future[list[Any]] = loop.create_future()
        self.sent_s = loop.time()


class _Wire(asyncio.Protocol):
    """One open connection and those who wait for its replies.

    redis-py opens it, with everything that its URL asks for; then this takes the stream out of its hands, whose own
    reading and writing takes more processor time than all the rest of a call.

    Attributes:
        loaded: hashes of the scripts that were loaded over it, and that the server so knows.
    """

    def __init__(self, connection: AbstractConnection, lost: asyncio.Event) -> None:
        writer, connection._writer, connection._reader = connection._writer, None, None
        if writer is None:
            raise RedisConnectionError("the connection for scripts was closed while it was opened")
        self._writer = writer  # kept, because it closes its transport when nobody has it any more
        self._transport = writer.transport
        self._lost = lost
        self._waiting: deque[_Batch] = deque()
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._replies = Reader(protocolError=InvalidResponse, replyError=_error, encoding="utf-8")
        self.closed = False
        self.loaded: set[str] = set()
        self._transport.set_protocol(self)

    async def send(self, commands: Sequence[bytes], deadline_s: float) -> list[Any]:
        """Send commands and await their replies; errors of single commands are among them.

        Raises:
            TimeoutError: they did not come in time; the commands may have run, or run later.
            RedisConnectionError: the connection broke.
        """
        if self.closed:
            raise RedisConnectionError("the connection for scripts has ended")
        if not self._unsent:
            self._loop.call_soon(self._flush)  # once for all who send in this turn: a write costs more than a call
        self._unsent += commands
        batch = _Batch(len(commands), self._loop)
        self._waiting.append(batch)
        timer = self._loop.call_later(deadline_s, self._expire, batch)
        try:
            return await batch.future
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the connection; whoever waits hears of it at once."""
        self._end(None)
        self._transport.abort()

    def _flush(self) -> None:
        unsent, self._unsent = b"".join(self._unsent), []
        if not self.closed:
            self._transport.write(unsent)

    def _expire(self, batch: _Batch) -> None:
        if not batch.future.done():
            batch.future.set_exception(TimeoutError())
        if self._heard_s < batch.sent_s:
            self.close()  # nothing was heard in the whole time: the other side may be gone for good

    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not False:
                if isinstance(reply, PushNotification):
                    continue
                batch = self._waiting[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.count:
                    self._waiting.popleft()
                    if not batch.future.done():
                        batch.future.set_result(batch.replies)
        except (InvalidResponse, IndexError, UnicodeDecodeError) as error:
            self._end(error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self.closed = True
        self._lost.set()
        for batch in self._waiting:
            if not batch.future.done():
                batch.future.set_exception(RedisConnectionError(f"the connection for scripts ended: {error!r}"))
                batch.future.exception()  # whoever waited for it may have gone
        self._waiting.clear()


def _error(text: str) -> RedisError:
    """An error of one command, which is a reply like any other."""
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


def _command(*words: Argument) -> bytes:
    """A command as it travels."""
    last = words[-1]
    if isinstance(last, Packed):
        return b"*%d\r\n%b%b" % (len(words) - 1 + last.count, _bodies(words[:-1]), last.data)
    return b"*%d\r\n%b" % (len(words), _bodies(words))


def _bodies(words: Sequence[Argument]) -> bytes:
    """Words as bulk strings, one after the other."""
    packed: bytes = pack_command(tuple(words))  # type: ignore[arg-type]  # its stub knows tuples of one element only
    return packed[packed.index(b"\n") + 1 :]
