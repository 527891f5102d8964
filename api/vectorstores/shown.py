"""Vector stores, their files, batches and what was found, as OpenAI's objects."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from api.vectorstores.store import StoreFile, VectorStore
from retrieval.jobs import Job
from retrieval.search import Passage
from retrieval.status import UNFINISHED, Fault, Status

WORDS: Mapping[str, Sequence[Status]] = {
    "in_progress": UNFINISHED,
    "completed": (Status.READY,),
    "failed": (Status.FAILED,),
    "cancelled": (Status.CANCELLED,),
}
"""OpenAI's words for what becomes of a file. Completed is what searches find."""

_WORD = {status: word for word, statuses in WORDS.items() for status in statuses}


def store(one: VectorStore) -> dict[str, Any]:
    """`VectorStore`. A store is in progress while a file that the caller may read is."""
    counts = _counts(status for status, files in one.counted.files.items() for _ in range(files))
    working = "in_progress" if counts["in_progress"] else "completed"
    days = one.life.days
    return {
        "id": one.id,
        "object": "vector_store",
        "created_at": int(one.created_at),
        "name": one.name,
        "description": one.description,
        "usage_bytes": one.counted.usage_bytes,
        "file_counts": counts,
        "status": "expired" if one.over else working,
        "expires_after": None if days is None else {"anchor": "last_active_at", "days": days},
        "expires_at": None if one.life.ends_at is None else int(one.life.ends_at),
        "last_active_at": int(one.last_active_at),
        "metadata": {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in one.metadata.items()
        },
    }


def file(one: StoreFile) -> dict[str, Any]:
    """`VectorStoreFile`."""
    failed = one.status is Status.FAILED
    return {
        "id": one.id,
        "object": "vector_store.file",
        "created_at": int(one.created_at),
        "vector_store_id": one.store_id,
        "status": _WORD[one.status],
        "usage_bytes": one.usage_bytes,
        "last_error": {"code": one.fault or Fault.SERVER, "message": one.error or ""} if failed else None,
        "attributes": one.attributes,
        "chunking_strategy": {"type": "static", "static": one.cutting},
    }


def batch(job: Job) -> dict[str, Any]:
    """`VectorStoreFileBatch`: one of whose files some are ready is completed, and counts those that failed."""
    counts = _counts(one.status for one in job.documents)
    if counts["in_progress"]:
        status = "in_progress"
    elif counts["cancelled"]:
        status = "cancelled"
    else:
        status = "failed" if counts["failed"] == counts["total"] else "completed"
    return {
        "id": job.id,
        "object": "vector_store.files_batch",
        "created_at": int(job.created_at),
        "vector_store_id": job.collection_id,
        "status": status,
        "file_counts": counts,
    }


def content(text: str) -> dict[str, Any]:
    """The page of a file's parsed text, which is one piece."""
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": text}],
        "has_more": False,
        "next_page": None,
    }


def found(queries: Sequence[str], passages: Sequence[Passage], limit: int) -> dict[str, Any]:
    """The page of what a search has found. `has_more`: a larger `max_num_results` would give more."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(queries),
        "data": [_result(passage) for passage in passages[:limit]],
        "has_more": len(passages) > limit,
        "next_page": None,
    }


def _result(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.file_id or passage.document_id,
        "filename": passage.filename,
        "score": passage.score,
        "attributes": passage.metadata,
        "content": [{"type": "text", "text": passage.text}],
    }


def _counts(statuses: Iterable[Status]) -> dict[str, int]:
    counts = dict.fromkeys((*WORDS, "total"), 0)
    for status in statuses:
        counts[_WORD[status]] += 1
        counts["total"] += 1
    return counts
