"""The embedding server: OpenAI's `/v1/embeddings` over one sentence-transformers model.

`python -m inference.embeddings --model DIR_OR_NAME --served-model-name NAME --host H --port P`
"""

import asyncio
import base64
import math
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, ValidationError

from inference.embedder import Embedded, Embedder, EmbeddingOverloaded, EmbeddingStopped, open_embedder
from inference.encoder import Encoder
from inference.settings import EmbeddingSettings
from monitoring.logs import configure_logs, logger

_log = logger(__name__)

_CLIENT_LEFT = 499  # nobody reads it; it keeps the access log honest


class EmbeddingRequest(BaseModel):
    """The body of `/v1/embeddings`."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[str]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None  # OpenAI's, for abuse reports; nothing here uses it


class Refusal(Exception):
    """The request is the caller's to mend."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def build_app(settings: EmbeddingSettings, encoder: Encoder) -> FastAPI:
    """The server's application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            embedder = await stack.enter_async_context(
                open_embedder(encoder, settings.max_queue_tokens, settings.max_batch_tokens, settings.batch_s)
            )
            await embedder.embed(["ready?"])  # health means: it has really embedded a text
            app.state.embedder = embedder
            _log.info("ready", model=settings.served_model_name, dtype=encoder.dtype, dimensions=encoder.dimensions)
            yield

    app = FastAPI(title="Stoker embeddings", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> Response:
        embedder: Embedder = request.app.state.embedder
        wanted = _parsed(await _body(request, settings.max_body_bytes), settings)
        texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
        embedded = await _unless_client_leaves(request, embedder.embed(texts))
        if embedded is None:
            return Response(status_code=_CLIENT_LEFT)
        return _json(_answer(embedded, settings.served_model_name, wanted.encoding_format))

    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/v1/models")
    async def models() -> Response:
        entry = {
            "id": settings.served_model_name,
            "object": "model",
            "owned_by": "stoker",
            "dimensions": encoder.dimensions,
            "max_tokens": encoder.max_tokens,
            "dtype": encoder.dtype,
        }
        return _json({"object": "list", "data": [entry]})

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app.exception_handler(Refusal)(_refused)
    app.exception_handler(EmbeddingOverloaded)(_overloaded)
    app.exception_handler(EmbeddingStopped)(_stopped)
    return app


async def _body(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Refusal(413, f"The body is larger than {limit} bytes: send fewer texts at once.")
        chunks.append(chunk)
    return b"".join(chunks)


def _parsed(body: bytes, settings: EmbeddingSettings) -> EmbeddingRequest:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is not valid JSON: {error}.") from error
    if isinstance(data, dict) and data.pop("dimensions", None) is not None:
        raise Refusal(400, "This model's dimensions can't be chosen: leave `dimensions` out.", "dimensions")
    try:
        wanted = EmbeddingRequest.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = str(first["loc"][0]) if first["loc"] else None
        raise Refusal(400, f"`{param or 'body'}`: {first['msg']}.", param) from error
    if wanted.model not in (None, settings.served_model_name):
        raise Refusal(
            404,
            f"The model {wanted.model!r} is not served here, but {settings.served_model_name!r} is.",
            "model",
            "model_not_found",
        )
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    if not texts or not all(texts):
        raise Refusal(400, "`input` must hold at least one text, and no empty one.", "input")
    if len(texts) > settings.max_inputs:
        raise Refusal(400, f"`input` holds {len(texts)} texts; at most {settings.max_inputs} are taken.", "input")
    longest = max(map(len, texts))
    if longest > settings.max_input_characters:
        limit = settings.max_input_characters
        raise Refusal(400, f"A text has {longest} characters; at most {limit} are taken: cut it.", "input")
    return wanted


async def _unless_client_leaves(request: Request, work: Awaitable[Embedded]) -> Embedded | None:
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


def _answer(embedded: Embedded, model: str, encoding: str) -> dict[str, Any]:
    encode = _base64 if encoding == "base64" else _floats
    data = [
        {"object": "embedding", "index": index, "embedding": encode(row)} for index, row in enumerate(embedded.rows)
    ]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _base64(row: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def _floats(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return row  # orjson writes it


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def _error(
    status: int, message: str, kind: str, param: str | None = None, code: str | None = None, retry_after_s: float = 0
) -> Response:
    headers = {"Retry-After": str(math.ceil(retry_after_s))} if retry_after_s else None
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _error(error.status, str(error), "invalid_request_error", error.param, error.code)


async def _overloaded(_request: Request, error: Exception) -> Response:
    assert isinstance(error, EmbeddingOverloaded)
    message = "Too many texts are waiting: try again after the time in Retry-After."
    return _error(429, message, "rate_limit_error", code="embedding_queue_full", retry_after_s=error.retry_after_s)


async def _stopped(_request: Request, _error_raised: Exception) -> Response:
    return _error(503, "The texts could not be embedded: try again.", "api_error", retry_after_s=1)


def main() -> int:
    settings = EmbeddingSettings(_cli_parse_args=True)
    configure_logs("embeddings", settings.log_level)
    try:
        encoder = Encoder(settings.model, settings.device, settings.dtype, settings.threads)
    except (OSError, ValueError) as error:
        _log.error("the embedding model could not be loaded", model=settings.model, error=str(error))
        return 1
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(settings, encoder),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=settings.drain_s,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
