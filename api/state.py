"""What the gateway holds open while it runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Annotated

import aiohttp
from fastapi import Depends, Request

from api.admission.admission import Admission
from api.answers import trying
from api.answers.cached import answering
from api.answers.recipes import Recipes
from api.auto.auto import Auto, open_auto
from api.batches.metering import LineMetering
from api.batches.store import Batches
from api.breakers import Breakers
from api.caching.cache import Bounds, Cache
from api.caching.sameness import Judge
from api.caching.similar import Similar
from api.caching.vectors import QuestionVectors
from api.conversations.store import Conversations
from api.deployments.book import DeploymentBook
from api.deployments.deployments import Deployments
from api.deployments.following import looking, open_following
from api.directory import Directory, open_directory
from api.engines.looking import Engines
from api.experiments.judging import Judging
from api.feedback.store import Feedback
from api.files.store import Files
from api.hooks.receiving import Receiving
from api.identities import Identities
from api.ledger.caught_up import until_shipped
from api.ledger.ledger import Ledger
from api.ledger.reports import spent
from api.mark import HostMark
from api.metering import Metering
from api.responses.keeping import Keeper
from api.responses.responder import Responder
from api.responses.searching import DocumentSearch
from api.responses.store import Responses
from api.searched import Searched
from api.settings import ApiSettings
from api.vectorstores.attaching import Attaching
from api.vectorstores.store import VectorStores
from core.clock import Clock, SystemClock
from core.dependency import DependencyError
from core.limits import Subject
from monitoring.names import NamePage
from monitoring.series import Series
from retrieval.open import Retrieval, open_retrieval
from router.router import Router
from storage.open import open_store
from storage.redis import RedisClient
from storage.scripts import ScriptLine
from storage.sql import Database

_JUDGED_EVERY_S = 2.0
_BREAKERS_EVERY_S = 1.0
_SERIES_EVERY_S = 5.0
_VECTOR_PATIENCE_S = 1.0  # for somebody else's vector; after that a question is embedded twice


@dataclass(frozen=True, slots=True)
class AppState:
    """Opened by `open_state`, closed by it too; one for each worker."""

    settings: ApiSettings
    clock: Clock
    database: Database
    redis: RedisClient
    directory: Directory
    retrieval: Retrieval
    files: Files
    vector_stores: VectorStores
    attaching: Attaching
    router: Router
    deployments: Deployments
    engines: Engines
    judging: Judging
    auto: Auto | None
    metering: Metering
    line_metering: LineMetering
    batches: Batches
    recipes: Recipes
    answerer: trying.Answers
    searched: Searched
    cache: Cache
    idempotency: Cache
    conversations: Conversations
    responses: Responses
    responder: Responder
    feedback: Feedback
    receiving: Receiving

    @property
    def identities(self) -> Identities:
        return self.directory.identities


@asynccontextmanager
async def open_state(settings: ApiSettings) -> AsyncIterator[AppState]:
    """Open every collaborator; what was opened is closed in reverse, also when a later one fails."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        database = Database(settings.sql_url(), settings.sql_deadline_s)
        stack.push_async_callback(database.close)
        redis = RedisClient(settings.redis_address(), settings.redis_deadline_s)
        stack.push_async_callback(redis.close)
        objects = open_store(settings.object_store_url(), settings.object_deadline_s, settings.s3_endpoint_url)
        caches = await stack.enter_async_context(_opened_caches(settings, redis))
        retrieval = await stack.enter_async_context(
            open_retrieval(settings, database, redis, objects, caches.questions)
        )
        workers = settings.workers * settings.hosts
        mark = HostMark(settings.data_dir / "deployments.mark")
        stack.callback(mark.close)
        book = DeploymentBook(database, clock, mark.move)
        router, following = await stack.enter_async_context(
            open_following(settings, book, mark, clock, redis, trying.check)
        )
        await stack.enter_async_context(looking(following.look, settings.config_poll_s))
        judging = Judging(following, book)
        await stack.enter_async_context(looking(judging.look, _JUDGED_EVERY_S))
        parts = (database.dependency, redis.dependency, *retrieval.dependencies())
        await stack.enter_async_context(looking(Breakers(parts, router).look, _BREAKERS_EVERY_S))
        series = Series(NamePage(settings.metrics_grace_s), following.names)
        await stack.enter_async_context(looking(series.look, _SERIES_EVERY_S))
        auto = await stack.enter_async_context(
            open_auto(router, retrieval.embedder, settings.auto_models, settings.auto_thresholds)
        )
        ledger = Ledger(settings.ledger_folder(), clock)
        stack.callback(ledger.close)

        async def spent_so_far(tenant_id: str, subject: Subject, period: str) -> int:
            await until_shipped(settings.ledger_folder(), clock)
            return await spent(database, tenant_id, subject, period)

        admission = await stack.enter_async_context(
            Admission(redis, spent_so_far, clock, lease_s=settings.admission_lease_s, workers=workers)
        )

        async def bump(tenant_id: str, key_id: str, generation: int) -> None:
            with suppress(DependencyError):  # the change is made; who asks SQL learns of it within a second
                await admission.bump_generation(tenant_id, key_id, generation)

        async def recount(tenant_id: str, subject: Subject) -> None:
            if subject.common:
                await admission.forget_common([subject])
            else:
                await admission.forget_spent(tenant_id, [subject])

        directory = await stack.enter_async_context(
            open_directory(settings, database, clock, lambda: [model.id for model in router.models()], bump, recount)
        )
        files = Files(database, objects, retrieval.documents, clock)
        metering = Metering(admission, ledger, directory.identities, clock)
        similar = None
        if settings.answer_cache_semantic and settings.answer_cache_s:
            judge = await asyncio.to_thread(Judge)  # it reads a dictionary
            similar = Similar(caches.answers, judge, settings.semantic_check_share, settings.semantic_false_share)
        conversations = Conversations(database, clock)
        responses = Responses(database, clock, settings.response_days)
        keeper = Keeper(database, conversations, responses, clock)
        factor, recipes = settings.batch_price_factor, Recipes(database)
        yield AppState(
            settings=settings,
            clock=clock,
            database=database,
            redis=redis,
            directory=directory,
            retrieval=retrieval,
            files=files,
            vector_stores=VectorStores(database, clock, settings),
            attaching=Attaching(files, retrieval.intake, clock, settings.max_batch_files),
            router=router,
            deployments=Deployments(router, following, book, settings, clock),
            engines=Engines(await stack.enter_async_context(aiohttp.ClientSession()), settings.gpu_figures_url, clock),
            judging=judging,
            auto=auto,
            metering=metering,
            line_metering=LineMetering(admission, ledger, directory.identities, clock, factor),
            batches=Batches(database, clock, settings.batch_max_open),
            recipes=recipes,
            answerer=trying.TriedAnswerer(
                answering(retrieval, router, metering, settings, clock, recipes, caches.answers, caches.stale, similar),
                lambda: following.config.experiments,
                clock,
            ),
            searched=Searched(caches.answers, retrieval.collections, settings, clock),
            cache=caches.answers,
            idempotency=caches.idempotency,
            conversations=conversations,
            responses=responses,
            responder=Responder(
                router, metering, keeper, DocumentSearch(retrieval), retrieval.documents, settings, clock, auto
            ),
            feedback=Feedback(database, clock),
            receiving=Receiving(
                database,
                redis,
                retrieval.intake,
                retrieval.origins,
                clock,
            ),
        )


