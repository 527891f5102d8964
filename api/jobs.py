"""/v1/jobs."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.errors import describe
from api.identity import Caller
from api.state import AppState, State
from core.dependency import DependencyError
from core.principal import Principal
from retrieval.errors import JobNotFound
from retrieval.jobs import Job, JobDocument
from retrieval.status import JobStatus

routes = APIRouter(prefix="/v1/jobs", tags=["Documents"])

_LOOK_S = 0.25
_KEEPALIVE_LOOKS = 40  # a comment every ten seconds, so that nobody on the way takes the stream for dead
_PATIENCE_LOOKS = 240  # a minute without SQL


@routes.get("/{job_id}")
async def get_job(job_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """How far a job is, document by document."""
    return _shown(await state.retrieval.jobs.get(principal, job_id))


@routes.get("/{job_id}/events", response_class=StreamingResponse)
async def follow_job(job_id: str, state: State, principal: Caller) -> StreamingResponse:
    """Each change of a document as it comes (`document`), and the whole job when it has ended (`job`)."""
    first = await state.retrieval.jobs.get(principal, job_id)
    return StreamingResponse(
        _events(state, principal, first), headers={"cache-control": "no-cache"}, media_type="text/event-stream"
    )


@routes.post("/{job_id}/retry")
async def retry_job(job_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Try again what failed or was cancelled, where nothing newer has come."""
    return _shown(await state.retrieval.jobs.retry(principal, job_id))


@routes.delete("/{job_id}")
async def cancel_job(job_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Cancel what the job has not finished; documents that are ready stay."""
    return _shown(await state.retrieval.jobs.cancel(principal, job_id))


async def _events(state: AppState, principal: Principal, job: Job) -> AsyncIterator[bytes]:
    told: dict[str, JobDocument] = {}
    looks = missed = 0
    while True:
        changed = [document for document in job.documents if told.get(document.id) != document]
        for document in changed:
            told[document.id] = document
            yield _event("document", _document(document))
        if job.status not in (JobStatus.QUEUED, JobStatus.RUNNING):
            yield _event("job", _shown(job))
            return
        looks = 0 if changed else looks + 1
        if looks >= _KEEPALIVE_LOOKS:
            looks = 0
            yield b": waiting\n\n"
        await asyncio.sleep(_LOOK_S)
        try:
            job = await state.retrieval.jobs.get(principal, job.id)
            missed = 0
        except DependencyError as error:
            missed += 1
            if missed >= _PATIENCE_LOOKS:
                yield _failed(error)
                return
        except JobNotFound as error:  # its collection was deleted
            yield _failed(error)
            return


def _failed(error: Exception) -> bytes:
    return _event("error", describe(error)[1])


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


def _shown(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "created_at": int(job.created_at),
        "documents": [_document(document) for document in job.documents],
        **({} if job.listing is None else {"listing": asdict(job.listing)}),
    }


def _document(document: JobDocument) -> dict[str, Any]:
    return {
        "id": document.id,
        "filename": document.filename,
        "status": document.status,
        "progress": document.progress,
        "error": document.error,
    }
