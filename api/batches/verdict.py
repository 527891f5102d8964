"""What an answer means for its line: it stands, or the line waits, or it is tried again."""

from dataclasses import dataclass

from api.batches.sending import Reply

_UNSAID_S = 5.0  # where nobody says how long to wait
_LONGEST_REST_S = 60.0  # limits are raised, and engines come back, before they said
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Stands:
    """The answer goes into the output, or into the error file."""


@dataclass(frozen=True, slots=True)
class Rests:
    """A limit, a budget or overload: nothing was used, and nothing is wrong with the line."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Again:
    """An upstream or a guard failed; the next one, or the same a little later, may not."""

    seconds: float


Verdict = Stands | Rests | Again


def judge(reply: Reply, attempt: int, attempts: int) -> Verdict:
    """Say what becomes of a line.

    Args:
        attempt: the one that was answered, counted from 1.
        attempts: that a line has.
    """
    waits = reply.retry_after_s
    if reply.status == 429 and waits is not None:  # without a time it fits no limit however long it waits
        return Rests(min(waits, _LONGEST_REST_S))
    if reply.status == 503 and reply.code != "guard_failed":  # that is about this one line, and may be so for ever
        return Rests(min(_UNSAID_S if waits is None else waits, _LONGEST_REST_S))
    if reply.status == 401:  # its key ended in this moment: the next look at it says so
        return Rests(1.0)
    if reply.status >= 500 and attempt < attempts:
        return Again(min(2.0**attempt, _LONGEST_PAUSE_S))
    return Stands()
