"""The states of a batch and of a line, and which may follow which."""

import enum
from collections.abc import Mapping
from typing import Any


class Status(enum.StrEnum):
    """Of a batch, in OpenAI's words."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Nothing follows."""
        return not FOLLOWING[self]


class LineStatus(enum.StrEnum):
    """Of a line; what is still queued when its batch ends was never answered."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


# A file that cannot be read ends its batch at once; from a batch whose lines were sent there is always something to
# write down first.
FOLLOWING: Mapping[Status, frozenset[Status]] = {
    Status.VALIDATING: frozenset({Status.IN_PROGRESS, Status.FAILED, Status.CANCELLING}),
    Status.IN_PROGRESS: frozenset({Status.FINALIZING, Status.CANCELLING}),
    Status.FINALIZING: frozenset({Status.COMPLETED, Status.EXPIRED, Status.FAILED}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.CANCELLED: frozenset(),
}
ON_PAPER = (Status.VALIDATING, Status.FINALIZING, Status.CANCELLING)
"""Somebody has to read the file, or to write down what came out."""


def before(status: Status) -> list[Status]:
    """The states that it may follow."""
    return [one for one, following in FOLLOWING.items() if status in following]


def reached(status: Status, now_s: float) -> dict[str, Any]:
    """What a batch's row says when it gets there."""
    values: dict[str, Any] = {"status": status, f"{status}_at": now_s}
    return values | {"ended_at": now_s} if status.ended else values
