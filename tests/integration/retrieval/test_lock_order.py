"""Who waits for whom in PostgreSQL: two that change one document wait in one order, and go by what is true then.

Each test holds the first of the two where it has its locks, and lets it go on once the server says that the other one
waits.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterator
from types import ModuleType
from typing import Any, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

import retrieval.documents
import retrieval.generations
from core.clock import ManualClock
from core.principal import Principal, Role
from core.reach import ANYWHERE
from retrieval import lifecycle, twins
from retrieval.errors import ErrandLost, LeaseLost
from retrieval.jobs import Jobs
from retrieval.leases import Lease, Leases, end_expired
from retrieval.lifecycle import NewRevision
from retrieval.rows import fetch
from retrieval.sources.errands import Errand, Errands, ErrandStatus, Kind
from retrieval.status import JobStatus, Status
from storage.migrate import migrate
from storage.schema import documents, errands, generations, revisions, tasks
from storage.sql import Database
from tests.integration.retrieval.conftest import until
from tests.support.catalog import NAME, Catalog, new_catalog
from tests.support.postgres import Postgres, postgres_server

pytestmark = pytest.mark.slow  # PostgreSQL is started

_numbers = itertools.count()
WAITING = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        server.execute("CREATE DATABASE migrated")
        migrate(server.url("migrated"))
        yield server


@pytest.fixture
def own_url(postgres: Postgres) -> str:
    """Of each test's own: documents that are left half made, or whose time is up, are others' business as well."""
    name = f"test{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    return postgres.url(name)


@pytest.fixture
async def database(own_url: str) -> AsyncIterator[Database]:
    opened = Database(own_url, 30.0)
    yield opened
    await opened.close()


@pytest.fixture
async def catalog(database: Database) -> Catalog:
    return await new_catalog(database)


class Halt:
    """A place at which whoever comes there waits until it is let go on."""

    def __init__(self) -> None:
        self.there, self.go_on = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.there.set()
        await self.go_on.wait()


async def side_by_side(database: Database, halt: Halt, one: Awaitable[Any], other: Awaitable[Any]) -> list[Any]:
    """What comes of both: the other one begins when the first halts, which goes on when the other waits or ended."""

    async def waits() -> bool | None:
        found = await database.read(lambda connection: connection.scalar(WAITING))
        return True if found or second.done() else None

    first = asyncio.ensure_future(one)
    await asyncio.wait({first, asyncio.ensure_future(halt.there.wait())}, return_when="FIRST_COMPLETED")
    second = asyncio.ensure_future(other)
    await until(waits)
    halt.go_on.set()
    return await asyncio.gather(first, second)


async def row(catalog: Catalog, document_id: str) -> Any:
    (found,) = await fetch(catalog.database, sa.select(documents).where(documents.c.id == document_id))
    return found


async def made(catalog: Catalog, document_id: str) -> tuple[str, str]:
    """The document's task and revision, by the ids of job and revision."""
    tried = sa.select(tasks.c.job_id, revisions.c.id).join(revisions, revisions.c.document_id == tasks.c.document_id)
    ((job_id, revision_id),) = await fetch(catalog.database, tried.where(tasks.c.document_id == document_id))
    return job_id, revision_id


