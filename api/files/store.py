"""The files of a tenant: bytes in the object store, all else in SQL. Nothing here knows of HTTP.

A file has an access list as a document has one. What is not there, not the caller's, deleted or expired is the same:
`FileNotFound`.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import FileNotFound
from api.owner import owner_of
from core.clock import Clock
from core.dependency import DependencyError
from core.ids import is_id, new_id
from core.principal import Principal
from retrieval.access import check_acl, check_expiry, readers_of, reads_as
from retrieval.rows import fetch
from retrieval.values import check_filename
from storage.objects import ObjectNotFound, ObjectStore
from storage.schema import file_readers, files
from storage.sql import Database

FOLDER = "files/"
"""What the keys of files begin with in the object store; the rest is the file's id."""

_OWNER = "owner:{}"  # the reader that stands for whoever `owner_of` names
_ASKED_AT_ONCE = 500  # ids in one statement


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be kept; who takes it from a client has bounded its size.

    Attributes:
        media_type: as the sender declared it, if at all.
        acl: who may read it, as `retrieval.access.check_acl` takes it; None: everyone in the tenant.
        expires_after_s: nobody sees it when so many seconds have passed; None: it stays.
        private: instead of `acl`: whoever made it may read it, as `owner_of` names them, and who manages the tenant.
    """

    filename: str
    purpose: str
    data: bytes
    media_type: str | None = None
    acl: object = None
    expires_after_s: int | None = None
    private: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as whoever may read it sees it.

    Attributes:
        creator: as `owner_of` names whoever sent it; it opens nothing.
        bytes: how many it has.
        acl: who may read it; None: everyone in the tenant.
        created_at, expires_at: seconds since 1970; expires_at None: it stays.
    """

    id: str
    tenant_id: str
    creator: str
    filename: str
    purpose: str
    media_type: str
    bytes: int
    sha256: str
    acl: dict[str, list[str]] | None
    created_at: float
    expires_at: float | None


class MadeOfFiles(Protocol):
    """Whoever has made something of files."""

    async def hide_made_of(self, connection: AsyncConnection, principal: Principal, file_id: str) -> None:
        """A file is being deleted in this transaction: what was made of it goes with it."""
        ...


