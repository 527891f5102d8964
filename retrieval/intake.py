"""The door for files: bytes into the object store, then one transaction, then a nudge."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from core.principal import Principal
from core.reach import Reach
from retrieval import cutting, fingerprint, lifecycle, media, twins
from retrieval.access import check_acl, check_expiry, may_read, reads_as, set_readers
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound, DocumentRejected, DocumentTaken, InputInvalid
from retrieval.hosted import Space
from retrieval.rows import fetch
from retrieval.settings import RetrievalSettings
from retrieval.sources.errands import Origin, send_out
from retrieval.status import Status
from retrieval.values import check_filename, check_metadata
from storage.objects import ObjectStore
from storage.redis import RedisClient
from storage.schema import collections, documents, files, jobs, revisions, tasks
from storage.sql import Database

Also = Callable[[AsyncConnection, str], Awaitable[None]]

# What is sent first is worked on first, but bulk comes behind what is small: each file of a call is due later by about
# what those before it take, and a little later for each document of the tenant that waits.
_FOR_EACH_FILE_S = 0.5
_BYTES_PER_S = 200_000
_FOR_EACH_WAITING_S = 0.05


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file as it was sent.

    Attributes:
        filename: where there is no `file_id`, what makes a later file a new version of the same document.
        media_type: as the sender declared it, if at all.
        data: its bytes, or what gets them when it is its turn: many files together may be more than memory holds.
        metadata: flat; see `retrieval.values`.
        acl: who may read it, as `retrieval.access.check_acl` takes it; None: as before, or everyone in the tenant.
        expires_after_s: nobody sees it when so many seconds have passed; None: it stays.
        file_id: the file of `/v1/files` that this is a copy of. Then it names the document: two files of one name are
            two documents, and neither is the one that was sent under this name without a file.
        chunking: its own, as `retrieval.cutting.check_own` takes it; None: the collection's.
        origin: where its bytes are, if a worker is to fetch them; `data` is empty then.
    """

    filename: str
    media_type: str | None
    data: bytes | Callable[[], Awaitable[bytes]]
    metadata: dict[str, Any] = field(default_factory=dict)
    acl: object = None
    expires_after_s: int | None = None
    file_id: str | None = None
    chunking: object = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was queued; document ids are in the order of the files. Unchanged ones are ready at once."""

    job_id: str
    document_ids: list[str]


@dataclass(frozen=True, slots=True)
class _Upload:
    filename: str
    declared: str | None
    data: bytes | Callable[[], Awaitable[bytes]]
    metadata: dict[str, Any]
    acl: dict[str, list[str]] | None
    expires_after_s: int | None
    file_id: str | None
    chunking: dict[str, int] | None
    origin: Origin | None
    source_key: str
    media_type: str = ""
    sha256: str = ""
    bytes: int = 0


class Intake:
    """Accepts files for ingestion: once `accept` has returned, they are kept and will be worked on."""

    def __init__(
        self,
        database: Database,
        redis: RedisClient,
        objects: ObjectStore,
        clock: Clock,
        settings: RetrievalSettings,
    ) -> None:
        self._database = database
        self._redis = redis
        self._objects = objects
        self._clock = clock
        self._settings = settings

    async def accept(
        self,
        principal: Principal,
        collection_name: str,
        files: Sequence[NewFile],
        job_id: str | None = None,
        also: Also | None = None,
    ) -> Accepted:
        """Queue files. One that names a document which the collection has becomes its next version.

        Args:
            job_id: a job of this collection that they are to be a part of; None: a new one.
            also: done in the same transaction, with the job's id; where it raises, nothing is accepted.

        Raises:
            CollectionNotFound, CollectionExpired
            InputInvalid: no files or too many, two of one name, a name or metadata that can't be taken, or a file that
                was deleted meanwhile.
            DocumentRejected: a file is too large.
            DependencyError: a store is away; nothing was accepted.
        """
        uploads = self._check(files)
        await self._require_collection(principal, collection_name)
        stored: list[str] = []
        replaced: list[str] = []
        try:
            kept = [await self._store(upload, stored) for upload in uploads]

            async def queue(connection: AsyncConnection) -> Accepted:
                replaced.clear()
                accepted = await self._queue(connection, principal, collection_name, kept, replaced, job_id)
                if also is not None:
                    await also(connection, accepted.job_id)
                return accepted

            accepted = await self._database.write(queue)
        except (DependencyError, asyncio.CancelledError):
            # It may have come after the commit: what was stored is left for whoever may refer to it.
            raise
        except BaseException:
            await self._forget(stored)
            raise
        await self._forget(replaced)
        await self._redis.nudge_ingestion()
        return accepted

    def _check(self, files: Sequence[NewFile]) -> list[_Upload]:
        if not 1 <= len(files) <= self._settings.max_batch_files:
            raise InputInvalid("file", f"Send 1 to {self._settings.max_batch_files} files at once, not {len(files)}.")
        uploads = []
        for file in files:
            if isinstance(file.data, bytes):
                self._check_size(file.filename, len(file.data))
            uploads.append(
                _Upload(
                    filename=check_filename(file.filename),
                    declared=file.media_type,
                    data=file.data,
                    metadata=check_metadata(file.metadata),
                    acl=check_acl(file.acl),
                    expires_after_s=check_expiry(file.expires_after_s),
                    file_id=file.file_id,
                    chunking=cutting.check_own(file.chunking),
                    origin=file.origin,
                    source_key=f"sources/{new_id('src')}",
                )
            )
        if len({(upload.file_id, upload.file_id or upload.filename) for upload in uploads}) < len(uploads):
            raise InputInvalid("file", "Two files of one call have the same name: a name stands for one document.")
        return uploads

    def _check_size(self, filename: str, size: int) -> None:
        if size > self._settings.max_file_bytes:
            raise DocumentRejected(
                f"{filename[:200]!r} has {size:,} bytes; the limit is {self._settings.max_file_bytes:,}."
            )

    async def _store(self, upload: _Upload, stored: list[str]) -> _Upload:
        """Keep an upload's bytes, and note where in `stored`. Returns: what is known of it then, without its bytes."""
        if upload.origin is not None:
            return upload
        data = upload.data if isinstance(upload.data, bytes) else await upload.data()
        self._check_size(upload.filename, len(data))
        stored.append(upload.source_key)
        await self._objects.put(upload.source_key, data)
        return replace(
            upload,
            data=b"",
            media_type=media.detect(upload.filename, upload.declared, data)[:200],
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
        )

    async def _require_collection(self, principal: Principal, name: str) -> None:
        """Ask before files are stored; the transaction asks again."""
        statement = sa.select(collections.c.id).where(of_tenant(principal.tenant_id, name))
        if not await fetch(self._database, statement):
            raise CollectionNotFound(name)

    async def _queue(
        self,
        connection: AsyncConnection,
        principal: Principal,
        collection_name: str,
        uploads: Sequence[_Upload],
        replaced: list[str],
        job_id: str | None,
    ) -> Accepted:
        now_s = self._clock.time()
        await _hold_files(connection, principal, [upload.file_id for upload in uploads if upload.file_id is not None])
        collection = await lifecycle.lock_collection(connection, principal.tenant_id, collection_name, now_s)
        await stays_in_the_house(connection, principal, collection)
        if job_id is None:
            job_id = await new_job(connection, principal, collection.id, now_s)
        else:
            await connection.execute(jobs.update().where(jobs.c.id == job_id).values(told_at=None))
        waiting = sa.select(sa.func.count()).where(tasks.c.status == Status.QUEUED, tasks.c.job_id == jobs.c.id)
        theirs = waiting.where(jobs.c.tenant_id == principal.tenant_id)
        due_s = now_s + _FOR_EACH_WAITING_S * (await connection.execute(theirs)).scalar_one()
        ids = []
        for upload in uploads:
            document = await self._place(connection, principal, collection, upload, now_s, replaced)
            task = {"status": Status.QUEUED, "metadata": upload.metadata, "due": due_s}
            if document.unchanged:
                task = {"status": Status.READY, "progress": 1.0, "finished_at": now_s}
            elif upload.origin is not None:
                task |= {"status": Status.FETCHING}
                await send_out(connection, principal, job_id, upload.origin, now_s, document.id)
            task |= {"job_id": job_id, "document_id": document.id, "created_at": now_s}
            await connection.execute(tasks.insert().values(task))
            ids.append(document.id)
            due_s += _FOR_EACH_FILE_S + upload.bytes / _BYTES_PER_S
        return Accepted(job_id, ids)

    async def _place(
        self,
        connection: AsyncConnection,
        principal: Principal,
        collection: Any,
        upload: _Upload,
        now_s: float,
        replaced: list[str],
    ) -> "_Placed":
        """Make the document of an upload, or find it; what is said about it holds from here on, its text later."""
        known = await self._find(connection, principal, collection.id, upload, now_s)
        about: dict[str, Any] = {
            "chunking": upload.chunking,
            "expires_at": None if upload.expires_after_s is None else now_s + upload.expires_after_s,
            "updated_at": now_s,
        }
        if upload.origin is None:
            about |= {"media_type": upload.media_type, "sha256": upload.sha256, "source_key": upload.source_key}
            about["origin"] = None
        elif known is None:
            about |= {"media_type": media.UNKNOWN, "sha256": "", "source_key": ""}
        begun = Status.QUEUED if upload.origin is None else Status.FETCHING
        if known is None:
            document_id = new_id("doc")
            await connection.execute(
                documents.insert().values(
                    id=document_id,
                    collection_id=collection.id,
                    tenant_id=principal.tenant_id,
                    filename=upload.filename,
                    file_id=upload.file_id,
                    metadata=upload.metadata,
                    acl=upload.acl,
                    status=begun,
                    created_at=now_s,
                    **about,
                )
            )
            await set_readers(connection, document_id, upload.acl)
            return _Placed(document_id, unchanged=False)
        if upload.origin is None and known.source_key:
            replaced.append(known.source_key)
        # Only the latest upload counts: work on an earlier one ends here.
        earlier = sa.and_(tasks.c.document_id == known.id, tasks.c.generation.is_(None))
        await lifecycle.cancel_tasks(connection, earlier, now_s, "replaced by a newer upload")
        await lifecycle.give_up(connection, known.id, now_s)
        acl = known.acl if upload.acl is None else upload.acl  # a new version opens nothing that was closed
        if acl != known.acl:
            await set_readers(connection, known.id, acl)
        unchanged = upload.origin is None and known.fingerprint is not None
        unchanged = unchanged and known.fingerprint == self._fingerprint(collection, upload)
        about |= {"acl": acl, "error": None, "status": Status.READY if unchanged else begun}
        if unchanged:
            about["metadata"] = upload.metadata
        await connection.execute(documents.update().where(documents.c.id == known.id).values(about))
        if known.version and (acl != known.acl or (unchanged and upload.metadata != known.metadata)):
            await lifecycle.make_stale(connection, collection, known.id)
        return _Placed(known.id, unchanged)

    async def _find(
        self, connection: AsyncConnection, principal: Principal, collection_id: str, upload: _Upload, now_s: float
    ) -> Any:
        """The document of this file or name, if it lives. Raises: DocumentTaken: the caller may not read it."""
        if upload.file_id is not None:
            called = documents.c.file_id == upload.file_id
        else:
            called = sa.and_(documents.c.filename == upload.filename, documents.c.file_id.is_(None))
        named = sa.and_(documents.c.collection_id == collection_id, called, documents.c.deleted_at.is_(None))
        statement = (
            sa.select(documents, revisions.c.fingerprint, may_read(reads_as(principal)).label("readable"))
            .outerjoin(revisions, revisions.c.id == documents.c.revision_id)
            .where(named)
        )
        found = (await connection.execute(statement)).one_or_none()
        if found is None:
            return None
        if found.expires_at is not None and found.expires_at <= now_s:
            await lifecycle.hide_document(self._database, connection, found.id, now_s)
            return None
        if not found.readable:
            raise DocumentTaken(upload.filename)
        return found

    def _fingerprint(self, collection: Any, upload: _Upload) -> str:
        return fingerprint.of_content(
            self._settings,
            sha256=upload.sha256,
            media_type=upload.media_type,
            filename=upload.filename,
            chunking=collection.chunking if upload.chunking is None else upload.chunking,
            embedding_space=collection.embedding_space,
        )

    async def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            with contextlib.suppress(DependencyError):  # an orphaned file costs space, no more
                await self._objects.delete(key)


