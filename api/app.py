"""The application: what is around a request, in order, and every route."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api import (
    admin_audit,
    admin_cache,
    admin_keys,
    admin_limits,
    admin_teams,
    admin_tenants,
    admin_users,
    collections,
    daily_evals,
    documents,
    evals,
    exports,
    health,
    ingest,
    jobs,
    models,
    own_usage,
    query,
    search,
    usage,
)
from api.batches import routes as batches
from api.batches.runner import running as batches_running
from api.callers import IdentityMiddleware
from api.console.routes import console_routes
from api.conversations import routes as conversations
from api.deployments import routes as deployments
from api.engines import routes as engines
from api.errors import TABLE, answer_error, answer_http_error, answer_validation_error
from api.experiments import routes as experiments
from api.feedback import routes as feedback
from api.files import routes as files
from api.hooks import endpoint_routes as webhooks
from api.hooks import routes as hooks
from api.hot.door import EXPOSED_HEADERS, HotDoor
from api.hot.routes import ROUTES as HOT_ROUTES
from api.idempotency import IdempotencyDoor
from api.login import routes as login
from api.middleware import BodyLimitMiddleware, RecordMiddleware, UnexpectedMiddleware
from api.openapi import complete
from api.responses import routes as responses
from api.settings import ApiSettings
from api.sla import routes as sla
from api.sockets import routes as sockets
from api.state import open_state
from api.vectorstores import file_routes as store_files
from api.vectorstores import routes as vector_stores
from core.clock import SystemClock
from core.version import VERSION
from monitoring.logs import configure_logs
from monitoring.metrics import forget_dead
from monitoring.sentry import report_errors
from monitoring.tally import tally
from monitoring.tracing import traced
from router import errors as router_errors


def create_gateway() -> IdempotencyDoor:
    """Build what uvicorn serves, in each worker: the hot path, and the application behind it."""
    settings = ApiSettings()
    configure_logs("gateway", settings.log_level)
    report_errors("gateway", settings.error_reports())
    app = create_app(settings)
    door = IdempotencyDoor(HotDoor(app, settings), app.state, settings)
    _spare_the_collector()
    return door


def _spare_the_collector() -> None:
    """Have the garbage collector leave alone what lives as long as the process, and look less often at the rest.

    Modules alone are a million objects, which a full collection would walk while every request waits.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def create_app(settings: ApiSettings) -> FastAPI:
    """Build the application behind the hot path."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        forget_dead()
        with traced("gateway", **settings.tracing()):
            async with open_state(settings) as state, batches_running(state):
                app.state.stoker = state
                yield
        tally.flush()

    app = FastAPI(
        title="Stoker",
        version=VERSION,
        description="Your own GPUs as one OpenAI-compatible endpoint, with answers that can be checked.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own runs scripts of another host, at the origin where the console's session counts
        redoc_url=None,
        middleware=[
            Middleware(RecordMiddleware, clock=SystemClock()),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=list(EXPOSED_HEADERS),
            ),
            Middleware(UnexpectedMiddleware),
            Middleware(IdentityMiddleware),
            Middleware(
                BodyLimitMiddleware, max_bytes=settings.max_json_bytes, max_upload_bytes=settings.max_body_bytes
            ),
        ],
        exception_handlers={
            **dict.fromkeys(TABLE, answer_error),
            router_errors.UpstreamRefused: answer_error,
            HTTPException: answer_http_error,
            RequestValidationError: answer_validation_error,
        },
    )
    for room in (
        health,
        models,
        collections,
        documents,
        exports,
        ingest,
        jobs,
        hooks,
        search,
        evals,
        daily_evals,
        query,
        sockets,
        conversations,
        responses,
        batches,
        admin_keys,
        admin_tenants,
        admin_teams,
        admin_users,
        admin_limits,
        admin_audit,
        admin_cache,
        webhooks,
        deployments,
        engines,
        experiments,
        sla,
        usage,
        own_usage,
        feedback,
        files,
        vector_stores,
        store_files,
        login,
    ):
        app.include_router(room.routes)
    _know_model_routes(app)
    app.router.routes.extend(sockets.socket_routes())
    app.router.routes.extend(console_routes())
    return app


def _know_model_routes(app: FastAPI) -> None:
    """Have the application describe the routes that the hot path answers, and refuse other methods on them."""
    for path in HOT_ROUTES:
        app.router.routes.append(Route(path, _unreached, methods=["POST"]))
    described = app.openapi

    def openapi() -> dict[str, Any]:
        return complete(described())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


async def _unreached(_request: Request) -> Response:
    raise RuntimeError("a model request came past the hot path: serve `create_gateway`, not `create_app`")
