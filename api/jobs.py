"""/v1/jobs."""

from typing import Any

from fastapi import APIRouter

from api.identity import Caller
from api.state import State
from retrieval.jobs import Job

routes = APIRouter(prefix="/v1/jobs", tags=["Documents"])


@routes.get("/{job_id}")
async def get_job(job_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """How far a job is, document by document."""
    return _shown(await state.retrieval.jobs.get(principal, job_id))


@routes.delete("/{job_id}")
async def cancel_job(job_id: str, state: State, principal: Caller) -> dict[str, Any]:
    """Cancel what the job has not finished; documents that are ready stay."""
    await state.retrieval.jobs.cancel(principal, job_id)
    return _shown(await state.retrieval.jobs.get(principal, job_id))


def _shown(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "created_at": int(job.created_at),
        "documents": [
            {
                "id": document.id,
                "filename": document.filename,
                "status": document.status,
                "progress": document.progress,
                "error": document.error,
            }
            for document in job.documents
        ],
    }