class Files:
    """Keeps, finds and deletes a tenant's files: those that the caller may read."""

    def __init__(self, database: Database, objects: ObjectStore, documents: MadeOfFiles, clock: Clock) -> None:
        self._database = database
        self._objects = objects
        self._documents = documents
        self._clock = clock

    async def keep(self, principal: Principal, new: NewFile) -> StoredFile:
        """Keep a file: its bytes first, then its row.

        Raises:
            InputInvalid: a name, access list or expiry that can't be taken.
            DependencyError: a store is away; nothing is kept that anybody could see.
        """
        file = await self.lay(principal, new)
        try:
            await self._database.write(lambda connection: self.note(connection, file, private=new.private))
        except DependencyError:
            raise  # the deadline may have passed after the commit; else the sweep finds bytes of no file
        except BaseException:
            with contextlib.suppress(DependencyError):
                await self._objects.delete(f"{FOLDER}{file.id}")
            raise
        return file

    async def lay(self, principal: Principal, new: NewFile) -> StoredFile:
        """Keep a file's bytes alone: nobody sees it until it is noted, and what never is, the sweep removes.

        Raises: as `keep`.
        """
        file = self._begun(principal, new)
        await self._objects.put(f"{FOLDER}{file.id}", new.data)
        return replace(file, bytes=len(new.data), sha256=hashlib.sha256(new.data).hexdigest())

    async def lay_parts(self, principal: Principal, new: NewFile, parts: AsyncIterator[bytes]) -> StoredFile | None:
        """The same of bytes that come in parts, of which few are held at a time; `new` has none.

        Returns: None: there were none, and nothing is kept.
        Raises: as `keep`.
        """
        file = self._begun(principal, new)
        digest, size = hashlib.sha256(), 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for part in parts:
                digest.update(part)
                size += len(part)
                yield part

        await self._objects.put_parts(f"{FOLDER}{file.id}", counted())
        if not size:
            await self._objects.delete(f"{FOLDER}{file.id}")
            return None
        return replace(file, bytes=size, sha256=digest.hexdigest())

    def _begun(self, principal: Principal, new: NewFile) -> StoredFile:
        now_s = self._clock.time()
        return StoredFile(
            id=new_id("file"),
            tenant_id=principal.tenant_id,
            creator=owner_of(principal),
            filename=check_filename(new.filename),
            purpose=new.purpose,
            media_type=(new.media_type or "application/octet-stream")[:200],
            bytes=0,
            sha256="",
            acl=_own(principal) if new.private else check_acl(new.acl),
            created_at=now_s,
            expires_at=_expires_at(check_expiry(new.expires_after_s), now_s),
        )

    async def note(self, connection: AsyncConnection, file: StoredFile, *, private: bool = False) -> None:
        """Show a file whose bytes are kept, with this transaction; `private` as it was laid."""
        row = {field.name: getattr(file, field.name) for field in fields(file)}
        await connection.execute(files.insert().values(**row, object_key=f"{FOLDER}{file.id}"))
        readers = [_OWNER.format(file.creator)] if private else readers_of(file.acl)
        if readers:
            rows = [{"file_id": file.id, "reader": reader} for reader in readers]
            await connection.execute(file_readers.insert(), rows)

    async def get(self, principal: Principal, file_id: str) -> StoredFile:
        """Raises: FileNotFound; DependencyError: SQL is away."""
        return (await self.get_all(principal, [file_id]))[0]

    async def get_all(self, principal: Principal, file_ids: Sequence[str]) -> list[StoredFile]:
        """Several files, in the order in which they are named.

        Raises: FileNotFound: of the first that is not there; DependencyError: SQL is away.
        """
        found: dict[str, StoredFile] = {}
        asked = [each for each in file_ids if is_id(each, "file")]
        for first in range(0, len(asked), _ASKED_AT_ONCE):
            theirs = files.c.id.in_(asked[first : first + _ASKED_AT_ONCE])
            for row in await fetch(self._database, self._select(principal).where(theirs)):
                found[row.id] = _as_file(row)
        missing = next((each for each in file_ids if each not in found), None)
        if missing is not None:
            raise FileNotFound(missing)
        return [found[each] for each in file_ids]

    async def list(
        self,
        principal: Principal,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 20,
        *,
        newest_first: bool = True,
    ) -> list[StoredFile]:
        """List files in order of creation, those behind the id `after`; at most `limit`."""
        statement = self._select(principal)
        if purpose is not None:
            statement = statement.where(files.c.purpose == purpose)
        if after is not None:
            statement = statement.where(files.c.id < after if newest_first else files.c.id > after)
        order = files.c.id.desc() if newest_first else files.c.id
        return [_as_file(row) for row in await fetch(self._database, statement.order_by(order).limit(limit))]

    async def content(self, principal: Principal, file_id: str) -> bytes:
        """Raises: FileNotFound; DependencyError: a store is away."""
        file = await self.get(principal, file_id)
        try:
            return await self._objects.get(f"{FOLDER}{file.id}")
        except ObjectNotFound as error:  # deleted and swept between the two reads
            raise FileNotFound(file_id) from error

    async def delete(self, principal: Principal, file_id: str) -> None:
        """Delete a file for every request from now on, and the documents made of it that the caller may read.

        Its bytes are removed by the sweep.

        Raises: FileNotFound; DependencyError: SQL is away.
        """

        async def hide(connection: AsyncConnection) -> None:
            found = self._select(principal).where(files.c.id == file_id).with_for_update()
            if not is_id(file_id, "file") or (await connection.execute(found)).one_or_none() is None:
                raise FileNotFound(file_id)
            gone = files.update().where(files.c.id == file_id).values(deleted_at=self._clock.time())
            await connection.execute(gone)
            await self._documents.hide_made_of(connection, principal, file_id)

        await self._database.write(hide)

    def _select(self, principal: Principal) -> sa.Select[*tuple[Any, ...]]:
        now_s = self._clock.time()
        return sa.select(files).where(
            files.c.tenant_id == principal.tenant_id,
            files.c.deleted_at.is_(None),
            sa.or_(files.c.expires_at.is_(None), files.c.expires_at > now_s),
            _may_read(principal),
        )


def _may_read(principal: Principal) -> sa.ColumnElement[bool]:
    readers = reads_as(principal)
    if readers is None:
        return sa.true()
    readers.append(_OWNER.format(owner_of(principal)))
    theirs = sa.exists().where(file_readers.c.file_id == files.c.id, file_readers.c.reader.in_(readers))
    return theirs.correlate(files)


def _own(principal: Principal) -> dict[str, list[str]]:
    """The access list that is shown of a private file, and that documents have that are made of it."""
    return {"users": [] if principal.user_id is None else [principal.user_id], "groups": []}


def _expires_at(seconds: int | None, now_s: float) -> float | None:
    return None if seconds is None else now_s + seconds


def _as_file(row: Any) -> StoredFile:
    return StoredFile(
        id=row.id,
        tenant_id=row.tenant_id,
        creator=row.creator,
        filename=row.filename,
        purpose=row.purpose,
        media_type=row.media_type,
        bytes=row.bytes,
        sha256=row.sha256,
        acl=row.acl,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
