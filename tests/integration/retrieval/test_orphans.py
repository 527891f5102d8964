"""Things that belong to nothing are found in every store and removed; what belongs to somebody stays."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from core.clock import SystemClock
from core.ids import new_id
from retrieval.index import Place, Row
from retrieval.intake import NewFile
from retrieval.orphans import Found, Orphans
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.status import Status
from retrieval.sweep import Sweep
from storage.schema import collections, documents, revisions, tasks
from tests.integration.retrieval.conftest import House


def orphans(house: House, grace_s: float = 0) -> Orphans:
    return Orphans(house.database, house.retrieval.index, house.objects, SystemClock(), grace_s)


def sweep(house: House) -> Sweep:
    return Sweep(house.database, house.retrieval.index, house.objects, SystemClock(), grace_s=0)


def row(collection_id: str, revision_id: str, number: int = 0) -> Row:
    dense = np.zeros(384, np.float32)
    dense[0] = 1
    return Row(
        f"{revision_id}_{number}", revision_id, new_id("doc"), "nobody", collection_id, ["*"], "late.md", 0, 4, None,
        "late", {}, dense, {1: 1.0},
    )  # fmt: skip


async def collection_id(house: House, name: str) -> str:
    found = await fetch(house.database, sa.select(collections.c.id).where(collections.c.name == name))
    return str(found[0].id)


async def place(house: House, name: str) -> Place:
    found = await fetch(house.database, sa.select(collections).where(collections.c.name == name))
    return Place(found[0].id, found[0].pool)


async def house_keeps(house: House) -> None:
    """Both versions of the document can be read, and it is found."""
    (document,) = await house.retrieval.documents.list(house.principal, "c")
    assert "violet" in await house.retrieval.documents.content(house.principal, "c", document.id, 1)
    assert "green" in await house.retrieval.documents.content(house.principal, "c", document.id, 2)
    result = await house.retrieval.searcher.search(house.principal, Query("c", "lighthouse"))
    assert [passage.document_version for passage in result.passages] == [2]


@pytest.mark.slow
async def test_what_belongs_to_nothing_goes_and_all_else_stays(house: House) -> None:
    index, objects = house.retrieval.index, house.objects
    await house.retrieval.collections.create(house.principal, "c")
    await house.retrieval.collections.create(house.principal, "gone")
    async with house.worker():
        await house.ingest("c", guide="The lighthouse is violet.")
        await house.ingest("c", guide="The lighthouse is green.")
        await house.ingest("gone", other="Something else.")
    living, gone = await collection_id(house, "c"), await collection_id(house, "gone")
    await house.retrieval.collections.delete(house.principal, "gone")
    await asyncio.sleep(0.01)
    assert await sweep(house).run() > 0
    assert await orphans(house).run() == Found()
    await house_keeps(house)

    # What comes too late, or was never noted.
    late, many, stranger = new_id("rev"), new_id("rev"), new_id("col")
    await objects.put(f"sources/{new_id('src')}", b"nobody's")
    await objects.put(f"texts/{late}", b"nobody's")
    await objects.put("texts/readme", b"not of ours")
    await index.insert(Place(living), [row(living, late)], 30)
    await index.insert(Place(living), [row(living, many, number) for number in range(1_001)], 30)
    await index.ensure(Place(gone), 384, 30)
    await index.ensure(Place(stranger), 384, 30)  # another catalog's, on the same server
    try:
        assert await orphans(house, grace_s=600).run() == Found(collections=1)
        assert await orphans(house).run() == Found(sources=1, texts=1, revisions=2)
        assert await orphans(house).run() == Found()
        assert gone not in await index.names()
        assert stranger in await index.names()
        assert await objects.list_keys("texts/readme") == ["texts/readme"]
        assert await index.count(Place(living), [late, many]) == 0
        await house_keeps(house)
    finally:
        await index.drop(Place(stranger))


@pytest.mark.slow
async def test_in_a_pool_what_comes_too_late_goes_and_the_others_stay(house: House) -> None:
    """Sweep, drop and orphans tell the collections of a pool apart."""
    index = house.retrieval.index
    for name in ("c", "gone"):
        await house.retrieval.collections.create(house.principal, name, placement="pooled")
    async with house.worker():
        await house.ingest("c", guide="The lighthouse is violet.")
        await house.ingest("c", guide="The lighthouse is green.")
        await house.ingest("gone", guide="The lighthouse is somewhere else.")
    living, gone = await place(house, "c"), await place(house, "gone")
    assert living.pool is not None
    assert living.name == gone.name != living.collection_id
    assert (await index.count(living), await index.count(gone)) == (2, 1)
    await house.retrieval.collections.delete(house.principal, "gone")
    await asyncio.sleep(0.01)
    assert await sweep(house).run() > 0
    assert (await index.count(living), await index.count(gone)) == (1, 0)
    assert await orphans(house).run() == Found()

    stranger, late = replace(living, collection_id=new_id("col")), new_id("rev")
    for number, where in enumerate((living, gone, stranger)):
        await index.insert(where, [row(where.collection_id, late, number)], 30)
    try:
        assert await orphans(house).run() == Found(collections=1, revisions=1)
        assert await orphans(house).run() == Found()
        assert [await index.count(where) for where in (living, gone, stranger)] == [1, 0, 1]
        await house_keeps(house)
    finally:
        await index.drop(stranger)


@pytest.mark.slow
async def test_more_revisions_than_one_comparison_holds(house: House) -> None:
    index = house.retrieval.index
    name = new_id("col")
    ids = sorted(new_id("rev") for _ in range(1_050))
    await index.ensure(Place(name), 384, 30)
    try:
        await index.insert(Place(name), [row(name, each) for each in ids], 60)
        for known in (ids[:500], ids[25:1_025], ids[1:], ids[:-1], [], ids):
            assert await index.strangers(Place(name), known) == set(ids) - set(known)
    finally:
        await index.drop(Place(name))


@pytest.mark.slow
async def test_what_nobody_works_at_is_given_up_and_said(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    accepted = await house.retrieval.intake.accept(house.principal, "c", [NewFile("a.md", None, b"The first.")])
    leases = house.leases()
    lease = await leases.acquire()
    assert lease is not None
    await house.database.write(lambda connection: connection.execute(tasks.delete()))
    async with house.worker():
        await house.ingest("c", b="The second.")
    (whole,) = await fetch(house.database, sa.select(revisions))
    attempt = {**whole._mapping, "id": new_id("rev"), "document_id": lease.document_id, "visible_from": None}
    await house.database.write(lambda connection: connection.execute(revisions.insert().values(attempt)))
    assert await orphans(house, grace_s=600).run() == Found()
    assert await orphans(house).run() == Found(attempts=1, documents=1)
    (lost,) = await fetch(house.database, sa.select(documents).where(documents.c.id == accepted.document_ids[0]))
    assert (lost.status, lost.error) == (Status.FAILED, "The work on it was lost: send it again.")
    async with house.worker():  # a lost document can be sent again
        job = await house.send("c", [NewFile("a.md", None, b"The first.")])
    assert job.documents[0].status is Status.READY


async def test_who_is_at_work_is_left_alone(house: House) -> None:
    """A revision that was begun is noted before any of its rows, and so is no stranger."""
    await house.retrieval.collections.create(house.principal, "c")
    async with house.worker():
        await house.ingest("c", b="The second.")
    await house.retrieval.intake.accept(house.principal, "c", [NewFile("a.md", None, b"The first.")])
    leases = house.leases()
    lease = await leases.acquire()
    assert lease is not None
    visible = await leases.visible(replace(lease, document_id=(await _ready(house))))
    revision = replace(visible, id=new_id("rev"), document_id=lease.document_id, text_key=f"texts/{new_id('rev')}")
    await leases.start(lease, revision)
    await house.objects.put(revision.text_key, b"The first.")
    await house.retrieval.index.insert(lease.place, [row(lease.collection_id, revision.id)], 30)
    assert await orphans(house).run() == Found()
    assert await house.retrieval.index.count(lease.place, [revision.id]) == 1


async def _ready(house: House) -> str:
    found = await fetch(house.database, sa.select(documents.c.id).where(documents.c.status == Status.READY))
    return str(found[0].id)
