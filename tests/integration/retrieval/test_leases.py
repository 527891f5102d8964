"""Leases, fences and visibility: a zombie can write nothing, and an attempt that ends early shows nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from core.clock import ManualClock, SystemClock
from core.ids import new_id
from retrieval.errors import LeaseLost
from retrieval.fingerprint import of_said
from retrieval.index import Place
from retrieval.intake import NewFile
from retrieval.leases import Lease, Leases, LostTasks, waiting
from retrieval.lifecycle import NewRevision
from retrieval.milvus import VectorIndex
from retrieval.parsing import Parser
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.status import JobStatus, Status
from retrieval.sweep import Sweep
from storage.schema import collections, documents, jobs, revision_terms, revisions, tasks, term_frequencies
from tests.integration.retrieval.conftest import House


@pytest.fixture
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(deadline_s=30, memory_bytes=2**30, max_characters=100_000)
    yield opened
    await opened.close()


async def accepted(house: House, collection: str, text: str = "The tide is high.", name: str = "tide.txt") -> str:
    """Queue one file without a worker. Returns: the job's id."""
    result = await house.retrieval.intake.accept(house.principal, collection, [NewFile(name, None, text.encode())])
    return result.job_id


async def held(leases: Leases) -> Lease:
    lease = await leases.acquire()
    assert lease is not None
    return lease


def revision_of(lease: Lease, **frequencies: int) -> NewRevision:
    revision_id = new_id("rev")
    return NewRevision(
        revision_id,
        lease.document_id,
        lease.collection_id,
        f"texts/{revision_id}",
        (),
        10,
        1,
        3,
        frequencies,
        "made of something",
        of_said(lease.metadata, lease.readers),
    )


