"""The ways in which the exact provider fails."""

import enum
from dataclasses import dataclass


class Fault(enum.Enum):
    """What happens instead of an answer. Those with a token number in them happen before that token is sent."""

    REFUSE = "nothing listens"
    RESET = "reset right after accept"
    TLS_CLOSE = "closed in the TLS handshake"
    FLAP = "up for 0.3 s, down for 0.3 s"
    STALL = "headers never come"
    LATE = "the first token comes too late"
    DRIP = "one byte at a time"
    STALL_MID = "silent in the middle"
    CUT = "reset in the middle"
    CLOSE = "connection closed in the middle"
    END = "an orderly end in the middle"
    NO_DONE = "whole, but without [DONE]"
    ERROR_FIRST = "200 with an error at once"
    ERROR_MID = "error event in the middle"
    GARBAGE_FIRST = "200 with malformed JSON at once"
    GARBAGE_MID = "malformed JSON in the middle"
    WRONG_TYPE = "200 with a web page"
    EMPTY = "200 with nothing"
    LIMIT_429 = "429 with Retry-After"
    LIMIT_429_BARE = "429 without Retry-After"
    ERROR_500 = "500"
    BUSY_503 = "503 with Retry-After"
    BUSY_529 = "529"
    NO_PREFILL = "refuses to continue a message"
    LYING_USAGE = "absurd usage"
    NO_USAGE = "no usage"


OF_CONNECTIONS = frozenset({Fault.REFUSE, Fault.RESET, Fault.TLS_CLOSE, Fault.FLAP})
"""They meet whole connections, so no single request can be told to fail so."""

IN_THE_MIDDLE = frozenset({Fault.STALL_MID, Fault.CUT, Fault.CLOSE, Fault.END, Fault.ERROR_MID, Fault.GARBAGE_MID})
"""They break an answer that has begun."""

HARMLESS = frozenset({Fault.DRIP, Fault.NO_DONE, Fault.NO_PREFILL, Fault.LYING_USAGE, Fault.NO_USAGE})
"""The answer comes whole all the same."""

STREAMS_ONLY = frozenset({Fault.NO_DONE, Fault.ERROR_MID, Fault.GARBAGE_MID})
"""An answer in one piece has no such place."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A fault and where it happens.

    Attributes:
        at: tokens sent before a fault in the middle.
        late_s: how long `LATE` takes.
    """

    fault: Fault
    at: int = 3
    late_s: float = 2.0
