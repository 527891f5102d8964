"""Collections in several embedding spaces, and a collection that moves from one to another while it answers."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from core.clock import ManualClock, SystemClock
from core.dependency import DependencyError
from core.principal import Principal, Role
from retrieval import generations
from retrieval.collections import Collection
from retrieval.errors import InputInvalid, LeaseLost, ReindexNotFound, ReindexRunning, SpaceMismatch
from retrieval.index import Place
from retrieval.intake import NewFile
from retrieval.leases import Lease, Leases, LostTasks
from retrieval.milvus import owner_of
from retrieval.open import open_retrieval
from retrieval.orphans import Orphans
from retrieval.parsing import Parser
from retrieval.rows import fetch
from retrieval.search import Query
from retrieval.status import JobStatus, Status
from retrieval.sweep import Sweep
from storage.migrate import migrate
from storage.schema import collections, coming_frequencies, documents, tasks
from storage.schema import generations as generation_rows
from storage.sql import Database
from tests.integration.retrieval.conftest import House, Servers, kill, until
from tests.support import narrow
from tests.support.database import migrated
from tests.support.engines import Engine
from tests.support.postgres import postgres_server

TEXTS = {f"gauge{number}": f"# Gauge {number}\n\nThe tide at gauge {number} is high, they say." for number in range(6)}


@pytest.fixture(scope="module")
def servers(servers: Servers, two_spaces: Engine) -> Servers:
    return replace(servers, embedding_url=two_spaces.url)


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(deadline_s=30, memory_bytes=2**30, max_characters=100_000)
    yield opened
    await opened.close()


async def found(house: House, question: str = "tide", mode: Any = "hybrid", who: Principal | None = None) -> set[str]:
    """Names of the documents that a search finds; nothing may be away."""
    result = await house.retrieval.searcher.search(who or house.principal, Query("c", question, 100, mode))
    assert not result.degraded, result.degraded_reason
    return {passage.filename for passage in result.passages}


async def work_off(house: House, parser: Parser, leases: Leases | None = None, most: int = 1000) -> int:
    """Do what waits, without a worker. Returns: how many tasks."""
    leases = leases or house.leases()
    for done in range(most):
        if (lease := await leases.acquire()) is None:
            return done
        await house.pipeline(leases, parser).run(lease)
    return most


async def filled(house: House, parser: Parser, placement: str = "dedicated", **texts: str) -> Collection:
    await house.retrieval.collections.create(house.principal, "c", placement=placement)
    files = [NewFile(f"{name}.md", None, text.encode()) for name, text in (texts or TEXTS).items()]
    await house.retrieval.intake.accept(house.principal, "c", files)
    await work_off(house, parser)
    return await house.retrieval.collections.get(house.principal, "c")


async def place(house: House) -> Place:
    row = (await fetch(house.database, sa.select(collections).where(collections.c.live_name == "c")))[0]
    return Place(row.id, row.pool, row.generation)


async def moved(house: House, parser: Parser, model: str = narrow.NAME, **how: Any) -> Collection:
    """Move the collection whole."""
    await house.retrieval.reindexes.begin(house.principal, "c", model, **how)
    await work_off(house, parser)
    assert await generations.advance(house.database, SystemClock()) == 1
    return await house.retrieval.collections.get(house.principal, "c")


async def sweep(house: House, after_s: float = 100) -> None:
    clock = ManualClock(SystemClock().time())
    clock.advance(after_s)
    parts = (house.database, house.retrieval.index, house.objects, clock, house.settings.reader_grace_s)
    while await Sweep(*parts).run():
        pass


# ------------------------------------------------------------------------------------------------------------- spaces


async def test_a_collection_is_made_in_the_space_that_is_named(house: House, parser: Parser) -> None:
    made = await house.retrieval.collections.create(house.principal, "c", embedding_model=narrow.NAME)
    assert (made.embedding_space, made.dimensions) == (narrow.NAME, narrow.DIMENSIONS)
    other = await house.retrieval.collections.create(house.principal, "other")
    assert (other.embedding_space, other.dimensions) != (made.embedding_space, made.dimensions)
    for name in ("c", "other"):
        files = [NewFile(f"{title}.md", None, text.encode()) for title, text in TEXTS.items()]
        await house.retrieval.intake.accept(house.principal, name, files)
    await work_off(house, parser)
    for name in ("c", "other"):
        result = await house.retrieval.searcher.search(house.principal, Query(name, TEXTS["gauge3"], 1, "dense"))
        assert [passage.filename for passage in result.passages] == ["gauge3.md"]


@pytest.mark.parametrize("name", ["nobody", f"{narrow.NAME}-late-interaction", ""])
async def test_a_model_that_does_not_embed_or_is_not_there_is_refused_and_the_others_are_named(
    house: House, name: str
) -> None:
    with pytest.raises(InputInvalid) as refused:
        await house.retrieval.collections.create(house.principal, "c", embedding_model=name)
    assert refused.value.param == "embedding_model"
    assert str(refused.value).endswith(f"there is: all-minilm-l6-v2, {narrow.NAME}.")


async def test_a_space_that_nobody_serves_any_more_costs_the_dense_leg_alone(house: House, parser: Parser) -> None:
    await filled(house, parser)
    gone = collections.update().where(collections.c.live_name == "c").values(embedding_space="gone")
    await house.database.write(lambda connection: connection.execute(gone))
    result = await house.retrieval.searcher.search(house.principal, Query("c", "tide", 100))
    assert len(result.passages) == len(TEXTS)
    assert "./stoker collections reindex" in (result.degraded_reason or "")
    with pytest.raises(SpaceMismatch, match="narrow"):
        await house.retrieval.searcher.search(house.principal, Query("c", "tide", 100, "dense"))
    async with house.worker():
        job = await house.ingest("c", new="A new one.")
    assert job.documents[0].status is Status.FAILED
    assert "./stoker collections reindex" in (job.documents[0].error or "")


# ------------------------------------------------------------------------------------------------------------ reindex


@pytest.mark.parametrize("placement", ["dedicated", "pooled"])
async def test_a_collection_moves_to_another_space_and_nothing_of_the_old_index_is_left(
    house: House, parser: Parser, placement: str
) -> None:
    before = await filled(house, parser, placement)
    old = await place(house)
    after = await moved(house, parser)
    new = await place(house)
    assert (after.embedding_space, after.dimensions) == (narrow.NAME, narrow.DIMENSIONS)
    assert (after.chunks, after.documents) == (before.chunks, before.documents)
    assert after.version == before.version + 1
    assert new.name != old.name
    for mode in ("hybrid", "dense", "lexical"):
        assert await found(house, mode=mode) == {f"{name}.md" for name in TEXTS}
    assert await house.retrieval.index.count(old) == before.chunks  # somebody may be reading
    await sweep(house, after_s=30)
    assert await house.retrieval.index.count(old) == before.chunks
    await sweep(house)
    names = await house.retrieval.index.names()
    if placement == "dedicated":
        assert old.name not in names
    else:
        assert await house.retrieval.index.count(old) == 0
    assert await house.retrieval.index.count(new) == after.chunks
    assert await found(house) == {f"{name}.md" for name in TEXTS}
    await house.retrieval.collections.delete(house.principal, "c")
    await sweep(house)
    names = await house.retrieval.index.names()
    assert after.id not in {owner_of(name) for name in names}
    assert placement == "dedicated" or await house.retrieval.index.count(new) == 0
    assert await house.objects.list_keys("") == []


async def test_other_chunks_in_the_same_space_and_back(house: House, parser: Parser) -> None:
    """Citations of the old version still point into its text, and what has not changed is known again."""
    text = "\n\n".join(f"The tide is high at gauge {gauge}, they say on the quay." for gauge in range(20))
    before = await filled(house, parser, a=text)
    fine = {"characters": 100, "tokens": 32}
    after = await moved(house, parser, before.embedding_space, chunking=fine)
    assert after.chunking == fine
    assert after.chunks > 4 * before.chunks
    result = await house.retrieval.searcher.search(house.principal, Query("c", "gauge 7", 100, "lexical"))
    (document,) = await house.retrieval.documents.list(house.principal, "c")
    assert document.version == 2
    for version in (1, 2):
        assert await house.retrieval.documents.content(house.principal, "c", document.id, version) == text
    assert all(text[one.start : one.end] == one.text for one in result.passages)
    again = await house.retrieval.intake.accept(house.principal, "c", [NewFile("a.md", None, text.encode())])
    job = await house.retrieval.jobs.get(house.principal, again.job_id)
    assert job.status is JobStatus.SUCCEEDED  # at once: it is known to be the same
    back = await moved(house, parser, before.embedding_space, chunking={})
    assert (back.chunks, back.chunking) == (before.chunks, {})


async def test_what_happens_meanwhile_holds_afterwards(house: House, parser: Parser) -> None:
    """A revoked reader, a deleted document, a new version, a new document and changed metadata, in the middle."""
    retrieval, manager = house.retrieval, house.principal
    ann = Principal(manager.tenant_id, None, Role.MEMBER, user_id="ann")
    await filled(house, parser)
    ids = {one.filename: one.id for one in await retrieval.documents.list(manager, "c")}
    await retrieval.reindexes.begin(manager, "c", narrow.NAME)
    leases = house.leases()
    assert await work_off(house, parser, leases, most=3) == 3  # half of the twins
    waiting = await leases.acquire()  # and a worker is at the fourth
    assert waiting is not None
    assert waiting.twin_from is not None
    for name in ("gauge0.md", "gauge5.md"):  # one that has its twin, one that has not
        await retrieval.documents.change(manager, "c", ids[name], acl={"users": ["bob"], "groups": []})
    for name in ("gauge1.md", "gauge4.md"):
        await retrieval.documents.delete(manager, "c", ids[name])
    await retrieval.documents.change(manager, "c", ids["gauge2.md"], metadata={"year": 2026})
    await retrieval.intake.accept(manager, "c", [NewFile("gauge3.md", None, b"The tide at gauge 3 is low now.")])
    await retrieval.intake.accept(manager, "c", [NewFile("new.md", None, b"The tide at a new gauge.")])
    open_to_ann = {"gauge2.md", "gauge3.md"}
    assert await found(house, who=ann) == open_to_ann
    await house.pipeline(leases, parser).run(waiting)
    for _ in range(3):
        await house.database.write(_lift_hold)
        await work_off(house, parser, leases)
        await generations.advance(house.database, SystemClock())
    collection = await retrieval.collections.get(manager, "c")
    assert collection.reindex is None, collection.reindex
    assert collection.embedding_space == narrow.NAME
    open_to_ann |= {"new.md"}
    for mode in ("dense", "lexical", "hybrid"):
        assert await found(house, mode=mode, who=ann) == open_to_ann, mode
        assert await found(house, mode=mode) == open_to_ann | {"gauge0.md", "gauge5.md"}
    filtered = Query("c", "tide", 100, "dense", {"type": "eq", "key": "year", "value": 2026})
    assert [one.filename for one in (await retrieval.searcher.search(ann, filtered)).passages] == ["gauge2.md"]
    texts = (await retrieval.searcher.search(manager, Query("c", "gauge 3", 100, "lexical"))).passages
    assert [one.text for one in texts if one.filename == "gauge3.md"] == ["The tide at gauge 3 is low now."]
    async with house.worker():  # readers that changed on the way reach the rows, too
        await until(lambda: _nothing_stale(house))
    assert await found(house, mode="dense", who=ann) == open_to_ann


async def _lift_hold(connection: Any) -> None:
    await connection.execute(generation_rows.update().values(hold_until=None))


async def _nothing_stale(house: House) -> bool | None:
    stale = sa.select(documents.c.id).where(documents.c.stale, documents.c.deleted_at.is_(None))
    return True if not await fetch(house.database, stale) else None


async def test_a_second_reindex_is_refused_and_a_cancelled_one_leaves_everything_as_it_was(
    house: House, parser: Parser
) -> None:
    retrieval, manager = house.retrieval, house.principal
    before = await filled(house, parser)
    with pytest.raises(ReindexNotFound):
        await retrieval.reindexes.cancel(manager, "c")
    begun = await retrieval.reindexes.begin(manager, "c", narrow.NAME)
    assert begun.reindex is not None
    assert (begun.reindex.documents, begun.reindex.documents_done, begun.reindex.failed) == (len(TEXTS), 0, 0)
    with pytest.raises(ReindexRunning):
        await retrieval.reindexes.begin(manager, "c", narrow.NAME)
    leases = house.leases()
    await work_off(house, parser, leases, most=2)
    half = (await retrieval.collections.get(manager, "c")).reindex
    assert half is not None
    assert half.documents_done == 2
    zombie = await leases.acquire()
    assert zombie is not None
    cancelled = await retrieval.reindexes.cancel(manager, "c")
    assert cancelled == before
    with pytest.raises(LeaseLost):
        await house.pipeline(leases, parser).run(zombie)
    assert await leases.acquire() is None
    assert await fetch(house.database, sa.select(coming_frequencies)) == []
    assert await found(house, mode="dense") == {f"{name}.md" for name in TEXTS}
    await house.retrieval.index.ensure(zombie.place, zombie.dimensions, 30)  # it slept here, and goes on
    await sweep(house)
    await house.retrieval.index.ensure(zombie.place, zombie.dimensions, 30)  # a second one
    await Orphans(house.database, retrieval.index, house.objects, SystemClock(), grace_s=0).run()
    assert [name for name in await retrieval.index.names() if owner_of(name) == before.id] == [before.id]
    after = await moved(house, parser)  # and it can be moved later
    assert after.embedding_space == narrow.NAME


async def test_a_document_that_fails_is_told_and_the_old_index_answers_until_it_is_mended(
    house: House, parser: Parser
) -> None:
    retrieval, manager = house.retrieval, house.principal
    await filled(house, parser)
    bad = next(one for one in await retrieval.documents.list(manager, "c") if one.filename == "gauge2.md")
    ann = Principal(manager.tenant_id, None, Role.MEMBER, user_id="ann")
    await retrieval.documents.change(manager, "c", bad.id, acl={"users": ["bob"], "groups": []})
    await work_off(house, parser)
    await retrieval.reindexes.begin(manager, "c", narrow.NAME)
    for key in await house.objects.list_keys("texts/"):
        if b"gauge 2" in await house.objects.get(key):
            await house.objects.delete(key)
    async with house.worker():
        stuck = await until(lambda: _failed(house), timeout_s=60)
        assert (stuck.documents_done, stuck.failed) == (len(TEXTS) - 1, 1)
        (failure,) = stuck.errors
        assert (failure.document_id, failure.filename) == (bad.id, "gauge2.md")
        assert "send the document again" in failure.error
        # Whoever may not read it learns that there is one, and nothing else.
        seen = (await retrieval.collections.get(ann, "c")).reindex
        assert seen is not None
        assert (seen.failed, seen.errors) == (1, [])
        assert await found(house, mode="dense") == {f"{name}.md" for name in TEXTS}
        await retrieval.reindexes.retry(manager, "c")
        await until(lambda: _failed(house), timeout_s=60)
        await house.send("c", [NewFile("gauge2.md", None, b"The tide at gauge 2 is high again.")])
        after = await until(lambda: _settled(house), timeout_s=60)
    assert after.embedding_space == narrow.NAME
    assert await found(house, mode="dense") == {f"{name}.md" for name in TEXTS}


async def _failed(house: House) -> Any:
    reindex = (await house.retrieval.collections.get(house.principal, "c")).reindex
    if reindex is None or not reindex.failed or reindex.documents_done + reindex.failed < reindex.documents:
        return None
    return reindex


async def _settled(house: House) -> Collection | None:
    collection = await house.retrieval.collections.get(house.principal, "c")
    return collection if collection.reindex is None else None


async def test_an_upload_that_a_worker_is_at_when_the_new_index_answers_goes_into_the_new_one(
    house: House, parser: Parser
) -> None:
    retrieval, manager = house.retrieval, house.principal
    await filled(house, parser)
    job = await retrieval.intake.accept(manager, "c", [NewFile("late.md", None, b"The tide was late.")])
    leases = house.leases()
    late = await leases.acquire()
    assert late is not None
    await moved(house, parser)
    assert late.dimensions != narrow.DIMENSIONS
    with pytest.raises(LeaseLost):
        await house.pipeline(leases, parser).run(late)
    await work_off(house, parser)
    assert (await retrieval.jobs.get(manager, job.job_id)).status is JobStatus.SUCCEEDED
    assert "late.md" in await found(house, "late", "dense")
    (task,) = await fetch(house.database, sa.select(tasks).where(tasks.c.job_id == job.job_id))
    assert task.attempts == 1  # what the switch undid was no fault of its own


async def test_a_text_whose_newer_file_failed_moves_all_the_same(house: House, parser: Parser) -> None:
    """The file of the visible version is gone; its text is not."""
    retrieval, manager = house.retrieval, house.principal
    await filled(house, parser, a="# Tides\n\nThe tide is high.")
    async with house.worker():
        job = await house.send("c", [NewFile("a.md", None, b"   ")])
    assert job.status is JobStatus.FAILED
    await moved(house, parser)
    assert await found(house, mode="dense") == {"a.md"}
    again = await retrieval.intake.accept(manager, "c", [NewFile("a.md", None, b"   ")])
    assert (await retrieval.jobs.get(manager, again.job_id)).status is JobStatus.QUEUED  # not taken for the old one


async def test_a_twin_whose_worker_dies_is_made_by_another(house: House, parser: Parser) -> None:
    await filled(house, parser)
    await house.retrieval.reindexes.begin(house.principal, "c", narrow.NAME)
    clock = ManualClock(SystemClock().time())

    class Dying(Leases):
        async def publish(self, lease: Lease, revision_id: str) -> None:
            raise KeyboardInterrupt

    dying = Dying(house.database, clock, "dying", 30, 3)
    lease = await dying.acquire()
    assert lease is not None
    with pytest.raises(KeyboardInterrupt):
        await house.pipeline(dying, parser).run(lease)
    lost = LostTasks(house.database, clock, 30, 3)
    assert await lost.take_back() == 0
    clock.advance(30)
    assert await lost.take_back() == 1
    await work_off(house, parser)
    assert await generations.advance(house.database, SystemClock()) == 1
    await sweep(house)
    collection = await house.retrieval.collections.get(house.principal, "c")
    assert await house.retrieval.index.count(await place(house)) == collection.chunks


# ------------------------------------------------------------------------------------------------- under way, for real


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["dedicated", "pooled"])
@pytest.mark.parametrize("turns", [1, pytest.param(3, marks=pytest.mark.long)])
async def test_readers_meet_no_mixture_and_lose_nothing_while_workers_are_killed(
    house: House, tmp_path: Path, placement: str, turns: int, figure: Callable[[str], None]
) -> None:
    """Two workers, killed at random; a reader that searches all the time; uploads, changes and deletes go on."""
    retrieval, manager, chance = house.retrieval, house.principal, random.Random(11)
    coarse, fine = {"characters": 2000, "tokens": 800}, {"characters": 100, "tokens": 32}
    await retrieval.collections.create(manager, "c", placement=placement, chunking=coarse)
    steady = [NewFile(f"steady{number}.md", None, _text(number)) for number in range(12)]
    async with house.worker():
        await house.send("c", steady)
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    reading = asyncio.create_task(_read(house, seen, wrong))
    environment = {"STOKER_LEASE_S": "2", "STOKER_HEARTBEAT_S": "0.3", "STOKER_POLL_S": "0.2", "STOKER_SWEEP_S": "0.5"}
    workers = [house.worker_process(tmp_path / f"worker{number}.log", **environment) for number in range(2)]
    try:
        for turn in range(turns):
            model, chunking = ((narrow.NAME, fine), ("all-minilm-l6-v2", coarse))[turn % 2]
            await retrieval.reindexes.begin(manager, "c", model, chunking)
            for number in range(6):
                await asyncio.sleep(chance.uniform(0, 0.5))
                at = chance.randrange(2)
                kill(workers[at])
                seen["workers killed while a reindex ran"] += await _settled(house) is None
                seen["workers killed"] += 1
                workers[at] = house.worker_process(tmp_path / f"worker{at}.log", **environment)
                if number % 2:
                    new = NewFile(f"new{turn}-{number}.md", None, b"The tide at a new pier is low.")
                    await retrieval.intake.accept(manager, "c", [new])
            await until(lambda: _settled(house), timeout_s=120)
            seen["reindexes done"] += 1
        await until(lambda: _idle(house), timeout_s=60)
    finally:
        reading.cancel()
        for process in workers:
            kill(process)
    figure(f"{placement}: {dict(sorted(seen.items()))}")
    assert not wrong, wrong[:5]
    assert seen["workers killed while a reindex ran"] >= turns
    assert seen["searches"] > 20
    names = {one.filename for one in await retrieval.documents.list(manager, "c", limit=100)}
    assert len(names) == 12 + 3 * turns
    assert await found(house, "tide", "lexical") == names
    await sweep(house)
    await Orphans(house.database, retrieval.index, house.objects, SystemClock(), grace_s=0).run()
    collection = await retrieval.collections.get(manager, "c")
    assert await retrieval.index.count(await place(house)) == collection.chunks
    mine = [name for name in await retrieval.index.names() if owner_of(name) == collection.id]
    assert mine == ([(await place(house)).name] if placement == "dedicated" else [])


def _text(number: int) -> bytes:
    return "\n\n".join(
        f"The tide at pier {number}, mark {mark}, is high, and so says everyone on the quay." for mark in range(6)
    ).encode()


async def _read(house: House, seen: Counter[str], wrong: list[str]) -> None:
    """Search without end: each result has all of the steady documents, cut in one way."""
    while True:
        try:
            result = await house.retrieval.searcher.search(house.principal, Query("c", "tide pier", 100, "lexical"))
        except DependencyError:
            seen["searches that were told that a part is away"] += 1
            continue
        seen["searches"] += 1
        steady = Counter(one.filename for one in result.passages if one.filename.startswith("steady"))
        if len(steady) != 12 or set(steady.values()) not in ({1}, {6}):
            wrong.append(f"{steady}")
        seen["searches of fine chunks"] += set(steady.values()) == {6}
        await asyncio.sleep(0.01)


async def _idle(house: House) -> bool | None:
    waiting = sa.select(tasks.c.job_id).where(tasks.c.status.not_in((Status.READY, Status.CANCELLED, Status.FAILED)))
    return True if not await fetch(house.database, waiting.limit(1)) else None


# --------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres_server() as server:
        yield server.url()


@pytest.fixture
async def on_postgres(house: House, postgres_url: str) -> AsyncIterator[House]:
    """The same house, with its catalog in PostgreSQL."""
    migrated(postgres_url)
    settings = house.settings.model_copy(update={"database_url": SecretStr(postgres_url)})
    database = Database(postgres_url, settings.sql_deadline_s)
    async with open_retrieval(settings, database, house.redis, house.objects) as retrieval:
        opened = replace(house, settings=settings, database=database, retrieval=retrieval)
        yield replace(opened, principal=await opened.tenant())
    await database.close()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrate, postgres_url, "base").result()


@pytest.mark.heavy
@pytest.mark.parametrize(
    "test",
    [
        test_other_chunks_in_the_same_space_and_back,
        test_what_happens_meanwhile_holds_afterwards,
        test_a_second_reindex_is_refused_and_a_cancelled_one_leaves_everything_as_it_was,
        test_a_document_that_fails_is_told_and_the_old_index_answers_until_it_is_mended,
        test_an_upload_that_a_worker_is_at_when_the_new_index_answers_goes_into_the_new_one,
        test_a_twin_whose_worker_dies_is_made_by_another,
    ],
)
async def test_it_is_the_same_on_postgresql(
    on_postgres: House, parser: Parser, test: Callable[[House, Parser], Awaitable[None]]
) -> None:
    await test(on_postgres, parser)
