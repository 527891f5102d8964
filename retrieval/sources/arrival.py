"""What was fetched becomes its document's bytes: kept, noted in one transaction, and queued unless nothing changed."""

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from retrieval import fingerprint, lifecycle, media
from retrieval.errors import ErrandLost
from retrieval.settings import RetrievalSettings
from retrieval.sources.errands import Errand, Errands
from retrieval.sources.fetcher import Fetched
from retrieval.status import Status
from storage.objects import ObjectStore
from storage.redis import RedisClient
from storage.schema import collections, documents, revisions, tasks
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Takes in what errands bring home."""

    settings: RetrievalSettings
    database: Database
    redis: RedisClient
    objects: ObjectStore
    clock: Clock
    errands: Errands

    async def take(self, errand: Errand, found: Fetched | None) -> bool:
        """Keep the bytes of one document's errand.

        Args:
            found: None: they are those that are kept already.

        Returns: whether there is anything to index.

        Raises: ErrandLost: nobody wants them any more; DependencyError: a part is away.
        """
        news: dict[str, Any] = {}
        if found is not None:
            news = {
                "source_key": f"sources/{new_id('src')}",
                "sha256": hashlib.sha256(found.data).hexdigest(),
                "media_type": media.detect(errand.filename, found.media_type, found.data)[:200],
                "origin": {
                    "address": errand.address,
                    "answered": found.known.address,
                    "etag": found.known.etag,
                    "modified": found.known.modified,
                },
            }
            await self.objects.put(news["source_key"], found.data)
        try:
            replaced, changed = await self.database.write(lambda connection: self._note(connection, errand, news))
        except ErrandLost:
            await self._forget(news.get("source_key", ""))
            raise
        await self._forget(replaced)
        if changed:
            await self.redis.nudge_ingestion()
        return changed

    async def _note(self, connection: AsyncConnection, errand: Errand, news: dict[str, Any]) -> tuple[str, bool]:
        """Returns: the key of bytes that nobody needs any more, if any, and whether there is anything to index."""
        now_s = self.clock.time()
        owner = sa.select(documents.c.collection_id).where(documents.c.id == errand.document_id)
        locked = sa.select(collections).where(collections.c.id == owner.scalar_subquery()).with_for_update()
        collection = (await connection.execute(locked)).one()
        await self.errands.finish(connection, errand)
        mine = sa.and_(
            tasks.c.job_id == errand.job_id,
            tasks.c.document_id == errand.document_id,
            tasks.c.status == Status.FETCHING,
        )
        task = (await connection.execute(sa.select(tasks).where(mine))).one_or_none()
        if task is None:
            raise ErrandLost("the document is not wanted any more")
        known = sa.select(documents, revisions.c.fingerprint).outerjoin(
            revisions, revisions.c.id == documents.c.revision_id
        )
        document = (await connection.execute(known.where(documents.c.id == errand.document_id))).one()
        same = document.fingerprint is not None and document.fingerprint == self._fingerprint(
            collection, document, news
        )
        about = {**news, "status": Status.READY if same else Status.QUEUED, "error": None, "updated_at": now_s}
        step: dict[str, Any] = {"status": Status.QUEUED, "due": now_s}
        if same:
            step = {"status": Status.READY, "progress": 1.0, "finished_at": now_s}
            if task.metadata is not None and task.metadata != document.metadata:
                about["metadata"] = task.metadata
                await lifecycle.make_stale(connection, collection, document.id)
        await connection.execute(documents.update().where(documents.c.id == document.id).values(**about))
        await connection.execute(tasks.update().where(mine).values(error=None, **step))
        return (document.source_key if news else ""), not same

    def _fingerprint(self, collection: Any, document: Any, news: dict[str, Any]) -> str:
        return fingerprint.of_content(
            self.settings,
            sha256=news.get("sha256", document.sha256),
            media_type=news.get("media_type", document.media_type),
            filename=document.filename,
            chunking=collection.chunking if document.chunking is None else document.chunking,
            embedding_space=collection.embedding_space,
        )

    async def _forget(self, key: str) -> None:
        if key:
            with contextlib.suppress(DependencyError):  # an orphaned file costs space, no more
                await self.objects.delete(key)
