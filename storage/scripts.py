"""Lua scripts on one shared connection: calls of many requests travel together, at a fraction of the client's cost.

redis-py takes a connection from its pool for each command and reads with a timer of its own; here one of its
connections carries all scripts, and replies are handed out in the order of the calls.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from core.dependency import DependencyError, DependencyUnavailable
from storage.redis import RedisClient

_FOLDER = Path(__file__).parent / "scripts"

Argument = str | int


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
        sent = False

        async def work(redis: Redis) -> list[Any]:
            nonlocal sent
            wire = self._wire
            if wire is None or wire.closed:
                wire = await self._open(redis)
            sent = True
            return await _exchange(wire, calls, deadline_s)

        try:
            return await self._client.call(work, deadline_s)
        except DependencyError as error:
            if sent:
                raise
            raise NotSent(error.name, str(error), error.retry_after_s) from error
        except RedisError as error:
            raise DependencyUnavailable("redis", f"redis refused a script: {error}") from error

    async def close(self) -> None:
        if self._wire is not None:
            await self._wire.close()
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
    """Send calls; scripts that the server does not know are loaded, and sent again."""
    commands: list[tuple[Argument, ...]] = [("EVALSHA", script.sha, 1, key, *args) for script, key, args in calls]
    replies = await wire.send(commands, deadline_s)
    unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        texts = {calls[at][0].text for at in unknown}
        await wire.send([("SCRIPT", "LOAD", text) for text in texts], deadline_s)
        again = await wire.send([commands[at] for at in unknown], deadline_s)
        for at, reply in zip(unknown, again, strict=True):
            replies[at] = reply
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


class _Wire:
    """One open connection and those who wait for its replies."""

    def __init__(self, connection: AbstractConnection, lost: asyncio.Event) -> None:
        self._connection = connection
        self._lost = lost
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._reader = self._loop.create_task(self._read())
        self.closed = False

    async def send(self, commands: Sequence[tuple[Argument, ...]], deadline_s: float) -> list[Any]:
        """Send commands and await their replies; errors of single commands are among them.

        Raises: RedisConnectionError: the connection broke.
        """
        sent_s = self._loop.time()
        futures = [self._loop.create_future() for _ in commands]
        self._waiting.extend(futures)
        try:
            await self._connection.send_packed_command([_pack(command) for command in commands], False)
            return [await future for future in futures]
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            if self._heard_s < sent_s and self._loop.time() - sent_s >= 0.9 * deadline_s:
                self._abandon()  # nothing was heard in the whole time: the other side may be gone for good
            raise
        except RedisError:
            self._abandon()
            raise

    async def close(self) -> None:
        self._abandon()
        with suppress(asyncio.CancelledError):
            await self._reader

    def _abandon(self) -> None:
        self.closed = True
        self._reader.cancel()

    async def _read(self) -> None:
        broken: BaseException | None = None
        try:
            while True:
                try:
                    reply = await self._connection.read_response()
                except ResponseError as error:
                    reply = error
                self._heard_s = self._loop.time()
                future = self._waiting.popleft()
                if not future.done():
                    future.set_result(reply)
        except (RedisError, OSError) as error:
            broken = error
        finally:
            self.closed = True
            self._lost.set()
            for future in self._waiting:
                if not future.done():
                    future.set_exception(RedisConnectionError(f"the connection for scripts ended: {broken!r}"))
                    future.exception()  # whoever waited for an earlier one of these has gone
            self._waiting.clear()
            await self._connection.disconnect(nowait=True)


def _pack(command: tuple[Argument, ...]) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one element only
    return packed
