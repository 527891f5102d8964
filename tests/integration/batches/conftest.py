"""Batches on real SQL and a real object store; what answers their lines is told in advance."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from api.batches.batchleases import BatchLeases
from api.batches.forms import Batch
from api.batches.lineleases import LineLeases
from api.batches.lines import Bounds
from api.batches.papers import Papers
from api.batches.runner import Runner
from api.batches.sending import Reply
from api.batches.states import Status
from api.batches.store import Batches, NewBatch
from api.files.store import Files, NewFile
from api.identities import Identity
from api.lookup import Lookup
from core.clock import Clock, SystemClock
from core.principal import Principal, Role
from storage.migrate import migrate
from storage.objects import FolderStore
from storage.schema import api_keys, tenants
from storage.sql import Database
from tests.support.database import fresh_sqlite
from tests.support.postgres import Postgres, postgres_server

CHAT = "/v1/chat/completions"
LEASE_S = 30.0
BOUNDS = Bounds(lines=5000, line_bytes=10_000)
_numbers = itertools.count()


class ShiftedClock(SystemClock):
    """The machine's clock, which can be moved on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Provider:
    """Answers lines, and notes what it was asked; `replies` are told in advance, by custom id (the body's `user`)."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.names: list[str] = []
        self.running = 0
        self.most = 0
        self.replies: dict[str, list[Reply]] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, identity: Identity, endpoint: str, body: str, request_id: str) -> Reply:
        user = orjson.loads(body)["user"]
        self.asked.append(user)
        self.names.append(request_id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        if self.replies.get(user):
            return self.replies[user].pop(0)
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return Reply(200, {"echo": user, "usage": usage})


@dataclass
class House:
    """One installation; each `worker` is one gateway worker's runner."""

    database: Database
    url: str
    objects: FolderStore
    clock: ShiftedClock
    principal: Principal
    provider: Provider = field(default_factory=Provider)

    @property
    def batches(self) -> Batches:
        return Batches(self.database, self.clock, 10)

    @property
    def files(self) -> Files:
        return files_of(self.database, self.objects, self.clock)

    async def batch(self, *ids: str, lines: list[dict[str, Any]] | None = None, **fields: Any) -> Batch:
        """Upload a file with these custom ids, and make a batch of it."""
        made = lines or [
            {"custom_id": one, "method": "POST", "url": CHAT, "body": {"model": "m", "user": one}} for one in ids
        ]
        data = b"\n".join(map(orjson.dumps, made))
        file = await self.files.keep(self.principal, NewFile("in.jsonl", "batch", data))
        return await self.batches.create(self.principal, NewBatch(CHAT, file.id, **fields))

    async def now(self, batch: Batch) -> Batch:
        return await self.batches.get(self.principal, batch.id)

    async def until(self, batch: Batch, *statuses: Status, limit_s: float = 20.0) -> Batch:
        """Wait until it has one of these states; without any, an end."""
        async with asyncio.timeout(limit_s):
            while True:
                found = await self.now(batch)
                if found.status in statuses or (not statuses and found.status.ended):
                    return found
                await asyncio.sleep(0.01)

    async def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        data = await self.files.content(self.principal, file_id)
        assert data.endswith(b"\n")
        return [orjson.loads(line) for line in data.splitlines()]

    async def out(self, batch: Batch) -> tuple[Counter[str], Counter[str]]:
        """The custom ids of the output and of the error file."""
        output, errors = await self.lines_of(batch.output_file_id), await self.lines_of(batch.error_file_id)
        return Counter(one["custom_id"] for one in output), Counter(one["custom_id"] for one in errors)

    def runner(self, database: Database | None = None, **how: Any) -> Runner:
        own = database or self.database
        worker = f"worker{next(_numbers)}"
        leases = BatchLeases(own, self.clock, worker, LEASE_S)
        who = Lookup(own, self.clock)
        return Runner(
            LineLeases(own, self.clock, worker, LEASE_S),
            leases,
            Papers(leases, files_of(own, self.objects, self.clock), who, BOUNDS),
            self.provider,
            who,
            self.clock,
            **{"parallel": 2, "attempts": 3, "lease_s": LEASE_S, "poll_s": 0.02, **how},
        )

    @asynccontextmanager
    async def working(self, *, later_s: float = 0.0, **how: Any) -> AsyncIterator[None]:
        """A worker runs while the block does; first it sees what others hold, and then so much time passes."""
        runner = self.runner(**how)
        await runner._batches.open_ones()
        await runner._lines.take_back()
        self.clock.ahead_s += later_s
        task = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def revoke(self) -> None:
        gone = sa.update(api_keys).where(api_keys.c.id == self.principal.key_id).values(revoked_at=1.0)
        await self.database.write(lambda connection: connection.execute(gone))

    async def rows(self, statement: sa.Select[Any]) -> list[Any]:
        async def find(connection: Any) -> list[Any]:
            return list((await connection.execute(statement)).all())

        return await self.database.read(find)


class _Nothing:
    async def hide_made_of(self, *_: object) -> None:
        """No documents here."""


def files_of(database: Database, objects: FolderStore, clock: Clock) -> Files:
    return Files(database, objects, _Nothing(), clock)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        server.execute("CREATE DATABASE migrated")
        migrate(server.url("migrated"))
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return fresh_sqlite(tmp_path / "stoker.db")


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    name = f"batches{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    return postgres.url(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    found: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return found


@asynccontextmanager
async def open_house(url: str, folder: Path) -> AsyncIterator[House]:
    database = Database(url, 10.0)
    clock = ShiftedClock()
    row = {"id": "t", "name": "t", "created_at": 0.0}
    key = {
        "id": "key_1",
        "tenant_id": "t",
        "name": "k",
        "prefix": "sk",
        "sha256": "0" * 64,
        "role": "member",
        "created_at": 0.0,
    }

    async def fill(connection: Any) -> None:
        await connection.execute(sa.insert(tenants).values(row))
        await connection.execute(sa.insert(api_keys).values(key))

    await database.write(fill)
    house = House(database, url, FolderStore(folder, 10.0), clock, Principal("t", "key_1", Role.MEMBER))
    try:
        yield house
    finally:
        await database.close()


@pytest.fixture
async def house(url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(url, tmp_path / "objects") as opened:
        yield opened


@pytest.fixture
async def light_house(sqlite_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """On SQLite, for what does not hang on the database."""
    async with open_house(sqlite_url, tmp_path / "objects") as opened:
        yield opened


async def meets(condition: Callable[[], bool | Awaitable[bool]], limit_s: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(limit_s):
        while True:
            found = condition()
            if found is True or (not isinstance(found, bool) and await found):
                return
            await asyncio.sleep(0)


def names(count: int) -> list[str]:
    return [f"line-{at}" for at in range(count)]
