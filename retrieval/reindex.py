"""The door for reindexes: moves a collection to another embedding space or another way of cutting while it answers."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import bm25, generations, lifecycle
from retrieval.collections import Collection, Collections, check_chunking, pool_of
from retrieval.embedder import Embedder
from retrieval.generations import Target
from retrieval.settings import RetrievalSettings
from storage.redis import RedisClient
from storage.sql import Database


class Reindexes:
    """Begins, cancels and mends the reindex of a tenant's collection; workers do the rest."""

    def __init__(
        self,
        database: Database,
        redis: RedisClient,
        collections: Collections,
        embedder: Embedder,
        clock: Clock,
        settings: RetrievalSettings,
    ) -> None:
        self._database = database
        self._redis = redis
        self._collections = collections
        self._embedder = embedder
        self._clock = clock
        self._settings = settings

    async def begin(
        self, principal: Principal, name: str, embedding_model: str, chunking: dict[str, Any] | None = None
    ) -> Collection:
        """Begin to index a collection anew; the old index answers until the new one is whole.

        Args:
            embedding_model: it may be the one that the collection has.
            chunking: takes the place of what there was; None: as it was.

        Returns: the collection as it is then.

        Raises:
            CollectionNotFound, ReindexRunning
            InputInvalid: no such embedding model, or chunking that can't be taken.
            DependencyError: SQL or the embedding server is away.
        """
        known = await self._collections.get(principal, name)
        cutting = known.chunking if chunking is None else check_chunking(chunking)
        reach = known.reach.narrowed(principal.reach)
        space = await self._embedder.choose(embedding_model, reach=reach)

        async def start(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, name)
            pool = None if collection.pool is None else pool_of(space)
            average = bm25.average_terms(self._settings.average_terms, collection.chunks, collection.terms)
            target = Target(space.name, space.dimensions, cutting, average, pool)
            await generations.begin(self._database, connection, collection, target, self._clock.time())

        await self._database.write(start, generations.SWITCH_S)
        await self._redis.nudge_ingestion()
        return await self._collections.get(principal, name)

    async def cancel(self, principal: Principal, name: str) -> Collection:
        """End the reindex of a collection; it stays as it was. Returns: the collection as it is then.

        Raises: CollectionNotFound, ReindexNotFound.
        """

        async def end(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, name)
            await generations.cancel(connection, collection, self._clock.time())

        await self._database.write(end, generations.SWITCH_S)
        return await self._collections.get(principal, name)

    async def retry(self, principal: Principal, name: str) -> Collection:
        """Try documents again that could not be indexed anew. Returns: the collection as it is then.

        Raises: CollectionNotFound, ReindexNotFound.
        """

        async def queue(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, name)
            await generations.retry(connection, collection, self._clock.time())

        await self._database.write(queue)
        await self._redis.nudge_ingestion()
        return await self._collections.get(principal, name)
