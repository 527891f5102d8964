"""The routes of an edge: those of the gateway that a folder can answer, in the same shapes."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from api.answers.asked import QueryRequest
from api.answers.showing import as_sse
from api.errors import describe
from api.paging import After, Limit, page
from api.record import record_of
from api.search_form import SearchRequest, shown
from edge.asking import Told
from edge.index import Shelved
from edge.library import HOLDER
from edge.state import State
from monitoring.logs import logger

routes = APIRouter()
_log = logger(__name__)

Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


@routes.get("/health")
@routes.get("/health/live")
@routes.get("/health/ready")
async def health(state: State) -> dict[str, Any]:
    """What is served; it answers once all of it is loaded."""
    return {
        "status": "ok",
        "collection": state.collection.name,
        "version": state.manifest.collection["version"],
        "documents": state.manifest.documents,
        "chunks": state.index.chunks,
        "embedding_model": state.manifest.models["embedding"],
        "dtype": state.dtype,
        "llm": state.manifest.models.get("llm"),
        "central": None if state.central is None else state.central.state,
    }


@routes.post("/v1/search", response_model=None)
async def search(asked: SearchRequest, state: State) -> Response:
    """Find the passages nearest to a question, best first."""
    return JSONResponse(shown(await state.library.searcher.search(HOLDER, asked.asked())))


@routes.post("/v1/query", response_model=None)
async def query(asked: QueryRequest, request: Request, state: State) -> Response:
    """Answer from the folder's documents, or have a central gateway answer."""
    events = state.asking.ask(asked, record_of(request).request_id)
    first = await anext(events)  # what is wrong with the question itself keeps its status
    if asked.stream:
        headers = {"cache-control": "no-cache"}
        return StreamingResponse(_streamed(first, events), headers=headers, media_type="text/event-stream")
    return JSONResponse(await _last(first, events))


@routes.get("/v1/collections")
async def list_collections(state: State, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The one collection."""
    return page([_described(state)] if after is None else [], limit, dict)


@routes.get("/v1/collections/{name}")
async def get_collection(name: str, state: State) -> dict[str, Any]:
    """The collection."""
    state.collection.require(name)
    return _described(state)


@routes.get("/v1/collections/{name}/documents")
async def list_documents(name: str, state: State, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The documents that were exported."""
    state.collection.require(name)
    later = [one for one in state.library.documents.live() if after is None or one.id > after]
    return page(later[: limit + 1], limit, _shown)


@routes.get("/v1/collections/{name}/documents/{document_id}")
async def get_document(name: str, document_id: str, state: State) -> dict[str, Any]:
    """One document."""
    state.collection.require(name)
    return _shown(state.library.documents.get(document_id))


@routes.get("/v1/collections/{name}/documents/{document_id}/content", response_class=PlainTextResponse)
async def get_content(name: str, document_id: str, state: State, version: Version = None) -> str:
    """The normalised text: `start` and `end` of passages and citations count its characters."""
    return await state.library.documents.content(HOLDER, name, document_id, version)


@routes.get("/v1/models")
async def list_models(state: State) -> dict[str, Any]:
    """The model that writes, where there is one."""
    llm = state.manifest.models.get("llm")
    models = [] if llm is None else [{"id": llm, "object": "model", "created": 0, "owned_by": "stoker"}]
    return {"object": "list", "data": models}


def _described(state: State) -> dict[str, Any]:
    about = {**state.manifest.collection, "object": "collection", "documents": state.manifest.documents}
    return {name: value for name, value in about.items() if name not in _OWN}


_OWN = ("kind", "format", "prompt", "answering", "average_terms", "readers", "reindex")


def _shown(document: Shelved) -> dict[str, Any]:
    return {
        "id": document.id,
        "object": "document",
        "filename": document.filename,
        "status": "ready",
        "version": document.version,
        "metadata": document.metadata,
    }


async def _last(first: Told, events: AsyncGenerator[Told, None]) -> dict[str, Any]:
    name, data = first
    async with aclosing(events):
        async for name, data in events:  # noqa: B007
            pass
    if name != "done":
        raise RuntimeError("an answer ends with done")
    return data


async def _streamed(first: Told, events: AsyncGenerator[Told, None]) -> AsyncIterator[bytes]:
    try:
        async with aclosing(events):
            yield as_sse(*first)
            async for one in events:
                yield as_sse(*one)
    except Exception as error:
        _log.error("an answer broke off", exc_info=error)
        yield as_sse("error", describe(error)[1])
