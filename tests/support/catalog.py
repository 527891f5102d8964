"""A catalog without an index: documents get into SQL by the transactions of `retrieval.lifecycle`, as a worker's do."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core.ids import new_id
from retrieval import lifecycle, snapshot
from retrieval.access import readers_of, set_readers
from retrieval.analyzer import analyze
from retrieval.fingerprint import of_said
from retrieval.snapshot import Snapshot
from retrieval.status import Status
from storage.schema import collections, documents, jobs, tasks, tenants
from storage.sql import Database

NAME = "c"


@dataclass(frozen=True, slots=True)
class Catalog:
    """One collection of a tenant of its own."""

    database: Database
    tenant_id: str
    collection_id: str

    async def put(
        self,
        text: str = "",
        metadata: Mapping[str, Any] | None = None,
        acl: Mapping[str, Sequence[str]] | None = None,
        expires_at: float | None = None,
        publish: bool = True,
    ) -> str:
        """Add a document whose lines are its chunks. Returns: its id."""
        document_id = new_id("doc")
        row = {
            **{"id": document_id, "tenant_id": self.tenant_id, "collection_id": self.collection_id, "filename": "f"},
            **{"media_type": "text/plain", "sha256": "", "source_key": "", "status": Status.QUEUED},
            **{"metadata": dict(metadata or {}), "acl": acl, "expires_at": expires_at},
            **{"created_at": 0.0, "updated_at": 0.0},
        }

        async def insert(connection: AsyncConnection) -> None:
            await connection.execute(documents.insert().values(row))
            await set_readers(connection, document_id, acl)
            await self._write(connection, document_id, text, metadata, acl, publish)

        await self.database.write(insert)
        return document_id

    async def replace(
        self,
        document_id: str,
        text: str,
        metadata: Mapping[str, Any] | None = None,
        acl: Mapping[str, Sequence[str]] | None = None,
        before_commit: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Show another revision of a document."""

        async def write(connection: AsyncConnection) -> None:
            await self._write(connection, document_id, text, metadata, acl, publish=True)
            if before_commit is not None:
                await before_commit()

        await self.database.write(write)

    async def _write(
        self,
        connection: AsyncConnection,
        document_id: str,
        text: str,
        metadata: Mapping[str, Any] | None,
        acl: Mapping[str, Sequence[str]] | None,
        publish: bool,
    ) -> None:
        chunks = [analyze(line) for line in text.splitlines()]
        revision = lifecycle.NewRevision(
            id=new_id("rev"),
            document_id=document_id,
            collection_id=self.collection_id,
            text_key="",
            pages=(),
            characters=len(text),
            chunks=len(chunks),
            terms=sum(map(len, chunks)),
            frequencies=Counter(term for chunk in chunks for term in set(chunk)),
            fingerprint="",
            said=of_said(dict(metadata or {}), readers_of(acl)),
        )
        job_id = new_id("job")
        owner = {"tenant_id": self.tenant_id, "collection_id": self.collection_id}
        task = {"status": Status.INDEXING, "metadata": dict(metadata or {}), "created_at": 0.0}

        await connection.execute(jobs.insert().values(id=job_id, created_at=0.0, **owner))
        await connection.execute(tasks.insert().values(job_id=job_id, document_id=document_id, **task))
        await lifecycle.start(connection, revision, 0.0)
        if publish:
            await lifecycle.publish(self.database, connection, job_id, revision.id, 0.0)

    async def change(self, document_id: str, **values: Any) -> None:
        """Change columns of a document's row, and with `acl` its readers."""

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(documents.update().where(documents.c.id == document_id).values(values))
            if "acl" in values:
                await set_readers(connection, document_id, values["acl"])

        await self.database.write(write)

    async def hide(self, document_id: str) -> None:
        await self.database.write(
            lambda connection: lifecycle.hide_document(self.database, connection, document_id, 0.0)
        )

    async def pin(self, *terms: str) -> Snapshot:
        return await snapshot.pin(self.database, self.tenant_id, NAME, terms)


async def new_catalog(database: Database) -> Catalog:
    """Make a tenant with an empty collection."""
    catalog = Catalog(database, new_id("ten"), new_id("col"))
    tenant = {"id": catalog.tenant_id, "name": catalog.tenant_id, "created_at": 0.0}
    row = {
        **{"id": catalog.collection_id, "tenant_id": catalog.tenant_id, "name": NAME, "live_name": NAME},
        **{"metadata": {}, "chunking": {}, "embedding_space": "none", "dimensions": 1, "average_terms": 65.0},
        "created_at": 0.0,
    }

    async def insert(connection: AsyncConnection) -> None:
        await connection.execute(tenants.insert().values(tenant))
        await connection.execute(collections.insert().values(row))

    await database.write(insert)
    return catalog
