"""What is asked of admission, and what it gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from api.admission.holdings import Taken
from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE, Meter, Metered
from api.admission.model import MINUTE_MS, WINDOW_S
from core.limits import Subject


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants.

    Attributes:
        request_id: for whoever reads Redis; two requests may carry the same.
        subjects: everybody whose limits it falls under; pass the same tuple again where they are the same.
        tokens: upper bound of prompt and completion together.
        nano_usd: upper bound of its cost.
        key_id, generation: the key that was shown, as the worker knows it; None: not by a key.
        not_after_s: seconds since the Unix epoch by the worker's clock, after which it must not be admitted any more;
            None: the deadline of one call.
    """

    tenant_id: str
    request_id: str
    subjects: tuple[Subject, ...]
    tokens: int
    nano_usd: int
    key_id: str | None = None
    generation: int = 0
    not_after_s: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.tokens <= MAX_PER_MINUTE and 0 <= self.nano_usd <= MAX_NANO_USD):
            raise ValueError(f"no request uses {self.tokens} tokens and {self.nano_usd} nano-USD")


@dataclass(frozen=True, slots=True)
class Rate:
    """What is left for this caller: requests and tokens, each of the subject that has the fewest; None: no limit.
    What all tenants share is not told: it is nobody's alone, and would tell of others.

    `limit_...` is what may be used at once; `reset_..._s` are the seconds until all of it is there again, and
    `window_..._s` those in which all of it comes back.
    """

    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    window_requests_s: int | None = None
    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
    window_tokens_s: int | None = None


@dataclass(slots=True, eq=False)
class Reservation:
    """What admission holds for one request, until it is settled or released.

    Attributes:
        id: unlike any other's.
        taken: of limits that all tenants share.
        local: granted by the worker alone, while Redis was silent.
    """

    tenant_id: str
    id: str
    tokens: int
    nano_usd: int
    metered: Metered
    taken: Sequence[Taken] = ()
    left: tuple[int, ...] = ()
    local: bool = False
    ended: bool = field(default=False, init=False)

    @property
    def rate(self) -> Rate | None:
        """For the rate headers; None: no subject has a limit of requests or tokens."""
        metered = self.metered
        if not (metered.requests or metered.tokens):
            return None
        return Rate(*self._tightest(metered.requests), *self._tightest(metered.tokens))

    def _tightest(self, places: tuple[int, ...]) -> "_Quota":
        """Of the meters at these places, the one with the fewest left."""
        if not places:
            return _UNLIMITED
        meters, left = self.metered.meters, self.left
        fewest, tightest = math.inf, places[0]
        for at in places:
            remaining = left[at] if meters[at].window else left[at] // MINUTE_MS
            if remaining < fewest:
                fewest, tightest = remaining, at
        return _quota(meters[tightest], left[tightest])


_Quota = tuple[int | None, int | None, float | None, int | None]
_UNLIMITED: _Quota = (None, None, None, None)


def _quota(meter: Meter, left: int) -> _Quota:
    """Limit, remaining, seconds until it is full, and seconds for all of it."""
    if meter.window:
        remaining = max(0, left)
        return meter.limit, remaining, WINDOW_S if remaining < meter.limit else 0, 60
    missing = meter.limit * MINUTE_MS - left
    rate = meter.per_minute or math.inf  # what never refills has no time at which it is full
    return meter.limit, max(0, left // MINUTE_MS), missing / rate / 1000, max(1, math.ceil(meter.limit * 60 / rate))
