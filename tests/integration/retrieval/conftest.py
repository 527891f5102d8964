"""Real parts for retrieval: SQLite, Valkey, Milvus Lite's server and the embedding server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from core.clock import SystemClock
from core.ids import new_id
from core.principal import Principal, Role
from retrieval.intake import NewFile
from retrieval.jobs import Job
from retrieval.leases import Leases
from retrieval.open import Retrieval, open_retrieval
from retrieval.parsing import Parser
from retrieval.pipeline import Pipeline
from retrieval.settings import RetrievalSettings
from retrieval.status import JobStatus
from retrieval.worker import serve
from storage.migrate import migrate
from storage.objects import ObjectStore
from storage.open import open_store
from storage.redis import RedisClient
from storage.schema import tenants
from storage.sql import Database
from tests.support import narrow
from tests.support.catalog import Catalog, new_catalog
from tests.support.database import fresh_sqlite
from tests.support.engines import SHORT_QUEUE, Engine, start_embeddings
from tests.support.milvus import milvus_server
from tests.support.postgres import postgres_server
from tests.support.process import ROOT
from tests.support.valkey import valkey_server

T = TypeVar("T")

_SHARED_TWO = "PROMISES_TWO_SPACES"  # an `Engine` as JSON: one with the models of `two_spaces` that runs already


@dataclass(frozen=True)
class Servers:
    """Addresses of what runs for the whole session."""

    milvus_uri: str
    redis_url: str
    embedding_url: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, embedding_engine: Engine) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    given = os.environ.get("MILVUS_URI")  # of a Milvus server, which has to do what Milvus Lite does
    index = milvus_server(folder / "milvus") if given is None else nullcontext(given)
    with index as milvus_uri, valkey_server(folder / "valkey") as redis_url:
        yield Servers(milvus_uri, redis_url, embedding_engine.url)


@pytest.fixture(scope="session")
def two_spaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An embedding server with two models of different dimensions."""
    if _SHARED_TWO in os.environ:  # whoever plants defects runs few tests many times
        yield Engine(**json.loads(os.environ[_SHARED_TWO]))
        return
    folder = tmp_path_factory.mktemp("two-spaces")
    with start_embeddings(folder, *SHORT_QUEUE, *narrow.flags(folder / "narrow")) as engine:
        yield engine


@dataclass
class House:
    """Retrieval opened on the real parts, with an SQL database and files of its own."""

    settings: RetrievalSettings
    database: Database
    redis: RedisClient
    objects: ObjectStore
    retrieval: Retrieval
    principal: Principal

    def leases(self, worker: str = "test", lease_s: float = 30.0) -> Leases:
        return Leases(self.database, SystemClock(), worker, lease_s, self.settings.max_attempts)

    def pipeline(self, leases: Leases, parser: Parser) -> Pipeline:
        return Pipeline(
            self.settings,
            leases,
            self.objects,
            self.retrieval.index,
            self.retrieval.embedder,
            parser,
            SystemClock(),
        )

    async def tenant(self) -> Principal:
        """A new tenant and somebody in it."""
        tenant_id = new_id("ten")

        async def insert(connection: Any) -> None:
            await connection.execute(tenants.insert().values(id=tenant_id, name=tenant_id, created_at=time.time()))

        await self.database.write(insert)
        return Principal(tenant_id, new_id("key"), Role.ADMIN)

    async def ingest(self, collection: str, **texts: str) -> Job:
        """Send texts (`name="text"` becomes `name.md`) and wait for their job's end."""
        files = [NewFile(f"{name}.md", None, text.encode()) for name, text in texts.items()]
        return await self.send(collection, files)

    async def send(self, collection: str, files: list[NewFile]) -> Job:
        accepted = await self.retrieval.intake.accept(self.principal, collection, files)
        return await self.ended(accepted.job_id)

    async def ended(self, job_id: str, timeout_s: float = 60) -> Job:
        async def look() -> Job | None:
            job = await self.retrieval.jobs.get(self.principal, job_id)
            return job if job.status not in (JobStatus.QUEUED, JobStatus.RUNNING) else None

        return await until(look, timeout_s)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """An ingestion worker inside this process."""
        halt = asyncio.Event()
        task = asyncio.create_task(serve(self.settings, halt))
        try:
            yield
        finally:
            halt.set()
            await task

    def worker_process(self, log: Path, **env: str) -> subprocess.Popen[bytes]:
        """An ingestion worker as a process of its own; end it with `end_process`."""
        settings = {
            "STOKER_DATA_DIR": str(self.settings.data_dir),
            "STOKER_REDIS_URL": self.settings.redis_url.get_secret_value() if self.settings.redis_url else "",
            "STOKER_MILVUS_URI": self.settings.milvus_uri,
            "STOKER_EMBEDDING_URL": self.settings.embedding_url,
            "STOKER_LOG_LEVEL": "debug",
        }
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "retrieval.worker"],
                cwd=ROOT,
                env={**os.environ, **settings, **env},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )


@pytest.fixture
async def house(servers: Servers, tmp_path: Path) -> AsyncIterator[House]:
    settings = RetrievalSettings(
        data_dir=tmp_path,
        database_url=None,
        redis_url=SecretStr(servers.redis_url),
        milvus_uri=servers.milvus_uri,
        embedding_url=servers.embedding_url,
        embedding_deadline_s=15,  # the machine may be busy with other things than this test
        search_deadline_s=12,
        sql_deadline_s=15,
        poll_s=0.2,
    )
    database = Database(fresh_sqlite(tmp_path / "stoker.db"), settings.sql_deadline_s)
    redis = RedisClient(servers.redis_url, settings.redis_deadline_s)
    objects = open_store(settings.object_store_url(), settings.object_deadline_s)
    async with open_retrieval(settings, database, redis, objects) as retrieval:
        opened = House(settings, database, redis, objects, retrieval, Principal("nobody", "key_0", Role.ADMIN))
        yield replace(opened, principal=await opened.tenant())
    await redis.close()
    await database.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_server() as server:
        migrate(server.url())
        yield server.url()


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fresh_sqlite(tmp_path_factory.mktemp("sqlite") / "stoker.db")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def sql_url(request: pytest.FixtureRequest) -> str:
    """Each database in turn, one for all tests: whoever uses it has a tenant of his own in it."""
    found: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return found


@pytest.fixture
async def database(sql_url: str) -> AsyncIterator[Database]:
    opened = Database(sql_url, 30.0)
    yield opened
    await opened.close()


@pytest.fixture
async def catalog(database: Database) -> Catalog:
    """An empty collection."""
    return await new_catalog(database)


async def until(look: Callable[[], Awaitable[T | None]], timeout_s: float = 30) -> T:
    """Ask until there is an answer. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while (found := await look()) is None:  # noqa: ASYNC110  # other processes set no event of ours
            await asyncio.sleep(0.02)
        return found


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` of the worker and its parsing child."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