async def rows(house: House, statement: sa.Select[*tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await fetch(house.database, statement)]


async def test_one_document_goes_to_one_worker(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    await accepted(house, "c")
    first, second = house.leases("one"), house.leases("two")
    lease = await held(first)
    assert await second.acquire() is None
    await first.renew(lease)
    assert (lease.attempt, lease.fence) == (1, 1)


async def test_what_waits_for_a_worker_is_counted_and_what_a_worker_has_is_not(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    assert await waiting(house.database) == (0, None)
    await accepted(house, "c", name="a.txt")
    await accepted(house, "c", name="b.txt")
    oldest = min(await rows(house, sa.select(tasks.c.created_at)))[0]
    assert await waiting(house.database) == (2, oldest)
    await held(house.leases())
    assert (await waiting(house.database))[0] == 1


async def test_a_zombie_can_neither_report_nor_start_nor_publish(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    job_id = await accepted(house, "c")
    clock = ManualClock(SystemClock().time())
    zombie = Leases(house.database, clock, "zombie", 30, 3)
    lease = await held(zombie)
    revision = revision_of(lease, tide=1)
    await zombie.start(lease, revision)
    lost = LostTasks(house.database, clock, 30, 3)
    assert await lost.take_back() == 0
    clock.advance(30)
    assert await lost.take_back() == 1
    successor = house.leases("successor")
    new = await held(successor)
    assert new.fence > lease.fence
    for late in (
        zombie.renew(lease),
        zombie.progress(lease, Status.EMBEDDING, 0.5),
        zombie.start(lease, revision_of(lease)),
        zombie.publish(lease, revision.id),
        zombie.fail(lease, "late"),
        zombie.retry(lease, "late"),
        zombie.release(lease),
    ):
        with pytest.raises(LeaseLost):
            await late
    fresh = revision_of(new, tide=1)
    await successor.start(new, fresh)
    with pytest.raises(LeaseLost):
        await successor.publish(new, revision.id)  # the zombie's revision was given up
    await successor.publish(new, fresh.id)
    with pytest.raises(LeaseLost):
        await successor.publish(new, fresh.id)
    job = await house.retrieval.jobs.get(house.principal, job_id)
    assert job.status is JobStatus.SUCCEEDED
    visible = await rows(house, sa.select(revisions.c.id).where(revisions.c.visible_from.is_not(None)))
    assert visible == [(fresh.id,)]


async def test_a_refused_publish_changes_nothing(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    await accepted(house, "c")
    leases = house.leases()
    lease = await held(leases)
    revision = revision_of(lease, tide=1)
    await leases.start(lease, revision)
    await house.retrieval.collections.delete(house.principal, "c")
    with pytest.raises(LeaseLost):
        await leases.publish(lease, revision.id)
    assert await rows(house, sa.select(term_frequencies.c.term)) == []
    assert await rows(house, sa.select(revisions.c.visible_from)) == [(None,)]


async def test_statistics_follow_what_is_visible(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    leases = house.leases()
    statistics = sa.select(term_frequencies.c.term, term_frequencies.c.chunks).order_by(term_frequencies.c.term)
    totals = sa.select(collections.c.version, collections.c.chunks, collections.c.terms)
    for name, terms in (("a.txt", {"tide": 1, "high": 1}), ("b.txt", {"tide": 1})):
        await accepted(house, "c", name=name)
        lease = await held(leases)
        revision = revision_of(lease, **terms)
        await leases.start(lease, revision)
        await leases.publish(lease, revision.id)
    assert await rows(house, statistics) == [("high", 1), ("tide", 2)]
    await accepted(house, "c", name="a.txt")
    lease = await held(leases)
    revision = revision_of(lease, low=1)
    await leases.start(lease, revision)
    assert await rows(house, statistics) == [("high", 1), ("tide", 2)]
    await leases.publish(lease, revision.id)
    assert await rows(house, statistics) == [("low", 1), ("tide", 1)]
    assert await rows(house, totals) == [(3, 2, 6)]
    await house.retrieval.documents.delete(house.principal, "c", lease.document_id)
    assert await rows(house, statistics) == [("tide", 1)]
    assert await rows(house, totals) == [(4, 1, 3)]


async def test_a_document_that_silences_three_workers_is_failed_and_can_be_deleted(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    job_id = await accepted(house, "c")
    clock = ManualClock(SystemClock().time())
    lost = LostTasks(house.database, clock, 30, 3)
    for _ in range(3):
        await held(Leases(house.database, clock, "mortal", 30, 3))
        assert await lost.take_back() == 0
        clock.advance(30)
        assert await lost.take_back() == 1
    job = await house.retrieval.jobs.get(house.principal, job_id)
    assert job.status is JobStatus.FAILED
    assert "stopped 3 times" in (job.documents[0].error or "")
    assert await house.leases().acquire() is None
    await house.retrieval.documents.delete(house.principal, "c", job.documents[0].id)


async def test_failed_attempts_are_counted_and_a_handed_back_document_is_not(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    await accepted(house, "c")
    leases = house.leases()
    for _ in range(5):
        await leases.release(await held(leases))
    assert await leases.retry(await held(leases), "no luck") is Status.QUEUED
    assert await leases.retry(await held(leases), "no luck") is Status.QUEUED
    assert await leases.retry(await held(leases), "no luck") is Status.FAILED
    document = (await house.retrieval.documents.list(house.principal, "c"))[0]
    assert document.error == "no luck (after 3 attempts)"


async def test_cancelling_a_job_ends_its_lease_and_shows_nothing(house: House, parser: Parser) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    job_id = await accepted(house, "c")
    leases = house.leases()
    lease = await held(leases)
    job = await house.retrieval.jobs.cancel(house.principal, job_id)
    assert job.status is JobStatus.CANCELLED
    with pytest.raises(LeaseLost):
        await house.pipeline(leases, parser).run(lease)
    found = await house.retrieval.searcher.search(house.principal, Query("c", "tide"))
    assert found.passages == []
    await house.retrieval.documents.delete(house.principal, "c", lease.document_id)


async def test_a_newer_upload_ends_the_work_on_the_older(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    old_job = await accepted(house, "c", "old")
    leases = house.leases()
    old = await held(leases)
    new_job = await accepted(house, "c", "new")
    with pytest.raises(LeaseLost):
        await leases.renew(old)
    assert (await house.retrieval.jobs.get(house.principal, old_job)).status is JobStatus.CANCELLED
    new = await held(leases)
    assert (new.job_id, new.document_id) == (new_job, old.document_id)
    assert await house.objects.get(new.source_key) == b"new"
    assert await house.objects.list_keys("sources/") == [new.source_key]


async def test_rows_without_a_published_revision_are_never_found(house: House, parser: Parser) -> None:
    """The worker dies between its last row and the visibility transaction."""
    await house.retrieval.collections.create(house.principal, "c")
    await accepted(house, "c")
    clock = ManualClock(SystemClock().time())

    class Dying(Leases):
        async def publish(self, lease: Lease, revision_id: str) -> None:
            raise KeyboardInterrupt

    dying = Dying(house.database, clock, "dying", 30, 3)
    lease = await held(dying)
    with pytest.raises(KeyboardInterrupt):
        await house.pipeline(dying, parser).run(lease)
    index = house.retrieval.index
    assert await index.count(lease.place) == 1
    assert (await house.retrieval.searcher.search(house.principal, Query("c", "tide"))).passages == []
    lost = LostTasks(house.database, clock, 30, 3)
    await lost.take_back()
    clock.advance(30)
    await lost.take_back()
    leases = house.leases()
    await house.pipeline(leases, parser).run(await held(leases))
    found = await house.retrieval.searcher.search(house.principal, Query("c", "tide"))
    assert len(found.passages) == 1
    assert await index.count(lease.place) == 2
    await sweep(house, index, after_s=100)
    assert await index.count(lease.place) == 1
    assert len(await house.objects.list_keys("texts/")) == 1


async def sweep(house: House, index: VectorIndex, after_s: float) -> int:
    clock = ManualClock(SystemClock().time())
    clock.advance(after_s)
    return await Sweep(house.database, index, house.objects, clock, house.settings.reader_grace_s).run()


async def test_the_sweep_waits_for_readers_and_then_leaves_nothing(house: House, parser: Parser) -> None:
    retrieval = house.retrieval
    collection = await retrieval.collections.create(house.principal, "c")
    leases = house.leases()
    for text in ("The tide is high.", "The tide is low."):
        await accepted(house, "c", text)
        await house.pipeline(leases, parser).run(await held(leases))
    assert await retrieval.index.count(Place(collection.id)) == 2
    assert await sweep(house, retrieval.index, after_s=30) == 0
    assert await retrieval.index.count(Place(collection.id)) == 2
    assert await sweep(house, retrieval.index, after_s=100) == 1
    assert await retrieval.index.count(Place(collection.id)) == 1
    document = (await retrieval.documents.list(house.principal, "c"))[0]
    # An answer given earlier may cite the old version: its text stays.
    assert await retrieval.documents.content(house.principal, "c", document.id, 1) == "The tide is high."
    await retrieval.documents.delete(house.principal, "c", document.id)
    assert await sweep(house, retrieval.index, after_s=100) == 2
    assert await retrieval.index.count(Place(collection.id)) == 0
    assert await house.objects.list_keys("") == []
    await retrieval.collections.delete(house.principal, "c")
    assert await sweep(house, retrieval.index, after_s=100) == 1
    # What is written for it too late is known by its row, which says nothing more.
    (left,) = await rows(house, sa.select(collections.c.id, collections.c.swept_at > 0, collections.c.live_name))
    assert left == (collection.id, True, None)
    for table in (documents, jobs, tasks, revisions, revision_terms, term_frequencies):
        assert await rows(house, sa.select(sa.func.count()).select_from(table)) == [(0,)], table.name


@pytest.mark.slow
async def test_a_reader_pinned_to_a_version_never_mixes_two(house: House, parser: Parser) -> None:
    """Many retired rows stand before the visible ones: the search looks further until it has enough."""
    retrieval = house.retrieval
    await retrieval.collections.create(house.principal, "c", chunking={"characters": 100, "tokens": 32})
    leases = house.leases()
    for version in range(1, 5):
        text = "\n\n".join(f"The tide is high at gauge {gauge} in edition {version}, they say." for gauge in range(40))
        await accepted(house, "c", text)
        await house.pipeline(leases, parser).run(await held(leases))
    for mode in ("dense", "lexical", "hybrid"):
        found = await retrieval.searcher.search(
            house.principal,
            Query("c", "The tide is high at the gauge, they say, in edition 1", top_k=30, mode=mode),  # type: ignore[arg-type]
        )
        assert len(found.passages) == 30, mode
        assert {passage.document_version for passage in found.passages} == {4}
        assert len({(passage.start, passage.end) for passage in found.passages}) == 30


async def test_bulk_lets_what_is_small_in_between_and_what_came_first_still_comes_first(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    bulk = [NewFile(f"bulk{number:02}.md", None, b"A page of many.") for number in range(40)]
    await house.retrieval.intake.accept(house.principal, "c", bulk)
    await house.retrieval.intake.accept(house.principal, "c", [NewFile("small.md", None, b"One page.")])
    leases, order = house.leases(), []
    while (lease := await leases.acquire()) is not None:
        order.append(lease.filename)
    assert order[0] == "bulk00.md"
    assert order.index("small.md") < 10
    assert [name for name in order if name != "small.md"] == [file.filename for file in bulk]