@dataclass(frozen=True, slots=True)
class _Placed:
    """The document of an upload; unchanged: what is visible was made from the same bytes in the same way."""

    id: str
    unchanged: bool


async def new_job(connection: AsyncConnection, principal: Principal, collection_id: str, now_s: float) -> str:
    """Make a job of a collection that the caller has locked. Returns: its id."""
    job_id = new_id("job")
    await connection.execute(
        jobs.insert().values(
            id=job_id,
            tenant_id=principal.tenant_id,
            collection_id=collection_id,
            creator=principal.user_id or principal.key_id,
            created_at=now_s,
        )
    )
    return job_id


async def _hold_files(connection: AsyncConnection, principal: Principal, file_ids: Sequence[str]) -> None:
    """Let no file be deleted before its document is there, which would go with it. Raises: InputInvalid: one is gone.

    Whoever deletes a file holds its row first and its documents' collections then; so does this.
    """
    if not file_ids:
        return
    there = sa.select(files.c.id).where(
        files.c.id.in_(file_ids), files.c.tenant_id == principal.tenant_id, files.c.deleted_at.is_(None)
    )
    found = set((await connection.execute(there.order_by(files.c.id).with_for_update(read=True))).scalars())
    for file_id in file_ids:
        if file_id not in found:
            raise InputInvalid("file_id", f"The file {file_id!r} was deleted meanwhile: send it again.")


async def stays_in_the_house(connection: AsyncConnection, principal: Principal, collection: Any) -> None:
    """Raises: InputInvalid: what this caller sends may not go to the collection's embedder, or to the one to come."""
    its = Reach.read(collection.reach)
    if principal.reach.narrowed(its) == its:  # an embedder of the collection's is one that this text may go to
        return
    made = await twins.being_made(connection, collection.id)
    names = [collection.embedding_space] + ([] if made is None else [made.embedding_space])
    for space in (Space(name, 0) for name in names):
        if space.hosted:
            raise InputInvalid(
                "collection",
                f"The collection is embedded by {space.name}, a hosted embedder, and nothing that you send may leave "
                "the house: choose a collection with an embedding model of this house.",
            )
