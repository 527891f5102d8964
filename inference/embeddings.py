"""The embedding and reranking server: `/v1/embeddings` and `/v1/rerank` over models of sentence-transformers.

`python -m inference.embeddings --model DIR_OR_NAME --served-model-name NAME --host H --port P`
"""

import asyncio
import math
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from inference.answers import embedding_list, ranking
from inference.batcher import Overloaded, Stopped
from inference.catalogue import Catalogue, open_catalogue
from inference.forms import EmbeddingForm, Refusal, RerankForm, check_texts, inputs, read
from inference.settings import EmbeddingSettings
from inference.tokens import TextTooLong, TokenUnknown
from monitoring.logs import configure_logs, logger

_log = logger(__name__)

_KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that none is closed while it is used

_CLIENT_LEFT = 499  # nobody reads it; it keeps the access log honest
Result = TypeVar("Result")


def build_app(settings: EmbeddingSettings, catalogue: Catalogue) -> FastAPI:
    """The server's application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_catalogue(catalogue, settings) as served:
            app.state.served = served
            yield

    app = FastAPI(title="Stoker embeddings", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        form = read(EmbeddingForm, await _body(request, settings.max_body_bytes))
        model = request.app.state.served.embedding(form.model)
        dimensions = model.dimensions_of(form.dimensions)
        work = model.embedder.embed(inputs(form.input, settings), form.input_type, form.truncate, dimensions)
        embedded = await _unless_client_leaves(request, work)
        if embedded is None:
            return Response(status_code=_CLIENT_LEFT)
        content = await embedding_list(embedded, model.name, packed=form.encoding_format == "base64")
        return Response(content, media_type="application/json")

    @app.post("/v1/rerank")
    async def rerank(request: Request) -> Response:
        form = read(RerankForm, await _body(request, settings.max_body_bytes))
        model = request.app.state.served.reranking(form.model)
        check_texts([form.query], "query", settings)
        check_texts(form.documents, "documents", settings)
        ranked = await _unless_client_leaves(request, model.reranker.rank(form.query, form.documents, form.truncate))
        if ranked is None:
            return Response(status_code=_CLIENT_LEFT)
        return _json({"id": f"rerank-{uuid.uuid4().hex}", "model": model.name, **ranking(ranked, form)})

    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        return _json({"object": "list", "data": request.app.state.served.entries()})

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app.exception_handler(Refusal)(_refused)
    app.exception_handler(TextTooLong)(_too_long)
    app.exception_handler(TokenUnknown)(_unknown_token)
    app.exception_handler(Overloaded)(_overloaded)
    app.exception_handler(Stopped)(_stopped)
    return app


async def _body(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Refusal(413, f"The body is larger than {limit} bytes: send fewer texts at once.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _unless_client_leaves(request: Request, work: Awaitable[Result]) -> Result | None:
    """Wait for the work; cancel it as soon as the client is gone, and then return None."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_client_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        leaving.cancel()
        working.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status_code=status, headers=headers, media_type="application/json")


def _error(
    status: int, message: str, kind: str, param: str | None = None, code: str | None = None, retry_after_s: float = 0
) -> Response:
    headers = {"Retry-After": str(math.ceil(retry_after_s))} if retry_after_s else None
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _error(error.status, str(error), "invalid_request_error", error.param, error.code)


async def _too_long(request: Request, error: Exception) -> Response:
    assert isinstance(error, TextTooLong)
    reranks = request.url.path == "/v1/rerank"
    param = "query" if error.index < 0 else "documents" if reranks else "input"
    which = f"`{param}`" if error.index < 0 else f"`{param}[{error.index}]`"
    remedy = "shorten it" if error.index < 0 else 'shorten it, or send "truncate": "END" or "START" to have it cut'
    message = f"{which} has {error.tokens} tokens and the model takes {error.most}: {remedy}."
    return _error(400, message, "invalid_request_error", param, "context_length_exceeded")


async def _unknown_token(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TokenUnknown)
    message = (
        f"`input[{error.index}]` holds the token id {error.token}; the model's go from 0 to {error.vocabulary - 1}."
    )
    return _error(400, message, "invalid_request_error", "input", "token_id_out_of_range")


async def _overloaded(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Overloaded)
    message = "Too many texts are waiting: try again after the time in Retry-After."
    return _error(429, message, "rate_limit_error", code="embedding_queue_full", retry_after_s=error.retry_after_s)


async def _stopped(_request: Request, _error_raised: Exception) -> Response:
    return _error(503, "The texts could not be computed: try again.", "api_error", retry_after_s=1)


def main() -> int:
    settings = EmbeddingSettings(_cli_parse_args=True)
    configure_logs("embeddings", settings.log_level)
    try:
        catalogue = Catalogue.load(settings)
    except (OSError, ValueError) as error:
        _log.error("a model could not be loaded", model=settings.model, error=str(error))
        return 1
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(settings, catalogue),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=settings.drain_s,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
