"""An edge's application: what is around a request, in order, and its routes."""

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import TABLE, NotAuthenticated, answer_error, answer_http_error, answer_validation_error
from api.middleware import BodyLimitMiddleware, RecordMiddleware, UnexpectedMiddleware, answer
from core.clock import SystemClock
from edge.errors import FolderRefused
from edge.manifest import Manifest
from edge.routes import routes
from edge.settings import EdgeSettings, is_home
from edge.state import open_state
from router import errors as router_errors


class KeyMiddleware:
    """Lets those in who show the key; everybody may ask whether the edge lives.

    Args:
        key: None: everybody is let in.
    """

    def __init__(self, app: ASGIApp, key: SecretStr | None) -> None:
        self._app = app
        self._key = None if key is None else key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._key is not None and not scope["path"].startswith("/health"):
            headers = Headers(scope=scope)
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            text = shown.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
            if not hmac.compare_digest(text.encode(), self._key):
                await answer(
                    NotAuthenticated("send this edge's key: `Authorization: Bearer KEY`"), scope, receive, send
                )
                return
        await self._app(scope, receive, send)


class HostMiddleware:
    """Refuses browsers' pages of elsewhere: who needs no key is reached by this machine's own names alone.

    A page on the internet may have its own name lead to 127.0.0.1, and would then read all answers.
    """

    def __init__(self, app: ASGIApp, *, open_to_all: bool) -> None:
        self._app = app
        self._looks = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        looks = scope["type"] == "http" and self._looks
        if looks and not is_home(_hostname(Headers(scope=scope).get("host", ""))):
            await answer(NotAuthenticated("ask by 127.0.0.1, or serve with --key"), scope, receive, send)
            return
        await self._app(scope, receive, send)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def create_app(
    settings: EdgeSettings, manifest: Manifest, refused: Callable[[FolderRefused], None] = lambda _: None
) -> FastAPI:
    """Build what uvicorn serves.

    Args:
        refused: told why the folder is not served, where that shows only when it is opened.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_state(settings, manifest) as state:
                app.state.edge = state
                yield
        except FolderRefused as error:
            refused(error)
            raise

    app = FastAPI(
        title="Stoker edge",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(RecordMiddleware, clock=SystemClock()),
            Middleware(UnexpectedMiddleware),
            Middleware(HostMiddleware, open_to_all=settings.key is None),
            Middleware(KeyMiddleware, key=settings.key),
            Middleware(
                BodyLimitMiddleware, max_bytes=settings.max_json_bytes, max_upload_bytes=settings.max_json_bytes
            ),
        ],
        exception_handlers={
            **dict.fromkeys(TABLE, answer_error),
            router_errors.UpstreamRefused: answer_error,
            HTTPException: answer_http_error,
            RequestValidationError: answer_validation_error,
        },
    )
    app.include_router(routes)
    return app
