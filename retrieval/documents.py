"""Documents: what is in a collection, and its text."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import lifecycle
from retrieval.access import check_acl, live, may_read, reads_as, set_readers
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound, DocumentNotFound
from retrieval.life import Life
from retrieval.status import UNFINISHED, Fault, Status
from retrieval.values import check_metadata
from storage.objects import ObjectNotFound, ObjectStore
from storage.redis import RedisClient
from storage.schema import collections, documents, revisions, tasks
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a caller sees it.

    Attributes:
        status: of its latest ingestion; an earlier version stays searchable while `version` is above 0.
        version: of the revision that searches see, from 1; 0: none yet.
        sha256: of the bytes sent last.
        pages: how many the visible version has; 0 where the format has none.
        characters: of the visible version's normalised text.
        acl: who may read it; None: everyone in the tenant.
        error: why the latest ingestion failed.
        expires_at: seconds since 1970, from when on nobody sees it; None: it stays.
        file_id: the file of `/v1/files` that it is a copy of; None: it came without one.
        chunking: its own, as `retrieval.cutting` has it; None: the collection's.
        fault: whose it is that the latest ingestion failed; None: it did not, or nobody knows.
        source: the address from which its bytes were fetched; None: they were sent.
    """

    id: str
    filename: str
    media_type: str
    status: Status
    version: int
    sha256: str
    pages: int
    characters: int
    metadata: dict[str, Any]
    acl: dict[str, list[str]] | None
    error: str | None
    created_at: float
    expires_at: float | None
    file_id: str | None
    chunking: dict[str, int] | None
    fault: Fault | None
    source: str | None = None


Seen = tuple[int, Mapping[str, Any]]
"""A document's version and its metadata, as somebody saw them."""


class Unset(enum.Enum):
    """Marks what a change leaves as it is."""

    UNSET = enum.auto()


UNSET = Unset.UNSET


