"""Versions on the real stores, step by step beside their model: workers and readers stop before every call they make.

A worker that is left standing is a killed one, or a zombie if it goes on later; a reader that stands still between its
calls is a slow one. The clock stands still unless told.
"""

import asyncio
import inspect
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from core.clock import ManualClock, SystemClock
from core.ids import new_id
from core.principal import Principal, Role
from retrieval.collections import Collections
from retrieval.cutting import OVERLAP, SIZE
from retrieval.documents import Documents
from retrieval.embedder import Embedder
from retrieval.errors import LeaseLost
from retrieval.index import Place
from retrieval.intake import Intake, NewFile
from retrieval.leases import Lease, Leases, LostTasks, end_expired, refresh_stale
from retrieval.milvus import VectorIndex, owner_of
from retrieval.orphans import Orphans
from retrieval.parsing import Parser
from retrieval.pipeline import Pipeline
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.search import Searcher, SearchResult
from retrieval.settings import RetrievalSettings
from retrieval.sweep import Sweep
from storage.open import open_store
from storage.redis import RedisClient
from storage.schema import collections, files, tasks, tenants
from storage.sql import Database
from tests.integration.retrieval.conftest import Servers
from tests.support.database import fresh_sqlite
from tests.support.versions import Document, Model, Pin, State, Task

LEASE_S, GRACE_S = 30.0, 300.0
USERS = (None, "ann", "bob")
WORDS = {"one": "gull tern skua", "two": "knot ruff", "three": "rail crake coot stilt"}
FEW, SOME, MANY = 2, 4, 400  # walks, of so many steps each
STEPS = 150
OWN = {SIZE: 100, OVERLAP: 0}  # holds all paragraphs of a content
SEED = int(os.environ.get("VERSIONS_SEED", "1"))


def paragraphs(content: str) -> list[str]:
    """What a content's document says; each paragraph is one chunk."""
    return [f"The harbour has a {word}, and {word} has {content} feathers to show." for word in WORDS[content].split()]


