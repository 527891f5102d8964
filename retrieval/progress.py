"""How far a reindex is."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval import twins
from retrieval.access import may_read
from retrieval.generations import visible
from retrieval.status import Status
from storage.schema import documents, revisions, tasks

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that could not be indexed anew; `error` says what to do."""

    document_id: str
    filename: str
    error: str


@dataclass(frozen=True, slots=True)
class Progress:
    """A reindex under way.

    Attributes:
        documents: that are visible in the index that answers.
        documents_done: those of them that are ready in the new one.
        failed: those that could not be indexed anew; the old index answers until they are mended, or it is cancelled.
        errors: of the first of them that the caller may read.
    """

    embedding_model: str
    documents: int
    documents_done: int
    failed: int
    errors: list[Failure]


async def progress(connection: AsyncConnection, collection_id: str, readers: Sequence[str] | None) -> Progress | None:
    """How far the reindex of a collection is; None: there is none.

    Args:
        readers: as `access.reads_as` gives them.
    """
    made = await twins.being_made(connection, collection_id)
    if made is None:
        return None
    count = sa.select(sa.func.count()).select_from(documents).where(visible(collection_id))
    done = sa.select(revisions.c.id).where(twins.ready(documents.c.revision_id, made.number))
    failed = (
        sa.select(documents.c.id, documents.c.filename, tasks.c.error)
        .join(tasks, tasks.c.document_id == documents.c.id)
        .where(visible(collection_id), tasks.c.generation == made.number, tasks.c.status == Status.FAILED)
    )
    shown = failed.where(may_read(readers)).order_by(documents.c.id).limit(_SHOWN)
    return Progress(
        embedding_model=made.embedding_space,
        documents=(await connection.execute(count)).scalar_one(),
        documents_done=(await connection.execute(count.where(done.exists()))).scalar_one(),
        failed=(await connection.execute(sa.select(sa.func.count()).select_from(failed.subquery()))).scalar_one(),
        errors=[Failure(row.id, row.filename, row.error or "") for row in (await connection.execute(shown)).all()],
    )
