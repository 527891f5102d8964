"""The transactions that decide what a reader sees; each function runs inside the caller's transaction.

A revision is invisible until `publish` and again after a later `publish`, `hide_document` or `hide_collection`. Each
of them raises the collection's version and brings its lexical statistics along, so that a reader who pinned a
version finds revisions, counts and frequencies that belong together.

PostgreSQL lets two wait for one another for a second, then ends one of them. So locks are taken in one order: the
collection, jobs, errands, tasks, documents, and what hangs on these. Who changes one document's task and the document
alone needs no more than these two.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.ids import new_id
from retrieval import fingerprint, twins
from retrieval.access import readers_of
from retrieval.called import of_tenant
from retrieval.errors import CollectionExpired, CollectionNotFound, LeaseLost
from retrieval.life import Life
from retrieval.sources.errands import ErrandStatus
from retrieval.status import UNFINISHED, Status
from storage.schema import (
    collections,
    documents,
    errands,
    generations,
    jobs,
    revision_terms,
    revisions,
    tasks,
    term_frequencies,
)
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class NewRevision:
    """One attempt at indexing a document, before anybody may see it.

    Attributes:
        pages: (page, start, end) in characters.
        frequencies: for each term, how many of the chunks hold it.
        fingerprint, said: see `retrieval.fingerprint`.
        terms: lexical length of all chunks together.
        form: what the text is cut by, as `retrieval.parsing.Digest.form` has it; None: nobody kept it.
        generation: of the index in which its rows are.
        twin_of: the visible revision whose place it is to take; None: it is a new version of the document.
    """

    id: str
    document_id: str
    collection_id: str
    text_key: str
    pages: tuple[tuple[int, int, int], ...]
    characters: int
    chunks: int
    terms: int
    frequencies: Mapping[str, int]
    fingerprint: str
    said: str
    form: Mapping[str, Any] | None = None
    generation: int = 0
    twin_of: str | None = None


async def lock_collection(connection: AsyncConnection, tenant_id: str, name: str, used_s: float | None = None) -> Any:
    """Find a live collection and hold it until the transaction ends.

    Args:
        used_s: what is in it is being changed, now; None: it is not used by this.

    Raises: CollectionNotFound; CollectionExpired: it is to be used, and its time is up.
    """
    statement = sa.select(collections).where(of_tenant(tenant_id, name)).with_for_update()
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise CollectionNotFound(name)
    if used_s is not None and row.expires_after_days is not None:
        if Life.of(row).is_over(used_s):
            raise CollectionExpired(name)
        await connection.execute(collections.update().where(collections.c.id == row.id).values(used_at=used_s))
    return row


async def lock_collection_by_id(connection: AsyncConnection, collection_id: str) -> Any:
    """Hold a collection, deleted or not, until the transaction ends. Returns: its row."""
    statement = sa.select(collections).where(collections.c.id == collection_id).with_for_update()
    return (await connection.execute(statement)).one()


async def start(connection: AsyncConnection, revision: NewRevision, now_s: float) -> None:
    """Write a revision down before any of its rows or files exist, so that whatever an attempt leaves can be found."""
    await give_up(connection, revision.document_id, now_s, of_twins=revision.twin_of is not None)
    await connection.execute(
        revisions.insert().values(
            id=revision.id,
            document_id=revision.document_id,
            collection_id=revision.collection_id,
            generation=revision.generation,
            twin_of=revision.twin_of,
            number=0,
            fingerprint=revision.fingerprint,
            said=revision.said,
            text_key=revision.text_key,
            form=revision.form,
            pages=[list(page) for page in revision.pages],
            characters=revision.characters,
            chunks=revision.chunks,
            terms=revision.terms,
            created_at=now_s,
        )
    )
    await connection.execute(revision_terms.insert().values(revision_id=revision.id, terms=dict(revision.frequencies)))


async def give_up(connection: AsyncConnection, document_id: str, now_s: float, *, of_twins: bool = False) -> None:
    """Retire what earlier attempts at this document, or at its twin, left unpublished; a twin that is ready stays."""
    unpublished = sa.and_(
        revisions.c.document_id == document_id,
        revisions.c.visible_from.is_(None),
        revisions.c.retired_at.is_(None),
        revisions.c.ready_at.is_(None),
        revisions.c.twin_of.is_not(None) if of_twins else revisions.c.twin_of.is_(None),
    )
    await connection.execute(revisions.update().where(unpublished).values(retired_at=now_s))


async def publish(database: Database, connection: AsyncConnection, job_id: str, revision_id: str, now_s: float) -> None:
    """Make a revision the one that readers see, in place of the document's last.

    Args:
        job_id: of the task that made it.

    Raises: LeaseLost: the revision was given up, or its document or collection deleted, in the meantime.
    """
    found = sa.select(revisions).where(
        revisions.c.id == revision_id, revisions.c.visible_from.is_(None), revisions.c.retired_at.is_(None)
    )
    revision = (await connection.execute(found)).one_or_none()
    if revision is None:
        raise LeaseLost("the revision was given up")
    collection = await lock_collection_by_id(connection, revision.collection_id)
    document = (await connection.execute(sa.select(documents).where(documents.c.id == revision.document_id))).one()
    if collection.deleted_at is not None or document.deleted_at is not None:
        raise LeaseLost("the document was deleted")
    if revision.generation != collection.generation:
        raise LeaseLost("the collection has been indexed anew")
    made_by = sa.select(tasks.c.metadata, tasks.c.refresh).where(
        tasks.c.job_id == job_id, tasks.c.document_id == document.id
    )
    task = (await connection.execute(made_by)).one()
    metadata = document.metadata if task.metadata is None else task.metadata
    about: dict[str, Any] = {
        "version": document.version + 1,
        "revision_id": revision_id,
        "metadata": metadata,
        # Both may have been changed since the rows were written.
        "stale": revision.said != fingerprint.of_said(metadata, readers_of(document.acl)),
    }
    if not task.refresh:
        about |= {"status": Status.READY, "error": None, "updated_at": now_s}
    version = collection.version + 1
    await _change_collection(database, connection, collection, version, gained=revision.id, lost=document.revision_id)
    if document.revision_id is not None:
        await twins.follow(database, connection, document, revision_id, same=task.refresh, now_s=now_s)
        await _retire(connection, document.revision_id, version, now_s)
    await connection.execute(
        revisions.update()
        .where(revisions.c.id == revision_id)
        .values(visible_from=version, number=document.version + 1)
    )
    await connection.execute(documents.update().where(documents.c.id == document.id).values(about))


async def finish_twin(
    database: Database, connection: AsyncConnection, collection_id: str, revision_id: str, now_s: float
) -> None:
    """Say that all rows of a twin are there. Raises: LeaseLost: nobody waits for it any more."""
    await lock_collection_by_id(connection, collection_id)
    await twins.finish(database, connection, revision_id, now_s)


async def make_stale(connection: AsyncConnection, collection: Any, document_id: str) -> None:
    """Say that the index's rows of a visible document hold older metadata or readers; `queue_refreshes` mends it.

    Args:
        collection: its row, locked.
    """
    await connection.execute(
        collections.update().where(collections.c.id == collection.id).values(version=collection.version + 1)
    )
    await connection.execute(documents.update().where(documents.c.id == document_id).values(stale=True))


async def queue_refreshes(connection: AsyncConnection, now_s: float, most: int = 100) -> int:
    """Queue the writing of new rows for stale documents that nobody works at or failed at. Returns: how many."""
    theirs = sa.select(tasks.c.job_id).where(tasks.c.document_id == documents.c.id, tasks.c.generation.is_(None))
    unfinished = theirs.where(tasks.c.status.in_(UNFINISHED))
    failed = theirs.where(
        tasks.c.refresh, tasks.c.status == Status.FAILED, tasks.c.created_at >= documents.c.updated_at
    )
    stale = (
        sa.select(documents.c.id, documents.c.tenant_id, documents.c.collection_id)
        .join(collections, collections.c.id == documents.c.collection_id)
        .where(
            documents.c.stale,
            documents.c.deleted_at.is_(None),
            collections.c.deleted_at.is_(None),
            ~unfinished.exists(),
            ~failed.exists(),
        )
        .limit(most)
    )
    found = (await connection.execute(stale)).all()
    for document in found:
        job_id = new_id("job")
        owner = {"tenant_id": document.tenant_id, "collection_id": document.collection_id}
        await connection.execute(jobs.insert().values(id=job_id, created_at=now_s, told_at=now_s, **owner))
        task = {"status": Status.QUEUED, "refresh": True, "created_at": now_s, "due": now_s}
        await connection.execute(tasks.insert().values(job_id=job_id, document_id=document.id, **task))
    return len(found)


async def hide_document(database: Database, connection: AsyncConnection, document_id: str, now_s: float) -> None:
    """Delete a document for every reader that starts from now on, and end the work on it."""
    this = sa.select(documents).where(documents.c.id == document_id)
    owner = this.with_only_columns(documents.c.collection_id)
    collection = await lock_collection_by_id(connection, (await connection.execute(owner)).scalar_one())
    # Read behind the lock: a revision may just have been published.
    document = (await connection.execute(this)).one()
    if document.deleted_at is not None:  # somebody was faster
        return
    version = collection.version + 1
    # Its tasks first, as whoever works at one; then the document.
    await cancel_tasks(connection, tasks.c.document_id == document_id, now_s, "the document was deleted")
    await connection.execute(documents.update().where(documents.c.id == document_id).values(deleted_at=now_s))
    await give_up(connection, document_id, now_s)
    await twins.discard(database, connection, document, now_s)
    await _change_collection(database, connection, collection, version, gained=None, lost=document.revision_id)
    if document.revision_id is not None:
        await _retire(connection, document.revision_id, version, now_s)


async def hide_collection(connection: AsyncConnection, collection_id: str, now_s: float) -> None:
    """Delete a collection for every reader that starts from now on, and end the work on its documents."""
    await connection.execute(
        collections.update()
        .where(collections.c.id == collection_id)
        .values(deleted_at=now_s, live_name=None, version=collections.c.version + 1)
    )
    made = sa.and_(generations.c.collection_id == collection_id, generations.c.retired_at.is_(None))
    await connection.execute(generations.update().where(made).values(retired_at=now_s))
    theirs = sa.select(documents.c.id).where(documents.c.collection_id == collection_id)
    await cancel_tasks(connection, tasks.c.document_id.in_(theirs), now_s, "the collection was deleted")


async def cancel_tasks(
    connection: AsyncConnection, which: sa.ColumnElement[bool], now_s: float, reason: str | None
) -> int:
    """Cancel unfinished tasks and move their fences on, so that a worker at one of them stops. Returns: how many."""
    of_task = sa.and_(tasks.c.job_id == errands.c.job_id, tasks.c.document_id == errands.c.document_id)
    fetched = sa.select(errands.c.id).join(tasks, of_task).where(which, tasks.c.status == Status.FETCHING)
    called_back = {"status": ErrandStatus.CANCELLED, "fence": errands.c.fence + 1, "worker": None, "lease_until": None}
    await connection.execute(
        errands.update().where(errands.c.id.in_(fetched), errands.c.status == ErrandStatus.OPEN).values(**called_back)
    )
    result = await connection.execute(
        tasks.update()
        .where(which, tasks.c.status.in_(UNFINISHED))
        .values(
            status=Status.CANCELLED,
            error=reason,
            fence=tasks.c.fence + 1,
            worker=None,
            lease_until=None,
            finished_at=now_s,
        )
    )
    return result.rowcount


async def _retire(connection: AsyncConnection, revision_id: str, version: int, now_s: float) -> None:
    await connection.execute(
        revisions.update().where(revisions.c.id == revision_id).values(visible_to=version, retired_at=now_s)
    )
    await connection.execute(revision_terms.delete().where(revision_terms.c.revision_id == revision_id))


async def _change_collection(
    database: Database,
    connection: AsyncConnection,
    collection: Any,
    version: int,
    *,
    gained: str | None,
    lost: str | None,
) -> None:
    """Raise the version and fold one revision's statistics in, another's out."""
    change: Counter[str] = Counter()
    chunks = terms = 0
    for revision_id, sign in ((gained, 1), (lost, -1)):
        if revision_id is None:
            continue
        share = (
            await connection.execute(
                sa.select(revisions.c.chunks, revisions.c.terms, revision_terms.c.terms.label("frequencies"))
                .join(revision_terms, revision_terms.c.revision_id == revisions.c.id)
                .where(revisions.c.id == revision_id)
            )
        ).one()
        chunks += sign * share.chunks
        terms += sign * share.terms
        for term, count in share.frequencies.items():
            change[term] += sign * count
    await _fold(database, connection, collection.id, {term: count for term, count in change.items() if count})
    await connection.execute(
        collections.update()
        .where(collections.c.id == collection.id)
        .values(version=version, chunks=collection.chunks + chunks, terms=collection.terms + terms)
    )


async def _fold(database: Database, connection: AsyncConnection, collection_id: str, change: Mapping[str, int]) -> None:
    if not change:
        return
    insert = database.upsert(term_frequencies)
    added = insert.on_conflict_do_update(
        index_elements=[term_frequencies.c.collection_id, term_frequencies.c.term],
        set_={"chunks": term_frequencies.c.chunks + insert.excluded.chunks},
    )
    rows = [{"collection_id": collection_id, "term": term, "chunks": count} for term, count in change.items()]
    await connection.execute(added, rows)
    if any(count < 0 for count in change.values()):
        await connection.execute(
            term_frequencies.delete().where(
                term_frequencies.c.collection_id == collection_id, term_frequencies.c.chunks <= 0
            )
        )