@dataclass
class Actor:
    """A task that stands still before each call that it makes, until it is told to go on."""

    done: Counter[str] = field(default_factory=Counter)
    task: "asyncio.Task[Any] | None" = None
    ended: list[tuple[str, BaseException | None]] = field(default_factory=list)
    _go: asyncio.Event = field(default_factory=asyncio.Event)
    _stands: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        self.task = asyncio.create_task(work)
        await self._look()

    async def go_on(self) -> tuple[str, BaseException | None]:
        """Let one call through. Returns: its name, and what it raised."""
        self._stands.clear()
        self._go.set()
        await self._look()
        return self.ended[-1]

    @property
    def stands(self) -> bool:
        return self.task is not None and not self.task.done()

    async def _look(self) -> None:
        """Wait until it stands before its next call, or has ended."""
        if self.task is None:
            raise RuntimeError("it has not begun")
        stands = asyncio.create_task(self._stands.wait())
        await asyncio.wait((self.task, stands), return_when=asyncio.FIRST_COMPLETED)
        stands.cancel()

    def halting(self, part: Any) -> Any:
        """The part, each of whose calls waits for its turn."""
        return _Halting(self, part)

    async def call(self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        self._stands.set()
        await self._go.wait()
        self._go.clear()
        error: BaseException | None = None
        try:
            return await method(*args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.done[name] += 1
            self.ended.append((name, error))


class _Halting:
    def __init__(self, actor: Actor, part: Any) -> None:
        self._actor, self._part = actor, part

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: self._actor.call(name, found, *args, **kwargs)


@dataclass
class Worker:
    """Somebody who has, or had, a lease."""

    lease: Lease
    task: Task
    fence: int
    actor: Actor


@dataclass
class Reader:
    """A search under way; what it must and may find is settled when the catalog is asked."""

    user: str | None
    began_s: float
    actor: Actor
    pinned: Pin = field(default_factory=dict)
    open_at_pin: set[str] = field(default_factory=set)
    asked: list[dict[str, tuple[int, str, dict[str, Any]]]] = field(default_factory=list)


@dataclass
class World:
    """The servers' clients, opened once; each walk has a catalog and an object store of its own."""

    loop: asyncio.AbstractEventLoop
    settings: RetrievalSettings
    redis: RedisClient
    index: VectorIndex
    embedder: Embedder
    parser: Parser
    hit: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def world(servers: Servers, tmp_path: Path) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    opened = AsyncExitStack()

    async def begin() -> World:
        chosen = RetrievalSettings(
            data_dir=tmp_path,
            database_url=None,
            redis_url=SecretStr(servers.redis_url),
            milvus_uri=servers.milvus_uri,
            embedding_url=servers.embedding_url,
            embedding_deadline_s=15,
            search_deadline_s=12,
            sql_deadline_s=15,
        )
        redis = RedisClient(servers.redis_url, chosen.redis_deadline_s)
        opened.push_async_callback(redis.close)
        index = VectorIndex(chosen.milvus_uri, chosen.search_deadline_s, chosen.flush_rows)
        opened.push_async_callback(index.close)
        session = await opened.enter_async_context(aiohttp.ClientSession())
        embedder = Embedder(session, chosen.embedding_url, chosen.embedding_deadline_s, chosen.ingest_batch)
        parser = Parser(chosen.parse_deadline_s, chosen.parse_memory_bytes, chosen.max_characters)
        opened.push_async_callback(parser.close)
        return World(loop, chosen, redis, index, embedder, parser)

    yield loop.run_until_complete(begin())
    loop.run_until_complete(opened.aclose())
    loop.close()


class Walk:
    """Steps by chance; the model says what the stores do, and what each reader finds."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.clock = ManualClock(SystemClock().time())
        self.model = Model(LEASE_S)
        self.workers: list[Worker] = []
        self.readers: list[Reader] = []
        self.tasks: dict[tuple[str, str], Task] = {}  # by job and document
        self.acts: list[tuple[int, Callable[[], None]]] = [
            (10, self.put), (8, self.begin_to_work), (12, self.work_on), (5, self.work_to_the_end),
            (3, self.work_all_off), (6, self.begin_to_read), (6, self.read_on), (2, self.all_read_to_the_end),
            (5, self.change), (1, self.delete), (5, self.wait), (2, self.sweep),
        ]  # fmt: skip

    def step(self) -> str:
        """Returns: what was done."""
        weights, acts = zip(*self.acts, strict=True)
        act = self.chance.choices(acts, weights)[0]
        act()
        return str(act.__name__)

    def said(self) -> dict[str, Any]:
        return {key: self.chance.randrange(3) for key in self.chance.sample("ab", self.chance.randrange(3))}

    def open_to(self) -> list[str] | None:
        return self.chance.choice([None, None, [], ["ann"], ["bob"], ["ann", "bob"]])

    @property
    def now_s(self) -> float:
        return self.clock.time()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.world.loop.run_until_complete(work)

    def make(self, placement: str) -> None:
        world, clock = self.world, self.clock
        tenant_id = new_id("ten")
        self.files = [new_id("file") for _ in range(2)]
        self.people = {
            None: Principal(tenant_id, new_id("key"), Role.MANAGER),
            **{user: Principal(tenant_id, new_id("key"), Role.MEMBER, user_id=user) for user in ("ann", "bob")},
        }
        self.manager = self.people[None]
        settings = world.settings.model_copy(update={"data_dir": world.settings.data_dir / tenant_id})
        settings.data_dir.mkdir()
        self.database = Database(fresh_sqlite(settings.data_dir / "stoker.db"), settings.sql_deadline_s)
        self.lost = LostTasks(self.database, clock, LEASE_S, max_attempts=10**6)
        self.objects = open_store(settings.object_store_url(), settings.object_deadline_s)
        self.collections = Collections(self.database, world.embedder, clock, settings)
        self.documents = Documents(self.database, world.redis, self.objects, clock)
        self.intake = Intake(self.database, world.redis, self.objects, clock, settings)

        async def create() -> None:
            row = {"id": tenant_id, "name": tenant_id, "created_at": self.now_s}
            await self.database.write(lambda connection: connection.execute(tenants.insert().values(row)))
            kept = {
                **{"tenant_id": tenant_id, "creator": "tenant", "filename": "x.md", "purpose": "assistants"},
                **{"media_type": "", "bytes": 0, "sha256": "", "object_key": "", "created_at": self.now_s},
            }
            rows = [{"id": file_id, **kept} for file_id in self.files]
            await self.database.write(lambda connection: connection.execute(files.insert(), rows))
            chunking = {"characters": 100}
            made = await self.collections.create(self.manager, "c", chunking=chunking, placement=placement)
            (row,) = await fetch(self.database, sa.select(collections.c.pool).where(collections.c.id == made.id))
            self.place = Place(made.id, row.pool)

        self.run(create())

    def choose(self) -> tuple[str, str | None]:
        """What the next upload is called, and how it asks to be cut."""
        return self.chance.choice("xxyz"), None

    def put(self) -> None:
        (name, own_cut), content = self.choose(), self.chance.choice(sorted(WORDS))
        metadata, readers, life_s = self.said(), self.open_to(), self.chance.choice([None, None, None, None, 20])
        data = "\n\n".join(paragraphs(content)).encode()
        filename, _, number = name.partition("@")  # behind it a file, which names the document then
        file = NewFile(
            f"{filename}.md",
            None,
            data,
            metadata,
            _acl(readers),
            life_s,
            file_id=self.files[int(number)] if number else None,
            chunking=OWN if own_cut else None,
        )
        accepted = self.run(self.intake.accept(self.manager, "c", [file]))
        (document_id,) = accepted.document_ids
        known = self.model.named(name, self.now_s)
        assert known is None or known.id == document_id
        task = self.model.put(self.now_s, document_id, name, content, metadata, readers, life_s, own_cut)
        self.tasks[accepted.job_id, document_id] = task
        self.world.hit["uploads"] += 1
        self.world.hit["uploads of what was there"] += task.state is State.READY
        self.world.hit["uploads of files"] += bool(number)

    def begin_to_work(self) -> None:
        leases = Leases(self.database, self.clock, f"worker {len(self.workers)}", LEASE_S, max_attempts=10**6)
        lease = self.run(leases.acquire())
        waiting = self.model.to_be_had(self.now_s)
        if lease is None:
            assert not waiting
            return
        task = self.tasks[lease.job_id, lease.document_id]
        assert task in waiting
        assert lease.fence == self.model.acquire(task, self.now_s)
        actor = Actor()
        halting, world = actor.halting, self.world
        pipeline = Pipeline(
            world.settings,
            halting(leases),
            halting(self.objects),
            halting(world.index),
            halting(world.embedder),
            world.parser,
            SystemClock(),
        )
        self.run(actor.begin(pipeline.run(lease)))
        self.workers.append(Worker(lease, task, lease.fence, actor))

    def work_all_off(self) -> None:
        while self.model.to_be_had(self.now_s):
            self.begin_to_work()
            self.finish(self.workers[-1])

    def work_on(self) -> None:
        if standing := [worker for worker in self.workers if worker.actor.stands]:
            worker = self.chance.choice(standing)
            for _ in range(self.chance.randint(1, 8)):
                if worker.actor.stands:
                    self.one_call(worker)

    def work_to_the_end(self) -> None:
        if standing := [worker for worker in self.workers if worker.actor.stands]:
            self.finish(self.chance.choice(standing))

    def finish(self, worker: Worker) -> None:
        while worker.actor.stands:
            self.one_call(worker)

    def one_call(self, worker: Worker) -> None:
        task, fence = worker.task, worker.fence
        held = self.model.holds(task, fence)
        name, error = self.run(worker.actor.go_on())
        expected = {
            "progress": lambda: self.model.renew(task, fence, self.now_s),
            "start": lambda: self.model.start(task, fence, self.now_s),
            "publish": lambda: self.model.publish(task, fence),
        }
        if name in expected:
            assert isinstance(error, LeaseLost) == (not expected[name]()), (name, error)
            self.world.hit["refused to zombies"] += error is not None
            self.world.hit["published"] += name == "publish" and error is None
        elif error is not None:
            assert not held, (name, error)  # what it asked for is gone, and so is its lease
        if not worker.actor.stands:
            assert worker.actor.task is not None
            failed = worker.actor.task.exception()
            assert failed is None or not self.model.holds(task, fence), failed

    def begin_to_read(self) -> None:
        self.read_as(self.chance.choice(USERS))

    def read_as(self, user: str | None) -> None:
        actor, world = Actor(), self.world
        unused: Any = None  # nothing is reranked
        stores = actor.halting(self.database), actor.halting(world.index)
        searcher = Searcher(*stores, world.embedder, unused, self.clock)
        query = Query("c", "harbour", top_k=100, mode="lexical")
        self.run(actor.begin(searcher.search(self.people[user], query)))
        self.readers.append(Reader(user, self.now_s, actor))
        self.one_look(self.readers[-1])

    def read_on(self) -> None:
        if self.readers:
            self.one_look(self.chance.choice(self.readers))

    def all_read_to_the_end(self) -> None:
        for reader in list(self.readers):
            self.read_to_the_end(reader)

    def read_to_the_end(self, reader: Reader) -> None:
        while reader in self.readers:
            self.one_look(reader)

    def one_look(self, reader: Reader) -> None:
        name, error = self.run(reader.actor.go_on())
        assert error is None, (name, error)
        if name == "read" and reader.actor.done["read"] == 1:
            reader.pinned = self.model.pin()
            reader.open_at_pin = {
                document_id for document_id in reader.pinned if self.model.documents[document_id].open_to(reader.user)
            }
        elif name == "read":
            reader.asked.append(self.model.seen(reader.pinned, reader.user, self.now_s))
        if not reader.actor.stands:
            assert reader.actor.task is not None
            self.readers.remove(reader)
            self.judge(reader, reader.actor.task.result())

    def judge(self, reader: Reader, found: SearchResult) -> None:
        """Each document is there once and whole, in the version that was pinned, or not at all."""
        texts: dict[tuple[str, int], list[str]] = {}
        for one in found.passages:
            texts.setdefault((one.document_id, one.document_version), []).append(one.text)
        # Asked more than once, a document counts that was open one of these times.
        may = {(of, number): content for seen in reader.asked for of, (number, content, _) in seen.items()}
        always = [{of for of in seen if of in reader.open_at_pin} for seen in reader.asked]
        must = set.intersection(*always) if always else set()
        for key, parts in texts.items():
            assert key in may, (key, may)
            assert sorted(parts) == sorted(self.parts_of(*key, may[key])), key
        assert must <= {document_id for document_id, _ in texts}
        assert reader.asked or not reader.open_at_pin
        self.world.hit["searches"] += 1
        self.world.hit["searches of older versions"] += any(
            number < len(self.model.documents[of].contents) for of, number in texts
        )
        if len(reader.asked) == 1:
            said = {one.document_id: one.metadata for one in found.passages}
            assert said == {of: reader.asked[0][of][2] for of in said}

    def parts_of(self, document_id: str, number: int, content: str) -> list[str]:
        """The chunks of a version of a document."""
        if self.model.documents[document_id].cuts[number - 1] == "own":
            return ["\n\n".join(paragraphs(content))]
        return paragraphs(content)

    def change(self) -> None:
        if living := self.living():
            document = self.chance.choice(living)
            metadata, readers = self.said(), self.open_to()
            real, said = self.chance.choice(
                [
                    ({"metadata": metadata}, {"metadata": metadata}),
                    ({"acl": _acl(readers)}, {"readers": readers}),
                    ({"metadata": metadata, "acl": _acl(readers)}, {"metadata": metadata, "readers": readers}),
                ]
            )
            self.run(self.documents.change(self.manager, "c", document.id, **real))
            self.model.change(document, **said)

    def delete(self) -> None:
        if living := self.living():
            document = self.chance.choice(living)
            self.run(self.documents.delete(self.manager, "c", document.id))
            self.model.delete(document)

    def living(self) -> list[Document]:
        return [one for one in self.model.documents.values() if one.lives(self.now_s)]

    def wait(self) -> None:
        """Time passes, and whoever tidies up does."""
        self.pass_time(self.chance.choice([1.0, 12.0, 31.0]))
        for reader in [one for one in self.readers if self.now_s - one.began_s > GRACE_S - 1]:
            self.read_to_the_end(reader)
        self.tidy()

    def pass_time(self, seconds: float) -> None:
        """Whoever looks for lost leases has seen just before what is held."""
        self.take_back()
        self.clock.advance(seconds)

    def take_back(self) -> None:
        assert self.run(self.lost.take_back()) == len(self.model.expire(self.now_s))

    def tidy(self) -> None:
        database, clock = self.database, self.clock
        self.take_back()
        self.run(end_expired(database, clock))
        self.model.end_expired(self.now_s)
        made = self.model.queue_refreshes()
        assert self.run(refresh_stale(database, clock)) == len(made)
        for task in made:
            self.tasks[self.run(self.job_of(task)), task.document.id] = task

    async def job_of(self, refresh: Task) -> str:
        statement = sa.select(tasks.c.job_id).where(
            tasks.c.document_id == refresh.document.id,
            tasks.c.refresh,
            tasks.c.generation.is_(None),
            tasks.c.finished_at.is_(None),
        )
        return str((await fetch(self.database, statement))[0].job_id)

    def sweep(self) -> None:
        """What nobody can see goes; at times so late that slow readers are done."""
        if self.chance.random() < 0.5:
            self.sweep_late()
        else:
            self.sweep_now()

    def sweep_late(self) -> None:
        self.all_read_to_the_end()
        self.pass_time(GRACE_S + 1)
        self.sweep_now()

    def sweep_now(self) -> None:
        parts = (self.database, self.world.index, self.objects, self.clock, GRACE_S)
        self.world.hit["swept"] += self.run(Sweep(*parts).run())
        self.run(Orphans(*parts).run())

    def close(self) -> None:
        for actor in [one.actor for one in (*self.workers, *self.readers)]:
            if actor.task is not None:
                actor.task.cancel()
                self.run(asyncio.wait([actor.task]))
        self.run(self.world.index.drop(self.place))
        self.run(self.database.close())

    def settle(self) -> None:
        """Some zombies go on at once and some at last: all that was accepted is ready, and nothing is left over."""
        self.all_read_to_the_end()
        for worker in self.workers[::2]:
            self.finish(worker)
        for _ in range(3):  # a change makes rows be written anew
            self.pass_time(LEASE_S + 1)
            self.tidy()
            self.work_all_off()
        assert {task.state for task in self.model.tasks} <= {State.READY, State.CANCELLED}
        for user in USERS:
            self.read_as(user)
            self.all_read_to_the_end()
        for worker in self.workers:  # the last of the zombies
            self.finish(worker)
        for _ in range(2):
            self.sweep_late()
        if any(one.contents for one in self.model.documents.values()):  # else nothing has made the index
            seen = self.model.seen(self.model.pin(), None, self.now_s)
            left = self.run(self.world.index.count(self.place))
            assert left == sum(len(self.parts_of(of, number, content)) for of, (number, content, _) in seen.items())
        self.change()
        self.run(self.collections.delete(self.manager, "c"))
        assert self.run(refresh_stale(self.database, self.clock)) == 0  # nobody works at what is gone
        for _ in range(2):
            self.sweep_late()
        assert self.run(self.objects.list_keys("")) == []
        names = self.run(self.world.index.names())
        assert self.place.collection_id not in {owner_of(name) for name in names}
        assert self.place.pool not in names or self.run(self.world.index.count(self.place)) == 0


@pytest.mark.parametrize(
    "walks",
    [
        pytest.param(FEW, marks=pytest.mark.light),
        pytest.param(SOME, marks=pytest.mark.heavy),
        pytest.param(MANY, marks=pytest.mark.long),
    ],
)
def test_the_stores_do_what_the_model_does(world: World, walks: int, figure: Callable[[str], None]) -> None:
    for seed in range(SEED, SEED + walks):
        walk = Walk(world, seed)
        walk.make("pooled" if seed % 3 == 0 else "dedicated")
        try:
            steps = [walk.step() for _ in range(STEPS)]
            walk.settle()
        except BaseException as error:
            error.add_note(f"VERSIONS_SEED={seed}")
            raise
        finally:
            walk.close()
        world.hit.update(steps)
    figure(f"{walks} walks from seed {SEED}: {dict(sorted(world.hit.items()))}")
    for happened in ("published", "refused to zombies", "searches of older versions", "uploads of what was there"):
        assert world.hit[happened]


def _acl(readers: list[str] | None) -> dict[str, list[str]] | None:
    return None if readers is None else {"users": readers, "groups": []}
