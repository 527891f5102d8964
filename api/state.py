"""What the gateway holds open while it runs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.answers.pipeline import Answerer
from api.keys import Keys
from api.settings import ApiSettings
from core.clock import Clock, SystemClock
from retrieval.open import Retrieval, open_retrieval
from router.config import load
from router.router import Router, open_router
from storage.objects import open_store
from storage.redis import RedisClient
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class AppState:
    """Opened by `open_state`, closed by it too; one for each worker."""

    settings: ApiSettings
    clock: Clock
    database: Database
    redis: RedisClient
    keys: Keys
    retrieval: Retrieval
    router: Router
    answerer: Answerer


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
        retrieval = await stack.enter_async_context(open_retrieval(settings, database, redis, objects))
        router = await stack.enter_async_context(open_router(load(settings.config, settings.local_deployments)))
        yield AppState(
            settings=settings,
            clock=clock,
            database=database,
            redis=redis,
            keys=Keys(database, clock),
            retrieval=retrieval,
            router=router,
            answerer=Answerer(retrieval, router, settings, clock),
        )


def state_of(request: Request) -> AppState:
    """The state that the application's lifespan opened."""
    state: AppState = request.app.state.stoker
    return state


State = Annotated[AppState, Depends(state_of)]