@dataclass(frozen=True, slots=True)
class _Caches:
    """On one connection; each has a shelf of its own."""

    answers: Cache
    stale: Cache
    idempotency: Cache
    questions: QuestionVectors | None


@asynccontextmanager
async def _opened_caches(settings: ApiSettings, redis: RedisClient) -> AsyncIterator[_Caches]:
    bounds = Bounds(entry_bytes=settings.cache_entry_bytes, tenant_bytes=settings.cache_tenant_bytes)
    async with AsyncExitStack() as stack:
        line = ScriptLine(redis)
        stack.push_async_callback(line.close)

        def opened(bounds: Bounds, shelf: str = "") -> Cache:
            cache = Cache(line, bounds, shelf)
            stack.push_async_callback(cache.close)
            return cache

        vectors = opened(replace(bounds, patience_s=_VECTOR_PATIENCE_S), "vector:")
        yield _Caches(
            answers=opened(bounds),
            stale=opened(bounds, "stale:"),
            idempotency=opened(replace(bounds, entry_bytes=1024 * 1024), "idempotency:"),
            questions=QuestionVectors(vectors, settings.question_cache_s) if settings.question_cache_s else None,
        )


async def state_of(request: Request) -> AppState:
    """The state that the application's lifespan opened; a coroutine, since FastAPI calls what is none in a thread."""
    state: AppState = request.app.state.stoker
    return state


State = Annotated[AppState, Depends(state_of)]
