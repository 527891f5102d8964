"""What two do to one collection at the same time, in SQLite and PostgreSQL."""

import asyncio

import pytest
import sqlalchemy as sa

from core.clock import ManualClock
from retrieval import sweep as sweeping
from retrieval.index import Place
from retrieval.rows import fetch
from retrieval.sweep import Sweep
from storage.objects import FolderStore
from storage.schema import collections, documents, revisions, tasks, term_frequencies
from tests.support.catalog import Catalog, new_catalog


class _Index:
    """Nothing is in it."""

    async def drop(self, _place: Place) -> None:
        return

    async def delete_revisions(self, _place: Place, _ids: list[str]) -> None:
        return


async def test_a_document_that_is_deleted_while_its_next_version_comes_out_leaves_nothing(catalog: Catalog) -> None:
    """Whoever deletes waits for whoever publishes, and must not go by what it had read before."""
    document_id = await catalog.put("The old tide.")
    written, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        written.set()
        await go_on.wait()

    publishing = asyncio.create_task(catalog.replace(document_id, "The new tide.\nAnd the moon.", before_commit=hold))
    await written.wait()
    hiding = [asyncio.create_task(catalog.hide(document_id)) for _ in range(2)]
    await asyncio.sleep(0.5)  # both have read what they read before they wait
    assert not any(one.done() for one in hiding)
    go_on.set()
    await asyncio.gather(publishing, *hiding)
    left = sa.select(revisions.c.id).where(revisions.c.document_id == document_id, revisions.c.retired_at.is_(None))
    assert await fetch(catalog.database, left) == []
    terms = sa.select(term_frequencies.c.term).where(
        term_frequencies.c.collection_id == catalog.collection_id, term_frequencies.c.chunks > 0
    )
    assert await fetch(catalog.database, terms) == []
    (row,) = await fetch(catalog.database, sa.select(collections).where(collections.c.id == catalog.collection_id))
    assert (row.chunks, row.terms, row.version) == (0, 0, 3)


async def test_a_large_deleted_collection_is_forgotten_in_lots(
    catalog: Catalog, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one transaction it would take longer than one may, and never end."""
    other = await new_catalog(catalog.database)
    for number in range(5):
        await catalog.put(f"The tide is {number} feet high.")
    await other.put("The moon.")
    marked = collections.update().where(collections.c.id == catalog.collection_id).values(deleted_at=1.0)
    await catalog.database.write(lambda connection: connection.execute(marked))
    monkeypatch.setattr(sweeping, "_FORGOTTEN_AT_ONCE", 2)
    lots: list[bool] = []
    some = Sweep._forget_some

    async def counted(self: Sweep, collection_id: str) -> bool:
        lots.append(await some(self, collection_id))
        return lots[-1]

    monkeypatch.setattr(Sweep, "_forget_some", counted)
    store, clock = FolderStore(tmp_path_factory.mktemp("objects"), 5.0), ManualClock(1000.0)
    assert await Sweep(catalog.database, _Index(), store, clock, 60.0).run() >= 1  # type: ignore[arg-type]
    assert lots[-3:] == [True, True, False]
    for table in (documents, revisions):
        theirs = sa.select(table.c.id).where(table.c.collection_id == catalog.collection_id)
        assert await fetch(catalog.database, theirs) == [], table.name
        kept = sa.select(table.c.id).where(table.c.collection_id == other.collection_id)
        assert len(await fetch(catalog.database, kept)) == 1, table.name
    orphaned = sa.select(tasks.c.job_id).where(tasks.c.document_id.not_in(sa.select(documents.c.id)))
    assert await fetch(catalog.database, orphaned) == []
