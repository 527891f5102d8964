"""The sweep of files: removes the bytes of those that were deleted or have expired, and bytes that no file names.

The keeper runs it, and not the ingestion worker's sweep: files belong to the gateway, and what retrieval sweeps it
need not know of them. Nobody waits for a grace here: bytes are read whole, and who comes too late learns that the file
is gone. Every step can be repeated; two keepers at once do no harm.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.files.store import FOLDER
from core.clock import Clock
from core.ids import made_at
from retrieval.rows import fetch
from storage.objects import ObjectStore
from storage.schema import file_readers, files
from storage.sql import Database

_AT_ONCE = 200


class FileSweep:
    """Works through what is there a part at a time."""

    def __init__(self, database: Database, objects: ObjectStore, clock: Clock, orphan_grace_s: float) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock
        self._orphan_grace_s = orphan_grace_s

    async def run(self) -> int:
        """Remove what nobody may read any more. Returns: how many files that were.

        Raises: DependencyError: a store is away; the next run goes on.
        """
        count = 0
        while part := await self._gone():
            for key in part.values():
                await self._objects.delete(key)
            await self._mark(list(part))
            count += len(part)
        return count

    async def orphans(self) -> int:
        """Remove bytes that were kept for a file that nobody came to note. Returns: how many.

        Nothing younger than the grace is touched: its row may be on its way. Raises: DependencyError.
        """
        before_s = self._clock.time() - self._orphan_grace_s
        old = [key for key in await self._objects.list_keys(FOLDER) if _older(key, before_s)]
        count = 0
        for first in range(0, len(old), _AT_ONCE):
            keys = old[first : first + _AT_ONCE]
            statement = sa.select(files.c.object_key).where(files.c.object_key.in_(keys), files.c.swept_at.is_(None))
            named = {row.object_key for row in await fetch(self._database, statement)}
            for key in keys:
                if key not in named:
                    await self._objects.delete(key)
                    count += 1
        return count

    async def _gone(self) -> dict[str, str]:
        over = sa.or_(files.c.deleted_at.is_not(None), files.c.expires_at <= self._clock.time())
        statement = sa.select(files.c.id, files.c.object_key).where(over, files.c.swept_at.is_(None)).limit(_AT_ONCE)
        return {row.id: row.object_key for row in await fetch(self._database, statement)}

    async def _mark(self, ids: list[str]) -> None:
        now_s = self._clock.time()
        told = {"swept_at": now_s, "deleted_at": sa.func.coalesce(files.c.deleted_at, now_s), "filename": ""}

        async def mark(connection: AsyncConnection) -> None:
            await connection.execute(file_readers.delete().where(file_readers.c.file_id.in_(ids)))
            await connection.execute(files.update().where(files.c.id.in_(ids)).values(told))

        await self._database.write(mark)


def _older(key: str, before_s: float) -> bool:
    try:
        return made_at(key) < before_s
    except ValueError:  # no name of ours
        return False
