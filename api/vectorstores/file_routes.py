"""/v1/vector_stores/{id}/files and /file_batches."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response

from api.errors import RequestInvalid
from api.identity import Caller
from api.paging import After, Limit, whole_page
from api.state import AppState, State
from api.vectorstores import requests, shown
from api.vectorstores.routes import Before, Order
from api.vectorstores.turning import Turn
from core.ids import is_id
from core.principal import Principal
from retrieval.called import CollectionId
from retrieval.errors import JobNotFound
from retrieval.jobs import Job

routes = APIRouter(prefix="/v1/vector_stores/{store_id}", tags=["Vector stores"])

_POLL = {"openai-poll-after-ms": "500"}  # SDKs ask again so soon, instead of after their own second

Filter = Annotated[
    Literal["in_progress", "completed", "failed", "cancelled"] | None, Query(description="Only those that are so.")
]


async def _turn(after: After = None, before: Before = None, limit: Limit = 20, order: Order = "desc") -> Turn:
    for param, cursor in (("after", after), ("before", before)):
        if cursor is not None and not (is_id(cursor, "file") or is_id(cursor, "doc")):
            raise RequestInvalid(f"{param} is the id of an item of this list", param)
    return Turn(limit, order == "desc", after, before)


Turning = Annotated[Turn, Depends(_turn)]


@routes.post("/files")
async def attach_file(store_id: str, asked: requests.NewStoreFile, state: State, principal: Caller) -> dict[str, Any]:
    """Attach a file; it is searchable once its status is completed. One that is there is taken in anew."""
    await state.vector_stores.named(principal, store_id)
    await state.attaching.attach(principal, CollectionId(store_id), [asked.attachment()])
    return shown.file(await state.vector_stores.file(principal, store_id, asked.file_id))


@routes.get("/files")
async def list_store_files(
    store_id: str, state: State, principal: Caller, turn: Turning, filter: Filter = None
) -> dict[str, Any]:
    """The store's files that the caller may read, those that came by /v1/ingest too."""
    statuses = () if filter is None else shown.WORDS[filter]
    page = await state.vector_stores.files(principal, store_id, turn, statuses)
    return whole_page(page.items, shown.file, has_more=page.has_more)


@routes.get("/files/{file_id}")
async def get_store_file(
    store_id: str, file_id: str, state: State, principal: Caller, response: Response
) -> dict[str, Any]:
    """One file of a store."""
    response.headers.update(_POLL)
    return shown.file(await state.vector_stores.file(principal, store_id, file_id))


@routes.post("/files/{file_id}")
async def change_store_file(
    store_id: str, file_id: str, asked: requests.StoreFileChange, state: State, principal: Caller
) -> dict[str, Any]:
    """Give a file other attributes; the next request goes by them."""
    attributes = requests.check_attributes(asked.attributes, "attributes")
    known = await state.vector_stores.file(principal, store_id, file_id)
    await state.retrieval.documents.change(principal, CollectionId(store_id), known.document_id, metadata=attributes)
    return shown.file(await state.vector_stores.file(principal, store_id, file_id))


@routes.delete("/files/{file_id}")
async def detach_file(store_id: str, file_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Take a file out of a store; the file itself stays."""
    known = await state.vector_stores.file(principal, store_id, file_id)
    await state.retrieval.documents.delete(principal, CollectionId(store_id), known.document_id)
    return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


@routes.get("/files/{file_id}/content")
async def get_store_file_content(store_id: str, file_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """The text that searches find passages of."""
    known = await state.vector_stores.file(principal, store_id, file_id)
    text = await state.retrieval.documents.content(principal, CollectionId(store_id), known.document_id)
    return shown.content(text)


@routes.post("/file_batches")
async def attach_files(store_id: str, asked: requests.NewBatch, state: State, principal: Caller) -> dict[str, Any]:
    """Attach up to 2,000 files."""
    wanted = asked.attachments()
    await state.vector_stores.named(principal, store_id)
    accepted = await state.attaching.attach(principal, CollectionId(store_id), wanted)
    return shown.batch(await _batch(state, principal, store_id, accepted.job_id))


@routes.get("/file_batches/{batch_id}")
async def get_batch(
    store_id: str, batch_id: str, state: State, principal: Caller, response: Response
) -> dict[str, Any]:
    """How far a batch is."""
    response.headers.update(_POLL)
    return shown.batch(await _batch(state, principal, store_id, batch_id))


@routes.post("/file_batches/{batch_id}/cancel")
async def cancel_batch(store_id: str, batch_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Cancel what a batch has not finished; files that are completed stay."""
    await _batch(state, principal, store_id, batch_id)
    return shown.batch(await state.retrieval.jobs.cancel(principal, batch_id))


@routes.get("/file_batches/{batch_id}/files")
async def list_batch_files(
    store_id: str, batch_id: str, state: State, principal: Caller, turn: Turning, filter: Filter = None
) -> dict[str, Any]:
    """The files of a batch that the caller may read."""
    await _batch(state, principal, store_id, batch_id)
    statuses = () if filter is None else shown.WORDS[filter]
    page = await state.vector_stores.files_of_batch(principal, store_id, batch_id, turn, statuses)
    return whole_page(page.items, shown.file, has_more=page.has_more)


async def _batch(state: AppState, principal: Principal, store_id: str, batch_id: str) -> Job:
    """The job of a batch of this store. Raises: CollectionNotFound, JobNotFound."""
    await state.vector_stores.named(principal, store_id)
    if not is_id(batch_id, "job"):
        raise JobNotFound(batch_id)
    job = await state.retrieval.jobs.get(principal, batch_id)
    if job.collection_id != store_id:
        raise JobNotFound(batch_id)
    return job