async def test_a_document_whose_time_is_up_as_it_comes_out_waits_for_its_collection(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever publishes has the collection and then wants the document; so does whoever ends it."""
    document_id = await catalog.put("The tide.", expires_at=1.0, publish=False)
    job_id, revision_id = await made(catalog, document_id)
    halt, change = Halt(), lifecycle._change_collection

    async def slowly(*args: Any, **about: Any) -> None:
        if about["gained"] is not None:
            await halt.wait()
        await change(*args, **about)

    async def publish(connection: AsyncConnection) -> None:
        await lifecycle.publish(catalog.database, connection, job_id, revision_id, 0.0)

    monkeypatch.setattr(lifecycle, "_change_collection", slowly)
    ended = end_expired(catalog.database, ManualClock(1000.0))
    assert await side_by_side(catalog.database, halt, catalog.database.write(publish), ended) == [None, 1]
    assert (await row(catalog, document_id)).deleted_at == 1000.0
    left = sa.select(revisions.c.id).where(revisions.c.document_id == document_id, revisions.c.retired_at.is_(None))
    assert await fetch(catalog.database, left) == []


@pytest.mark.parametrize(("ends_as", "job_is"), [("ready", JobStatus.SUCCEEDED), ("failed", JobStatus.FAILED)])
async def test_a_job_that_is_cancelled_as_its_document_ends_leaves_it_as_it_is(
    catalog: Catalog, ends_as: str, job_is: JobStatus
) -> None:
    document_id = await catalog.put("The tide.", publish=False)
    job_id, revision_id = await made(catalog, document_id)
    halt, status = Halt(), Status(ends_as)

    async def end(connection: AsyncConnection) -> None:
        """As its worker does."""
        await connection.execute(tasks.update().where(tasks.c.job_id == job_id).values(status=status))
        if status is Status.READY:
            await lifecycle.publish(catalog.database, connection, job_id, revision_id, 0.0)
        else:
            await connection.execute(documents.update().where(documents.c.id == document_id).values(status=status))
        await halt.wait()

    jobs = Jobs(catalog.database, None, ManualClock(1000.0))  # type: ignore[arg-type]  # a cancel nudges nobody
    cancelled = jobs.cancel(Principal(catalog.tenant_id, "key_1", Role.MANAGER), job_id)
    _, job = await side_by_side(catalog.database, halt, catalog.database.write(end), cancelled)
    assert (job.status, job.documents[0].status) == (job_is, status)
    assert (await row(catalog, document_id)).status == status


def worker(catalog: Catalog) -> Leases:
    return Leases(catalog.database, ManualClock(1.0), "w", 30.0, 3)


def lease_of(document_id: str, job_id: str, catalog: Catalog) -> Lease:
    """The lease of the worker that has the document's task."""
    return Lease(
        job_id=job_id, document_id=document_id, fence=0, attempt=1, tenant_id=catalog.tenant_id, reach=ANYWHERE,
        filename="f", media_type="text/plain", source_key="", sha256="", revision_id=None, refresh=False, metadata={},
        readers=[], collection_id=catalog.collection_id, generation=0, pool=None, embedding_space="none", dimensions=1,
        average_terms=65.0, language="english", chunking={},
    )  # fmt: skip


def halted_before(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> Halt:
    """Whoever calls this function halts before."""
    halt, called = Halt(), getattr(module, name)

    async def slowly(*args: Any) -> Any:
        await halt.wait()
        return await called(*args)

    monkeypatch.setattr(module, name, slowly)
    return halt


@pytest.mark.parametrize("step", ["start", "publish", "fail"])
async def test_whoever_deletes_a_document_and_its_worker_end_neither_of_them(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    document_id = await catalog.put("The tide.", publish=False)
    job_id, revision_id = await made(catalog, document_id)
    leases, lease = worker(catalog), lease_of(document_id, job_id, catalog)
    revision = NewRevision("rev", document_id, catalog.collection_id, "", (), 1, 1, 1, {"tide": 1}, "", "")
    steps = {"start": lambda: leases.start(lease, revision), "publish": lambda: leases.publish(lease, revision_id)}
    steps["fail"] = lambda: leases.fail(lease, "no text")

    async def work() -> str:
        try:
            await steps[step]()
        except LeaseLost:
            return "lost"
        return "done"

    halt = halted_before(monkeypatch, lifecycle, "cancel_tasks")
    ended = [None, "done" if step == "fail" else "lost"]  # who fails waits for nobody
    assert await side_by_side(catalog.database, halt, catalog.hide(document_id), work()) == ended
    assert (await row(catalog, document_id)).deleted_at == 0.0


async def test_whoever_cancels_a_job_and_whoever_fetches_its_document_end_neither_of_them(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await catalog.put(publish=False)
    job_id, _ = await made(catalog, document_id)
    address = f"https://a.example/{document_id}"
    about = {"id": document_id, "job_id": job_id, "tenant_id": catalog.tenant_id, "document_id": document_id}
    about |= {"kind": Kind.URL, "address": address, "status": ErrandStatus.OPEN, "created_at": 0.0}

    async def send(connection: AsyncConnection) -> None:
        await connection.execute(errands.insert().values(about))
        await connection.execute(tasks.update().where(tasks.c.job_id == job_id).values(status=Status.FETCHING))

    await catalog.database.write(send)
    clock = ManualClock(1.0)
    sent = Errands(catalog.database, clock, "w", lease_s=30.0, max_attempts=3, delay_s=1.0, retry_s=5.0)
    errand = Errand(
        document_id, job_id, catalog.tenant_id, document_id, Kind.URL, address, None, {}, 0, 1, 0, "f", None
    )

    async def fetch_it() -> bool:
        with pytest.raises(ErrandLost):
            await sent.fail(errand, "no answer")
        return False

    halt = halted_before(monkeypatch, lifecycle, "cancel_tasks")
    jobs = Jobs(catalog.database, None, clock)  # type: ignore[arg-type]  # a cancel nudges nobody
    cancelled = jobs.cancel(Principal(catalog.tenant_id, "key_1", Role.MANAGER), job_id)
    job, _ = await side_by_side(catalog.database, halt, cancelled, fetch_it())
    assert job.documents[0].status == Status.CANCELLED


class Nobody:
    """Redis where nobody waits for a nudge."""

    async def nudge_ingestion(self) -> None: ...


async def test_whoever_changes_a_document_and_its_worker_end_neither_of_them(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await catalog.put("The tide.", publish=False)
    job_id, _ = await made(catalog, document_id)
    lease, nobody = lease_of(document_id, job_id, catalog), cast(Any, Nobody())
    desk = retrieval.documents.Documents(catalog.database, nobody, nobody, ManualClock(1.0))
    by = Principal(catalog.tenant_id, "key_1", Role.MANAGER)
    halt = halted_before(monkeypatch, retrieval.documents, "set_readers")
    changing = desk.change(by, NAME, document_id, metadata={"of": "tides"}, acl={"users": ["ann"]})
    working = worker(catalog).progress(lease, Status.INDEXING, 0.5)
    changed, _ = await side_by_side(catalog.database, halt, changing, working)
    assert (changed.metadata, (await row(catalog, document_id)).status) == ({"of": "tides"}, Status.INDEXING)


async def test_a_reindex_that_comes_to_its_end_and_a_worker_end_neither_of_them(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await catalog.put("The tide.")
    job_id, revision_id = await made(catalog, document_id)
    space = {"embedding_space": "none", "dimensions": 1, "chunking": {}, "average_terms": 65.0, "created_at": 0.0}
    about = {"text_key": "", "fingerprint": "", "said": "", "number": 0, "created_at": 0.0, "chunks": 1, "terms": 1}
    about |= {"id": f"{revision_id}t", "document_id": document_id, "collection_id": catalog.collection_id, "pages": []}

    async def switch(connection: AsyncConnection) -> None:
        """With a twin for the document, which has a newer upload on its way."""
        making = {"collection_id": catalog.collection_id, "number": 1, **space}
        await connection.execute(generations.insert().values(making))
        twin = {**about, "characters": 1, "generation": 1, "twin_of": revision_id, "ready_at": 1.0}
        await connection.execute(revisions.insert().values(twin))
        collection = await lifecycle.lock_collection_by_id(connection, catalog.collection_id)
        being_made = await twins.being_made(connection, catalog.collection_id)
        await retrieval.generations._switch(catalog.database, connection, collection, being_made, 1.0)

    async def work() -> bool:
        with pytest.raises(LeaseLost):
            await worker(catalog).progress(lease_of(document_id, job_id, catalog), Status.INDEXING, 0.5)
        return False

    halt = halted_before(monkeypatch, retrieval.generations, "_exchange_counts")
    assert await side_by_side(catalog.database, halt, catalog.database.write(switch), work()) == [None, False]
    assert (await row(catalog, document_id)).revision_id == f"{revision_id}t"
