"""The application: what is around a request, in order, and every route."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api import admin_keys, chat, collections, documents, embeddings, health, ingest, jobs, models, query, search
from api.errors import TABLE, answer_error, answer_http_error, answer_validation_error
from api.middleware import BodyLimitMiddleware, RecordMiddleware
from api.settings import ApiSettings
from api.state import open_state
from core.clock import SystemClock
from monitoring.logs import configure_logs
from router import errors as router_errors

VERSION = "0.1.0"


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """Build the gateway; uvicorn calls it without arguments in each worker."""
    settings = settings or ApiSettings()
    configure_logs("gateway", settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_state(settings) as state:
            app.state.stoker = state
            yield

    app = FastAPI(
        title="Stoker",
        version=VERSION,
        description="Your own GPUs as one OpenAI-compatible endpoint, with answers that can be checked.",
        lifespan=lifespan,
        middleware=[
            Middleware(RecordMiddleware, clock=SystemClock()),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "retry-after", "x-stoker-ignored", "x-stoker-deployment"],
            ),
            Middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes),
        ],
        exception_handlers={
            **dict.fromkeys(TABLE, answer_error),
            router_errors.UpstreamRefused: answer_error,
            HTTPException: answer_http_error,
            RequestValidationError: answer_validation_error,
            Exception: answer_error,
        },
    )
    for room in (health, models, chat, embeddings, collections, documents, ingest, jobs, search, query, admin_keys):
        app.include_router(room.routes)
    return app
