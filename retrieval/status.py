"""The states of a document on its way in."""

import enum


class Status(enum.StrEnum):
    """fetching where it must be, queued, the stages, then one of three ends. Chunking is told as a part of parsing."""

    FETCHING = "fetching"  # its bytes are still where its address says
    QUEUED = "queued"
    PARSING = "parsing"
    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Fault(enum.StrEnum):
    """Whose fault it is that a document failed: OpenAI's words for the last error of a vector store's file."""

    UNSUPPORTED = "unsupported_file"  # nobody reads this kind of file
    INVALID = "invalid_file"  # the kind is read, but not this one
    SERVER = "server_error"  # a part of ours


STAGES = (Status.PARSING, Status.CHUNKING, Status.EMBEDDING, Status.INDEXING)
UNFINISHED = (Status.FETCHING, Status.QUEUED, *STAGES)


class JobStatus(enum.StrEnum):
    """A job's state, which follows from its documents'."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def of_job(statuses: list[Status], listing: str | None = None) -> JobStatus:
    """What a job's documents say about it; succeeded means that all are ready.

    Args:
        listing: how far the list is whose documents come into the job; None: it has none.
    """
    if listing == "open":
        return JobStatus.RUNNING if statuses else JobStatus.QUEUED
    if listing == "failed":
        return JobStatus.RUNNING if any(status in UNFINISHED for status in statuses) else JobStatus.FAILED
    if listing == "cancelled" and not any(status in UNFINISHED for status in statuses):
        return JobStatus.CANCELLED
    if any(status in UNFINISHED for status in statuses):
        untouched = all(status in (Status.FETCHING, Status.QUEUED) for status in statuses)
        return JobStatus.QUEUED if untouched else JobStatus.RUNNING
    if any(status is Status.FAILED for status in statuses):
        return JobStatus.FAILED
    if any(status is Status.CANCELLED for status in statuses):
        return JobStatus.CANCELLED
    return JobStatus.SUCCEEDED
