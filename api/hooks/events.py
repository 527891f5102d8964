"""What is told of a job that has ended: its documents and their states, never what is in them."""

import datetime
import enum
from typing import Any

import orjson

from core.clock import Clock
from retrieval.status import JobStatus

_MOST_DOCUMENTS = 1000


class Event(enum.StrEnum):
    """How a job may end."""

    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"


OF_STATUS = {
    JobStatus.SUCCEEDED: Event.SUCCEEDED,
    JobStatus.FAILED: Event.FAILED,
    JobStatus.CANCELLED: Event.CANCELLED,
}


def body_of(event: Event, job_id: str, status: JobStatus, documents: list[dict[str, Any]], clock: Clock) -> str:
    """The body of a delivery, as it is signed; of very many documents the first ones."""
    moment = datetime.datetime.fromtimestamp(clock.time(), datetime.UTC).isoformat(timespec="seconds")
    data = {
        "job_id": job_id,
        "status": status,
        "documents": documents[:_MOST_DOCUMENTS],
        "documents_left_out": max(0, len(documents) - _MOST_DOCUMENTS),
    }
    return orjson.dumps({"type": event, "timestamp": moment.replace("+00:00", "Z"), "data": data}).decode()
