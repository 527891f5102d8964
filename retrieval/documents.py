"""Documents: what is in a collection, and its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import lifecycle
from retrieval.errors import CollectionNotFound, DocumentNotFound
from retrieval.status import Status
from storage.objects import ObjectNotFound, ObjectStore
from storage.schema import collections, documents, revisions
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
        error: why the latest ingestion failed.
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
    error: str | None
    created_at: float


class Documents:
    """Finds, reads and deletes a tenant's documents."""

    def __init__(self, database: Database, objects: ObjectStore, clock: Clock) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock

    async def list(
        self, principal: Principal, collection_name: str, after: str | None = None, limit: int = 20
    ) -> list[Document]:
        """List documents in order of creation, those after the id `after`; at most `limit`.

        Raises: CollectionNotFound.
        """

        async def find(connection: AsyncConnection) -> Sequence[Any]:
            collection_id = await _collection_id(connection, principal, collection_name)
            statement = _select(collection_id).order_by(documents.c.id).limit(limit)
            if after is not None:
                statement = statement.where(documents.c.id > after)
            return (await connection.execute(statement)).all()

        return [_as_document(row) for row in await self._database.read(find)]

    async def get(self, principal: Principal, collection_name: str, document_id: str) -> Document:
        """Raises: CollectionNotFound, DocumentNotFound."""

        async def find(connection: AsyncConnection) -> Any:
            collection_id = await _collection_id(connection, principal, collection_name)
            statement = _select(collection_id).where(documents.c.id == document_id)
            return (await connection.execute(statement)).one_or_none()

        row = await self._database.read(find)
        if row is None:
            raise DocumentNotFound(document_id)
        return _as_document(row)

    async def content(
        self, principal: Principal, collection_name: str, document_id: str, version: int | None = None
    ) -> str:
        """The normalised text that spans point into: of this version, or of the visible one.

        Raises: CollectionNotFound; DocumentNotFound: no such document or version of it.
        """

        async def find(connection: AsyncConnection) -> str | None:
            collection_id = await _collection_id(connection, principal, collection_name)
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
                    documents.c.deleted_at.is_(None),
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

    async def delete(self, principal: Principal, collection_name: str, document_id: str) -> None:
        """Hide a document, in whatever state it is; its rows and files are removed by the sweep.

        Raises: CollectionNotFound, DocumentNotFound.
        """

        async def hide(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, collection_name)
            statement = sa.select(documents.c.id).where(
                documents.c.id == document_id,
                documents.c.collection_id == collection.id,
                documents.c.deleted_at.is_(None),
            )
            if (await connection.execute(statement)).one_or_none() is None:
                raise DocumentNotFound(document_id)
            await lifecycle.hide_document(self._database, connection, document_id, self._clock.time())

        await self._database.write(hide)


async def _collection_id(connection: AsyncConnection, principal: Principal, name: str) -> str:
    statement = sa.select(collections.c.id).where(
        collections.c.tenant_id == principal.tenant_id, collections.c.live_name == name
    )
    found: str | None = (await connection.execute(statement)).scalar_one_or_none()
    if found is None:
        raise CollectionNotFound(name)
    return found


def _select(collection_id: str) -> sa.Select[*tuple[Any, ...]]:
    return (
        sa.select(documents, revisions.c.pages, revisions.c.characters)
        .outerjoin(revisions, revisions.c.id == documents.c.revision_id)
        .where(documents.c.collection_id == collection_id, documents.c.deleted_at.is_(None))
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
        error=row.error,
        created_at=row.created_at,
    )
