"""Opens retrieval: builds its parts around stores that are open already, and closes what it opened."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from core.clock import SystemClock
from core.dependency import Dependency
from retrieval.collections import Collections
from retrieval.documents import Documents
from retrieval.embedder import Embedder
from retrieval.evaluation.daily import DailyEvaluations
from retrieval.evaluation.evaluator import Evaluator
from retrieval.exporting import Exporter
from retrieval.hosted import Hosted
from retrieval.intake import Intake
from retrieval.jobs import Jobs
from retrieval.metadata_fields import MetadataFields
from retrieval.milvus import VectorIndex
from retrieval.questions import Questions
from retrieval.reindex import Reindexes
from retrieval.reranker import Reranker
from retrieval.search import Searcher
from retrieval.settings import RetrievalSettings
from retrieval.sources.lists import Origins
from retrieval.sources.open import open_origins
from storage.objects import ObjectStore
from storage.redis import RedisClient
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What the HTTP door and the worker use."""

    collections: Collections
    documents: Documents
    intake: Intake
    jobs: Jobs
    searcher: Searcher
    evaluator: Evaluator
    daily: DailyEvaluations
    metadata_fields: MetadataFields
    index: VectorIndex
    embedder: Embedder
    reranker: Reranker
    reindexes: Reindexes
    exporter: Exporter
    origins: Origins

    def dependencies(self) -> tuple[Dependency, ...]:
        """The outbound parts, for the state of their breakers."""
        return self.index.dependency, *self.embedder.dependencies, self.reranker.dependency

    def checks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """For health: each raises DependencyError when its part does not answer."""
        return {"milvus": self.index.check, "embeddings": self.embedder.check}


@asynccontextmanager
async def open_retrieval(
    settings: RetrievalSettings,
    database: Database,
    redis: RedisClient,
    objects: ObjectStore,
    questions: Questions | None = None,
) -> AsyncIterator[Retrieval]:
    """Open retrieval's own connections; nothing is reached before the first call.

    Args:
        questions: remembers vectors of questions; None: each is embedded whenever it is asked.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=5))
        )
        index = VectorIndex(settings.milvus_uri, settings.search_deadline_s, settings.flush_rows)
        stack.push_async_callback(index.close)
        hosted = Hosted(
            session,
            settings.hosted_embeddings_url,
            settings.hosted_embeddings_key,
            settings.hosted_embeddings,
            settings.embedding_deadline_s,
            clock,
        )
        embedder = Embedder(
            session, settings.embedding_url, settings.embedding_deadline_s, settings.ingest_batch, clock, hosted
        )
        reranker = Reranker(session, settings.embedding_url, settings.rerank_model, settings.rerank_deadline_s)
        collections = Collections(database, embedder, clock, settings)
        searcher = Searcher(database, index, embedder, reranker, clock, questions)
        yield Retrieval(
            collections=collections,
            documents=Documents(database, redis, objects, clock),
            intake=Intake(database, redis, objects, clock, settings),
            jobs=Jobs(database, redis, clock),
            searcher=searcher,
            evaluator=Evaluator(database, collections, searcher, clock),
            daily=DailyEvaluations(database, clock),
            metadata_fields=MetadataFields(database, clock),
            index=index,
            embedder=embedder,
            reranker=reranker,
            reindexes=Reindexes(database, redis, collections, embedder, clock, settings),
            exporter=Exporter(database, index, objects, clock, settings.ingest_deadline_s),
            origins=open_origins(settings, database, clock),
        )
