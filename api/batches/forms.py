"""Batches, and the lines of their files, as OpenAI writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from api.batches.states import Status

_TIMES = """in_progress_at finalizing_at completed_at failed_at expires_at expired_at cancelling_at
cancelled_at""".split()

_UNANSWERED: Mapping[Status, tuple[str, str]] = {
    Status.EXPIRED: ("batch_expired", "This request could not be executed before the completion window ended."),
    Status.CANCELLED: ("batch_cancelled", "This request was not executed, since the batch was cancelled."),
    Status.FAILED: ("batch_failed", "This request was not executed, since the batch failed; its errors say why."),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its owner sees it. Times are seconds since 1970.

    Attributes:
        errors: why it failed, each `{"code", "line", "message", "param"}`.
        model: that all of its lines name; None: several, or not known yet.
        usage: of all lines that were answered so far.
    """

    id: str
    endpoint: str
    input_file_id: str
    output_file_id: str | None
    error_file_id: str | None
    completion_window: str
    metadata: dict[str, str] | None
    status: Status
    errors: list[dict[str, Any]] | None
    model: str | None
    total: int
    completed: int
    failed: int
    usage: dict[str, int] | None
    created_at: float
    in_progress_at: float | None
    finalizing_at: float | None
    completed_at: float | None
    failed_at: float | None
    expires_at: float
    expired_at: float | None
    cancelling_at: float | None
    cancelled_at: float | None


@dataclass(frozen=True, slots=True)
class LineUsage:
    """Tokens of one answer, as it says itself."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def of(cls, body: object) -> "LineUsage":
        """Read the answer of any endpoint; what is missing or no whole number counts as 0."""
        usage = _part(body, "usage")
        read, written = ("prompt", "completion") if _part(usage, "input_tokens") is None else ("input", "output")
        return cls(
            _count(usage, f"{read}_tokens"),
            _count(_part(usage, f"{read}_tokens_details"), "cached_tokens"),
            _count(usage, f"{written}_tokens"),
            _count(_part(usage, f"{written}_tokens_details"), "reasoning_tokens"),
        )

    def added_to(self, sum_: Mapping[str, int] | None) -> dict[str, int]:
        """The sum with this in it, as the batch's row holds it."""
        return {name: (sum_ or {}).get(name, 0) + getattr(self, name) for name in self.__slots__}


def shown(batch: Batch) -> dict[str, Any]:
    """The batch as clients see it."""
    errors = None if batch.errors is None else {"object": "list", "data": batch.errors}
    times = {name: getattr(batch, name) for name in _TIMES}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": int(batch.created_at),
        **{name: None if at_s is None else int(at_s) for name, at_s in times.items()},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": _shown_usage(batch.usage or {}),
        "metadata": batch.metadata,
    }


def request_id_of(batch_id: str, number: int, fence: int) -> str:
    """The name of one sending of a line, in the ledger and at the upstream; no other sending has it."""
    return f"{batch_id}-{number}-{fence}"


def answered(batch_id: str, number: int, custom_id: str, status: int, request_id: str, body: object) -> str:
    """A line of the output file, or, where the status is an error's, of the error file."""
    response = {"status_code": status, "request_id": request_id, "body": body}
    return _line(batch_id, number, custom_id, response, None)


def unanswered(batch_id: str, number: int, custom_id: str, ending: Status) -> str:
    """The line of the error file for a request that nobody answered before its batch ended."""
    code, message = _UNANSWERED[ending]
    return _line(batch_id, number, custom_id, None, {"code": code, "message": message})


def worn_out(batch_id: str, number: int, custom_id: str, attempts: int) -> str:
    """The line of the error file for a request at which worker after worker ended."""
    message = f"The gateway stopped {attempts} times at this request; its log may hold the reason."
    return _line(batch_id, number, custom_id, None, {"code": "attempts_exhausted", "message": message})


def _line(batch_id: str, number: int, custom_id: str, response: object, error: object) -> str:
    name = f"batch_req_{batch_id.partition('_')[2]}_{number}"  # the same, however often a file is written
    return orjson.dumps({"id": name, "custom_id": custom_id, "response": response, "error": error}).decode()


def _shown_usage(usage: Mapping[str, int]) -> dict[str, Any]:
    read, written = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
        "total_tokens": read + written,
    }


def _part(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _count(value: object, name: str) -> int:
    found = _part(value, name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0
