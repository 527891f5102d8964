"""Vector stores as the catalog has them. Nothing here knows of HTTP.

Who reads a store sees what of it is open to him: files that he may not read are neither listed nor counted, and their
bytes are not in `usage_bytes`. So two callers may be told different figures of one store, and both are true.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.vectorstores.turning import Page, Turn
from core.clock import Clock
from core.ids import is_id
from core.principal import Principal
from retrieval import cutting
from retrieval.access import live, may_read, reads_as
from retrieval.errors import CollectionNotFound, DocumentNotFound
from retrieval.life import Life
from retrieval.settings import RetrievalSettings
from retrieval.status import Fault, Status
from storage.schema import collections, documents, jobs, revisions, tasks
from storage.sql import Database

_BYTES_OF_NUMBER = 4  # a vector's numbers are float32


@dataclass(slots=True)
class Counted:
    """What a caller may read of a store.

    Attributes:
        files: how many, by status.
        usage_bytes: what the index holds of them: a byte for each character of their text, and their chunks' vectors.
        changed_at: when the latest of them was; 0: there are none.
    """

    files: dict[Status, int] = field(default_factory=dict)
    usage_bytes: int = 0
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class VectorStore:
    """A collection, as its vector store.

    Attributes:
        name: what it is called; of a collection that was given none, or one that is another's, that is not its name.
        over: it has expired.
    """

    id: str
    name: str
    description: str
    metadata: Mapping[str, Any]
    created_at: float
    life: Life
    over: bool
    counted: Counted

    @property
    def last_active_at(self) -> float:
        """When it was last searched or changed; searches of a store that stays are not noted, and do not count."""
        if self.life.used_at is not None:
            return self.life.used_at
        return max(self.created_at, self.counted.changed_at)


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A document, as a vector store's file.

    Attributes:
        id: of the file that was attached, or of the document where it came without one.
        cutting: in the form of OpenAI's static strategy.
    """

    id: str
    document_id: str
    store_id: str
    status: Status
    error: str | None
    fault: Fault | None
    usage_bytes: int
    attributes: Mapping[str, Any]
    cutting: Mapping[str, int]
    created_at: float


