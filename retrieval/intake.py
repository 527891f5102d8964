"""The door for files: bytes into the object store, then one transaction, then a nudge."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from core.principal import Principal
from retrieval import lifecycle, media
from retrieval.errors import CollectionNotFound, DocumentRejected, InputInvalid
from retrieval.rows import fetch
from retrieval.status import Status
from retrieval.values import check_filename, check_metadata
from storage.objects import ObjectStore
from storage.redis import RedisClient
from storage.schema import collections, documents, jobs, tasks
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file as it was sent.

    Attributes:
        filename: also what makes a later file a new version of the same document.
        media_type: as the sender declared it, if at all.
        metadata: flat; see `retrieval.values`.
    """

    filename: str
    media_type: str | None
    data: bytes
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was queued; document ids are in the order of the files."""

    job_id: str
    document_ids: list[str]


@dataclass(frozen=True, slots=True)
class _Upload:
    filename: str
    media_type: str
    sha256: str
    source_key: str
    data: bytes
    metadata: dict[str, Any]


class Intake:
    """Accepts files for ingestion: once `accept` has returned, they are kept and will be worked on."""

    def __init__(
        self,
        database: Database,
        redis: RedisClient,
        objects: ObjectStore,
        clock: Clock,
        max_file_bytes: int,
        max_files: int,
    ) -> None:
        self._database = database
        self._redis = redis
        self._objects = objects
        self._clock = clock
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files

    async def accept(self, principal: Principal, collection_name: str, files: Sequence[NewFile]) -> Accepted:
        """Queue files. One whose name the collection already has becomes the next version of that document.

        Raises:
            CollectionNotFound
            InputInvalid: no files or too many, two of one name, a name or metadata that can't be taken.
            DocumentRejected: a file is too large.
            DependencyError: a store is away; nothing was accepted.
        """
        uploads = self._check(files)
        await self._require_collection(principal, collection_name)
        stored: list[str] = []
        replaced: list[str] = []
        try:
            for upload in uploads:
                stored.append(upload.source_key)
                await self._objects.put(upload.source_key, upload.data)

            async def queue(connection: AsyncConnection) -> Accepted:
                replaced.clear()
                return await self._queue(connection, principal, collection_name, uploads, replaced)

            accepted = await self._database.write(queue)
        except DependencyError:
            # A deadline may have passed after the commit: what was stored is left for whoever may refer to it.
            raise
        except BaseException:
            await self._forget(stored)
            raise
        await self._forget(replaced)
        await self._redis.nudge_ingestion()
        return accepted

    def _check(self, files: Sequence[NewFile]) -> list[_Upload]:
        if not 1 <= len(files) <= self._max_files:
            raise InputInvalid("file", f"Send 1 to {self._max_files} files at once, not {len(files)}.")
        uploads = []
        for file in files:
            if len(file.data) > self._max_file_bytes:
                raise DocumentRejected(
                    f"{file.filename[:200]!r} has {len(file.data):,} bytes; the limit is {self._max_file_bytes:,}."
                )
            name = check_filename(file.filename)
            uploads.append(
                _Upload(
                    filename=name,
                    media_type=media.detect(name, file.media_type, file.data)[:200],
                    sha256=hashlib.sha256(file.data).hexdigest(),
                    source_key=f"sources/{new_id('src')}",
                    data=file.data,
                    metadata=check_metadata(file.metadata),
                )
            )
        if len({upload.filename for upload in uploads}) < len(uploads):
            raise InputInvalid("file", "Two files of one call have the same name: a name stands for one document.")
        return uploads

    async def _require_collection(self, principal: Principal, name: str) -> None:
        """Ask before files are stored; the transaction asks again."""
        statement = sa.select(collections.c.id).where(
            collections.c.tenant_id == principal.tenant_id, collections.c.live_name == name
        )
        if not await fetch(self._database, statement):
            raise CollectionNotFound(name)

    async def _queue(
        self,
        connection: AsyncConnection,
        principal: Principal,
        collection_name: str,
        uploads: Sequence[_Upload],
        replaced: list[str],
    ) -> Accepted:
        now_s = self._clock.time()
        collection = await lifecycle.lock_collection(connection, principal.tenant_id, collection_name)
        job_id = new_id("job")
        await connection.execute(
            jobs.insert().values(
                id=job_id, tenant_id=principal.tenant_id, collection_id=collection.id, created_at=now_s
            )
        )
        ids = []
        for upload in uploads:
            known = await _find_by_name(connection, collection.id, upload.filename)
            about = {
                "media_type": upload.media_type,
                "sha256": upload.sha256,
                "source_key": upload.source_key,
                "metadata": upload.metadata,
                "status": Status.QUEUED,
                "error": None,
                "updated_at": now_s,
            }
            if known is None:
                document_id = new_id("doc")
                await connection.execute(
                    documents.insert().values(
                        id=document_id,
                        collection_id=collection.id,
                        tenant_id=principal.tenant_id,
                        filename=upload.filename,
                        created_at=now_s,
                        **about,
                    )
                )
            else:
                document_id = known.id
                replaced.append(known.source_key)
                # Only the latest upload counts: work on an earlier one ends here.
                await lifecycle.cancel_tasks(
                    connection, tasks.c.document_id == document_id, now_s, "replaced by a newer upload"
                )
                await lifecycle.give_up(connection, document_id, now_s)
                await connection.execute(documents.update().where(documents.c.id == document_id).values(about))
            await connection.execute(
                tasks.insert().values(job_id=job_id, document_id=document_id, status=Status.QUEUED, created_at=now_s)
            )
            ids.append(document_id)
        return Accepted(job_id, ids)

    async def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            with contextlib.suppress(DependencyError):  # an orphaned file costs space, no more
                await self._objects.delete(key)


async def _find_by_name(connection: AsyncConnection, collection_id: str, filename: str) -> Any:
    statement = sa.select(documents.c.id, documents.c.source_key).where(
        documents.c.collection_id == collection_id,
        documents.c.filename == filename,
        documents.c.deleted_at.is_(None),
    )
    return (await connection.execute(statement)).one_or_none()
