"""One Valkey for the tests of a module, emptied before each; admission on it, with the real clock or a virtual one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from api.admission.admission import Admission
from api.admission.scripts import Scripts
from core.clock import ManualClock, SystemClock
from core.dependency import DependencyUnavailable
from core.limits import Subject
from storage.redis import RedisClient
from tests.support.valkey import valkey_server

VIRTUAL = Scripts.load(clock=str(Path(__file__).with_name("virtual_clock")))


class LedgerBook:
    """What the ledger says was spent; counts how often it is asked. While `gate` is not set, answers wait."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, str], int] = {}
        self.away = False
        self.asked = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, tenant_id: str, subject: Subject, period: str) -> int:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise DependencyUnavailable("sql", "sql is away")
        return self.spent.get((subject.id, period), 0)


class Timeline:
    """The worker's clock and the server's virtual one, moved together."""

    def __init__(self, redis: "Redis", start_s: float) -> None:
        self.clock = ManualClock(start_s)
        self._redis = redis
        self.advance(0)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._redis.set("clock_ms", round(self.clock.time() * 1000))


Opener = Callable[..., AbstractAsyncContextManager[Admission]]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as address:
        yield address


@pytest.fixture
def redis(url: str) -> Iterator["Redis"]:
    with Redis.from_url(url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def ledger() -> LedgerBook:
    return LedgerBook()


@pytest.fixture
def timeline(redis: "Redis") -> Timeline:
    return Timeline(redis, 1_790_000_000.0)


@pytest.fixture
def opened(url: str, ledger: LedgerBook) -> Opener:
    """Opens an admission: with the server's clock, or on a timeline."""

    @asynccontextmanager
    async def open_one(timeline: Timeline | None = None, **settings: float) -> AsyncIterator[Admission]:
        client = RedisClient(url, 1.0)
        clock = SystemClock() if timeline is None else timeline.clock
        scripts = None if timeline is None else VIRTUAL
        deadline_s = settings.pop("deadline_s", 0.5)
        try:
            async with Admission(
                client, ledger, clock, scripts=scripts, deadline_s=deadline_s, **settings
            ) as admission:
                yield admission
        finally:
            await client.close()

    return open_one
