"""The Redis client: one bounded pool, one deadline, one breaker."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.dependency import Dependency, DependencyError

T = TypeVar("T")

_NUDGE = "stoker:ingest:nudge"


class RedisClient:
    """A Redis or Valkey server; whoever opens it closes it."""

    def __init__(self, url: str, deadline_s: float, max_connections: int = 50) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            decode_responses=True,
        )
        self._redis = Redis.from_pool(pool)
        self._dependency = Dependency("redis", deadline_s, (OSError, RedisConnectionError, RedisTimeoutError))

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    async def call(self, work: Callable[[Redis], Awaitable[T]], deadline_s: float | None = None) -> T:
        """Run commands. Raises: DependencyError: Redis is away or past its deadline."""
        return await self._dependency.call(lambda: work(self._redis), deadline_s)

    async def check(self) -> None:
        """Raises: DependencyError: Redis does not answer."""

        async def ping(redis: Redis) -> None:
            await redis.ping()

        await self.call(ping)

    async def nudge_ingestion(self) -> None:
        """Wake a sleeping ingestion worker. Redis being away costs at most the worker's poll interval."""

        async def push(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            pipeline.lpush(_NUDGE, "1")
            pipeline.ltrim(_NUDGE, 0, 15)  # a nudge is a hint: a few are as good as a thousand
            await pipeline.execute()

        try:
            await self.call(push)
        except DependencyError:
            return  # the poll finds the work

    async def await_nudge(self, seconds: float) -> bool:
        """Sleep until a nudge or for `seconds`. Returns: whether a nudge came.

        Raises: DependencyError: Redis is away; the caller then sleeps by itself.
        """

        async def pop(redis: Redis) -> bool:
            return await redis.brpop([_NUDGE], timeout=seconds) is not None

        return await self.call(pop, deadline_s=seconds + 1.0)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()