class VectorStores:
    """Reads a tenant's vector stores and their files: those that the caller may read."""

    def __init__(self, database: Database, clock: Clock, settings: RetrievalSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings

    async def list(self, principal: Principal, turn: Turn) -> Page[VectorStore]:
        """Raises: DependencyError: SQL is away."""
        theirs = sa.select(collections).where(
            collections.c.tenant_id == principal.tenant_id, collections.c.deleted_at.is_(None)
        )

        async def find(connection: AsyncConnection) -> Page[VectorStore]:
            rows = (await connection.execute(turn.of(theirs, collections.c.id))).all()
            page = turn.page(rows)
            return Page(list(await self._told(connection, principal, page.items)), page.has_more)

        return await self._database.read(find)

    async def get(self, principal: Principal, store_id: str) -> VectorStore:
        """Raises: CollectionNotFound; DependencyError: SQL is away."""

        async def find(connection: AsyncConnection) -> VectorStore:
            row = await _row(connection, principal, store_id)
            return (await self._told(connection, principal, [row]))[0]

        return await self._database.read(find)

    async def named(self, principal: Principal, store_id: str) -> None:
        """Ask whether there is such a store. Raises: CollectionNotFound; DependencyError: SQL is away."""
        await self._database.read(lambda connection: _row(connection, principal, store_id))

    async def files(
        self, principal: Principal, store_id: str, turn: Turn, statuses: Sequence[Status] = ()
    ) -> Page[StoreFile]:
        """Files of a store, those of these statuses if any are named.

        Raises: CollectionNotFound; DocumentNotFound: a cursor names no file of it; DependencyError: SQL is away.
        """

        async def find(connection: AsyncConnection) -> Page[StoreFile]:
            row = await _row(connection, principal, store_id)
            statement = self._files(principal, row)
            if statuses:
                statement = statement.where(documents.c.status.in_(statuses))
            return await self._page(connection, row, statement, turn)

        return await self._database.read(find)

    async def files_of_batch(
        self, principal: Principal, store_id: str, batch_id: str, turn: Turn, statuses: Sequence[Status] = ()
    ) -> Page[StoreFile]:
        """Files that came in one batch, each as it stands in this batch.

        Raises: as `files` does; whether there is such a batch, `Jobs` knows.
        """

        async def find(connection: AsyncConnection) -> Page[StoreFile]:
            row = await _row(connection, principal, store_id)
            statement = (
                self._files(principal, row)
                .join(tasks, tasks.c.document_id == documents.c.id)
                .join(jobs, jobs.c.id == tasks.c.job_id)
                .where(tasks.c.job_id == batch_id, jobs.c.collection_id == row.id)
                .add_columns(tasks.c.status.label("task_status"), tasks.c.error.label("task_error"))
            )
            if statuses:
                statement = statement.where(tasks.c.status.in_(statuses))
            return await self._page(connection, row, statement, turn)

        return await self._database.read(find)

    async def file(self, principal: Principal, store_id: str, file_id: str) -> StoreFile:
        """One file of a store. Raises: CollectionNotFound, DocumentNotFound; DependencyError: SQL is away."""

        async def find(connection: AsyncConnection) -> StoreFile:
            row = await _row(connection, principal, store_id)
            found = (await connection.execute(self._files(principal, row).where(_is_called(file_id)))).one_or_none()
            if found is None:
                raise DocumentNotFound(file_id)
            return self._as_file(row, found)

        return await self._database.read(find)

    async def _page(
        self, connection: AsyncConnection, row: Any, statement: sa.Select[Any], turn: Turn
    ) -> Page[StoreFile]:
        after, before = [await _document_of(connection, row.id, cursor) for cursor in (turn.after, turn.before)]
        behind = Turn(turn.limit, turn.newest_first, after, before)
        page = behind.page((await connection.execute(behind.of(statement, documents.c.id))).all())
        return Page([self._as_file(row, found) for found in page.items], page.has_more)

    def _files(self, principal: Principal, row: Any) -> sa.Select[Any]:
        """The statement for all files of a store that the caller may read; of one that has expired none."""
        now_s = self._clock.time()
        return (
            sa.select(documents, revisions.c.characters, revisions.c.chunks)
            .outerjoin(revisions, revisions.c.id == documents.c.revision_id)
            .where(
                documents.c.collection_id == row.id,
                live(now_s),
                may_read(reads_as(principal)),
                sa.false() if Life.of(row).is_over(now_s) else sa.true(),
            )
        )

    async def _told(
        self, connection: AsyncConnection, principal: Principal, rows: Sequence[Any]
    ) -> Sequence[VectorStore]:
        now_s = self._clock.time()
        lives = {row.id: Life.of(row) for row in rows}
        dimensions = {row.id: row.dimensions for row in rows}
        counted = {row.id: Counted() for row in rows}
        asked = [of for of, life in lives.items() if not life.is_over(now_s)]
        sums = (
            sa.select(
                documents.c.collection_id,
                documents.c.status,
                sa.func.count().label("files"),
                sa.func.sum(revisions.c.characters).label("characters"),
                sa.func.sum(revisions.c.chunks).label("chunks"),
                sa.func.max(documents.c.updated_at).label("changed_at"),
            )
            .outerjoin(revisions, revisions.c.id == documents.c.revision_id)
            .where(documents.c.collection_id.in_(asked), live(now_s), may_read(reads_as(principal)))
            .group_by(documents.c.collection_id, documents.c.status)
        )
        for found in (await connection.execute(sums)).all() if asked else ():
            one = counted[found.collection_id]
            one.files[Status(found.status)] = found.files
            one.usage_bytes += _usage(found.characters, found.chunks, dimensions[found.collection_id])
            one.changed_at = max(one.changed_at, found.changed_at)
        return [
            VectorStore(
                id=row.id,
                name=row.name if row.title is None else row.title,
                description=row.description,
                metadata=row.metadata,
                created_at=row.created_at,
                life=lives[row.id],
                over=lives[row.id].is_over(now_s),
                counted=counted[row.id],
            )
            for row in rows
        ]

    def _as_file(self, row: Any, found: Any) -> StoreFile:
        in_batch = hasattr(found, "task_status")
        return StoreFile(
            id=found.file_id or found.id,
            document_id=found.id,
            store_id=row.id,
            status=Status(found.task_status if in_batch else found.status),
            error=found.task_error if in_batch else found.error,
            fault=None if found.fault is None else Fault(found.fault),
            usage_bytes=_usage(found.characters, found.chunks, row.dimensions),
            attributes=found.metadata,
            cutting=cutting.as_static(self._settings, row.chunking if found.chunking is None else found.chunking),
            created_at=found.created_at,
        )


async def _row(connection: AsyncConnection, principal: Principal, store_id: str) -> Any:
    statement = sa.select(collections).where(
        collections.c.id == store_id,
        collections.c.tenant_id == principal.tenant_id,
        collections.c.deleted_at.is_(None),
    )
    row = (await connection.execute(statement)).one_or_none() if is_id(store_id, "col") else None
    if row is None:
        raise CollectionNotFound(store_id)
    return row


async def _document_of(connection: AsyncConnection, store_id: str, cursor: str | None) -> str | None:
    """The id of the document that a cursor names; one that was deleted meanwhile still has its place in the list."""
    if cursor is None:
        return None
    statement = sa.select(sa.func.max(documents.c.id)).where(documents.c.collection_id == store_id, _is_called(cursor))
    found: str | None = (await connection.execute(statement)).scalar_one()
    if found is None:
        raise DocumentNotFound(cursor)
    return found


def _is_called(file_id: str) -> sa.ColumnElement[bool]:
    """The clause that holds for the documents that a vector store knows under this id."""
    if is_id(file_id, "file"):
        return documents.c.file_id == file_id
    if is_id(file_id, "doc"):
        return sa.and_(documents.c.id == file_id, documents.c.file_id.is_(None))
    return sa.false()


def _usage(characters: int | None, chunks: int | None, dimensions: int) -> int:
    return int(characters or 0) + int(chunks or 0) * dimensions * _BYTES_OF_NUMBER
