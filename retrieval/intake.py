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
from retrieval import fingerprint, lifecycle, media, twins
from retrieval.access import check_acl, check_expiry, may_read, reads_as, set_readers
from retrieval.errors import CollectionNotFound, DocumentRejected, DocumentTaken, InputInvalid
from retrieval.hosted import Space
from retrieval.rows import fetch
from retrieval.settings import RetrievalSettings
from retrieval.status import Status
from retrieval.values import check_filename, check_metadata
from storage.objects import ObjectStore
from storage.redis import RedisClient
from storage.schema import collections, documents, jobs, revisions, tasks
from storage.sql import Database

# What is sent first is worked on first, but bulk comes behind what is small: each file of a call is due later by about
# what those before it take, and a little later for each document of the tenant that waits.
_FOR_EACH_FILE_S = 0.5
_BYTES_PER_S = 200_000
_FOR_EACH_WAITING_S = 0.05


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file as it was sent.

    Attributes:
        filename: also what makes a later file a new version of the same document.
        media_type: as the sender declared it, if at all.
        metadata: flat; see `retrieval.values`.
        acl: who may read it, as `retrieval.access.check_acl` takes it; None: as before, or everyone in the tenant.
        expires_after_s: nobody sees it when so many seconds have passed; None: it stays.
    """

    filename: str
    media_type: str | None
    data: bytes
    metadata: dict[str, Any] = field(default_factory=dict)
    acl: object = None
    expires_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was queued; document ids are in the order of the files. Unchanged ones are ready at once."""

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
    acl: dict[str, list[str]] | None
    expires_after_s: int | None


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
        if not 1 <= len(files) <= self._settings.max_batch_files:
            raise InputInvalid("file", f"Send 1 to {self._settings.max_batch_files} files at once, not {len(files)}.")
        uploads = []
        for file in files:
            if len(file.data) > self._settings.max_file_bytes:
                raise DocumentRejected(
                    f"{file.filename[:200]!r} has {len(file.data):,} bytes; "
                    f"the limit is {self._settings.max_file_bytes:,}."
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
                    acl=check_acl(file.acl),
                    expires_after_s=check_expiry(file.expires_after_s),
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
        await _stays_in_the_house(connection, principal, collection)
        job_id = new_id("job")
        await connection.execute(
            jobs.insert().values(
                id=job_id,
                tenant_id=principal.tenant_id,
                collection_id=collection.id,
                creator=principal.user_id or principal.key_id,
                created_at=now_s,
            )
        )
        waiting = sa.select(sa.func.count()).where(tasks.c.status == Status.QUEUED, tasks.c.job_id == jobs.c.id)
        theirs = waiting.where(jobs.c.tenant_id == principal.tenant_id)
        due_s = now_s + _FOR_EACH_WAITING_S * (await connection.execute(theirs)).scalar_one()
        ids = []
        for upload in uploads:
            document = await self._place(connection, principal, collection, upload, now_s, replaced)
            task = {"status": Status.QUEUED, "metadata": upload.metadata, "due": due_s}
            if document.unchanged:
                task = {"status": Status.READY, "progress": 1.0, "finished_at": now_s}
            task |= {"job_id": job_id, "document_id": document.id, "created_at": now_s}
            await connection.execute(tasks.insert().values(task))
            ids.append(document.id)
            due_s += _FOR_EACH_FILE_S + len(upload.data) / _BYTES_PER_S
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
        known = await self._find(connection, principal, collection.id, upload.filename, now_s)
        about: dict[str, Any] = {
            "media_type": upload.media_type,
            "sha256": upload.sha256,
            "source_key": upload.source_key,
            "expires_at": None if upload.expires_after_s is None else now_s + upload.expires_after_s,
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
                    metadata=upload.metadata,
                    acl=upload.acl,
                    status=Status.QUEUED,
                    created_at=now_s,
                    **about,
                )
            )
            await set_readers(connection, document_id, upload.acl)
            return _Placed(document_id, unchanged=False)
        replaced.append(known.source_key)
        # Only the latest upload counts: work on an earlier one ends here.
        earlier = sa.and_(tasks.c.document_id == known.id, tasks.c.generation.is_(None))
        await lifecycle.cancel_tasks(connection, earlier, now_s, "replaced by a newer upload")
        await lifecycle.give_up(connection, known.id, now_s)
        acl = known.acl if upload.acl is None else upload.acl  # a new version opens nothing that was closed
        if acl != known.acl:
            await set_readers(connection, known.id, acl)
        unchanged = known.fingerprint is not None and known.fingerprint == self._fingerprint(collection, upload)
        about |= {"acl": acl, "error": None, "status": Status.READY if unchanged else Status.QUEUED}
        if unchanged:
            about["metadata"] = upload.metadata
        await connection.execute(documents.update().where(documents.c.id == known.id).values(about))
        if known.version and (acl != known.acl or (unchanged and upload.metadata != known.metadata)):
            await lifecycle.make_stale(connection, collection, known.id)
        return _Placed(known.id, unchanged)

    async def _find(
        self, connection: AsyncConnection, principal: Principal, collection_id: str, filename: str, now_s: float
    ) -> Any:
        """The document of this name, if it lives. Raises: DocumentTaken: the caller may not read it."""
        named = sa.and_(
            documents.c.collection_id == collection_id,
            documents.c.filename == filename,
            documents.c.deleted_at.is_(None),
        )
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
            raise DocumentTaken(filename)
        return found

    def _fingerprint(self, collection: Any, upload: _Upload) -> str:
        return fingerprint.of_content(
            self._settings,
            sha256=upload.sha256,
            media_type=upload.media_type,
            filename=upload.filename,
            chunking=collection.chunking,
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


async def _stays_in_the_house(connection: AsyncConnection, principal: Principal, collection: Any) -> None:
    """Raises: InputInvalid: what this caller sends may not go to the collection's embedder, or to the one to come."""
    if not principal.local_only:
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