class Documents:
    """Finds, reads, changes and deletes a tenant's documents: those that the caller may read."""

    def __init__(self, database: Database, redis: RedisClient, objects: ObjectStore, clock: Clock) -> None:
        self._database = database
        self._redis = redis
        self._objects = objects
        self._clock = clock

    async def list(
        self,
        principal: Principal,
        collection_name: str,
        after: str | None = None,
        limit: int = 20,
        *,
        status: Status | None = None,
        filename: str = "",
    ) -> list[Document]:
        """List documents in order of creation, those after the id `after`; at most `limit`.

        Args:
            status: only those in this state.
            filename: only those in whose name this stands, whatever the case of ASCII letters; empty: all.

        Raises: CollectionNotFound.
        """

        async def find(connection: AsyncConnection) -> Sequence[Any]:
            collection_id = await self._collection_id(connection, principal, collection_name)
            statement = self._select(principal, collection_id).order_by(documents.c.id).limit(limit)
            if after is not None:
                statement = statement.where(documents.c.id > after)
            if status is not None:
                statement = statement.where(documents.c.status == status)
            if filename:
                statement = statement.where(documents.c.filename.icontains(filename, autoescape=True))
            return (await connection.execute(statement)).all()

        return [_as_document(row) for row in await self._database.read(find)]

    async def get(self, principal: Principal, collection_name: str, document_id: str) -> Document:
        """Raises: CollectionNotFound, DocumentNotFound."""

        return await self._database.read(
            lambda connection: self._find(connection, principal, collection_name, document_id)
        )

    async def job_of(self, document_id: str) -> str | None:
        """The job that brought a document's newest upload; None: there is none any more."""
        query = sa.select(sa.func.max(tasks.c.job_id)).where(
            tasks.c.document_id == document_id, tasks.c.generation.is_(None), ~tasks.c.refresh
        )
        found: str | None = await self._database.read(lambda connection: connection.scalar(query))
        return found

    async def are_current(self, principal: Principal, collection_id: str, seen: Mapping[str, Seen]) -> bool:
        """Whether the caller may read all these documents today, and each is as it was seen.

        Args:
            seen: version and metadata by the documents' ids.
        """
        statement = self._select(principal, collection_id).where(documents.c.id.in_(seen))

        async def find(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(statement)).all()

        return {row.id: (row.version, row.metadata) for row in await self._database.read(find)} == dict(seen)

    async def content(
        self, principal: Principal, collection_name: str, document_id: str, version: int | None = None
    ) -> str:
        """The normalised text that spans point into: of this version, or of the visible one.

        Raises: CollectionNotFound; DocumentNotFound: no such document or version of it.
        """

        async def find(connection: AsyncConnection) -> str | None:
            collection_id = await self._collection_id(connection, principal, collection_name)
            wanted = (
                revisions.c.id == documents.c.revision_id
                if version is None
                else sa.and_(revisions.c.number == version, revisions.c.visible_from.is_not(None))
            )
            statement = (
                sa.select(revisions.c.text_key)
                .join(documents, documents.c.id == revisions.c.document_id)
                .where(
                    documents.c.id == document_id,
                    documents.c.collection_id == collection_id,
                    live(self._clock.time()),
                    may_read(reads_as(principal)),
                    wanted,
                )
            )
            return (await connection.execute(statement)).scalar_one_or_none()

        key = await self._database.read(find)
        if key is None:
            raise DocumentNotFound(document_id, version)
        try:
            return (await self._objects.get(key)).decode()
        except ObjectNotFound as error:  # deleted and swept between the two reads
            raise DocumentNotFound(document_id, version) from error

    async def source(self, principal: Principal, collection_name: str, document_id: str) -> bytes:
        """A document's bytes as they were last sent, also where they have not been taken in, or could not be.

        Raises: CollectionNotFound, DocumentNotFound.
        """

        async def find(connection: AsyncConnection) -> str:
            await self._find(connection, principal, collection_name, document_id)
            statement = sa.select(documents.c.source_key).where(documents.c.id == document_id)
            return str((await connection.execute(statement)).scalar_one())

        key = await self._database.read(find)
        if not key:  # it has not been fetched yet
            raise DocumentNotFound(document_id)
        try:
            return await self._objects.get(key)
        except ObjectNotFound as error:  # deleted, or sent anew, between the two reads
            raise DocumentNotFound(document_id) from error

    async def change(
        self,
        principal: Principal,
        collection_name: str,
        document_id: str,
        *,
        metadata: object = UNSET,
        acl: object = UNSET,
    ) -> Document:
        """Change what is said of a document, or who may read it; every request that begins later goes by it.

        The index's rows follow when a worker comes to it; until then the catalog answers for them.

        Args:
            metadata: takes the place of what there was; as `retrieval.values` takes it.
            acl: as `retrieval.access` takes it; None opens it to everyone in the tenant.

        Raises: CollectionNotFound, CollectionExpired, DocumentNotFound; InputInvalid: a value that can't be taken.
        """
        values: dict[str, Any] = {"updated_at": self._clock.time()}
        if metadata is not UNSET:
            values["metadata"] = check_metadata(metadata)
        if acl is not UNSET:
            values["acl"] = check_acl(acl)

        async def write(connection: AsyncConnection) -> Document:
            collection = await lifecycle.lock_collection(
                connection, principal.tenant_id, collection_name, self._clock.time()
            )
            before = await self._find(connection, principal, collection_name, document_id)
            if "metadata" in values:  # an upload that is on its way in came before
                uploads = sa.and_(tasks.c.document_id == document_id, tasks.c.status.in_(UNFINISHED), ~tasks.c.refresh)
                await connection.execute(tasks.update().where(uploads).values(metadata=values["metadata"]))
            await connection.execute(documents.update().where(documents.c.id == document_id).values(values))
            if "acl" in values:
                await set_readers(connection, document_id, values["acl"])
            if before.version and len(values) > 1:
                await lifecycle.make_stale(connection, collection, document_id)
            after = self._any(collection.id).where(
                documents.c.id == document_id
            )  # it may have been closed to the caller
            return _as_document((await connection.execute(after)).one())

        changed = await self._database.write(write)
        await self._redis.nudge_ingestion()
        return changed

    async def delete(self, principal: Principal, collection_name: str, document_id: str) -> None:
        """Hide a document, in whatever state it is; its rows and files are removed by the sweep.

        Raises: CollectionNotFound, CollectionExpired, DocumentNotFound.
        """

        async def hide(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(
                connection, principal.tenant_id, collection_name, self._clock.time()
            )
            statement = sa.select(documents.c.id).where(
                documents.c.id == document_id,
                documents.c.collection_id == collection.id,
                documents.c.deleted_at.is_(None),
                may_read(reads_as(principal)),
            )
            if (await connection.execute(statement)).one_or_none() is None:
                raise DocumentNotFound(document_id)
            await lifecycle.hide_document(self._database, connection, document_id, self._clock.time())

        await self._database.write(hide)

    async def hide_made_of(self, connection: AsyncConnection, principal: Principal, file_id: str) -> None:
        """Hide the documents that were made of a file, inside the transaction that deletes it.

        Those that the caller may not read stay: nobody deletes what is hidden from him.
        """
        statement = (
            sa.select(documents.c.id)
            .where(
                documents.c.tenant_id == principal.tenant_id,
                documents.c.file_id == file_id,
                documents.c.deleted_at.is_(None),
                may_read(reads_as(principal)),
            )
            .order_by(documents.c.collection_id)  # whoever locks several collections takes them in one order
        )
        for document_id in (await connection.execute(statement)).scalars().all():
            await lifecycle.hide_document(self._database, connection, document_id, self._clock.time())

    async def _find(
        self, connection: AsyncConnection, principal: Principal, collection_name: str, document_id: str
    ) -> Document:
        collection_id = await self._collection_id(connection, principal, collection_name)
        statement = self._select(principal, collection_id).where(documents.c.id == document_id)
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise DocumentNotFound(document_id)
        return _as_document(row)

    async def _collection_id(self, connection: AsyncConnection, principal: Principal, name: str) -> str:
        """The id of a collection; of one that has expired one that no document has. Raises: CollectionNotFound."""
        found = (
            await connection.execute(sa.select(collections).where(of_tenant(principal.tenant_id, name)))
        ).one_or_none()
        if found is None:
            raise CollectionNotFound(name)
        return "" if Life.of(found).is_over(self._clock.time()) else str(found.id)

    def _select(self, principal: Principal, collection_id: str) -> sa.Select[*tuple[Any, ...]]:
        return self._any(collection_id).where(may_read(reads_as(principal)))

    def _any(self, collection_id: str) -> sa.Select[*tuple[Any, ...]]:
        return (
            sa.select(documents, revisions.c.pages, revisions.c.characters)
            .outerjoin(revisions, revisions.c.id == documents.c.revision_id)
            .where(documents.c.collection_id == collection_id, live(self._clock.time()))
        )


def _as_document(row: Any) -> Document:
    return Document(
        id=row.id,
        filename=row.filename,
        media_type=row.media_type,
        status=Status(row.status),
        version=row.version,
        sha256=row.sha256,
        pages=len(row.pages or ()),
        characters=row.characters or 0,
        metadata=row.metadata,
        acl=row.acl,
        error=row.error,
        created_at=row.created_at,
        expires_at=row.expires_at,
        file_id=row.file_id,
        chunking=row.chunking,
        fault=None if row.fault is None else Fault(row.fault),
        source=row.origin["address"] if row.origin else None,
    )
