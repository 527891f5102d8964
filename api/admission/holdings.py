"""What a worker holds of a limit that all tenants share: requests take from it without asking anybody.

Pure: `leases.py` carries what is reported and wanted to Redis, where `common.py` says what happens to it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from api.admission.common import Lease, Want
from api.admission.errors import Dimension
from api.admission.meters import Meter, Metered, common_prefix, metered
from api.admission.model import MINUTE_MS, PARALLEL_RETRY_MS, Refused, asked_of, period_end_ms, period_of
from core.limits import EVERYONE, Subject

Amounts = tuple[int, int]
"""Tokens and nano-USD of a request."""

_NEVER_MS = 1 << 62


@dataclass(slots=True)
class _Pot:
    """One meter's part.

    Attributes:
        used: since the account was opened; of money, in the period. Reported, and never reset.
        busy: what requests under way may still use: their places, and their money.
        free: what the next request may take; below zero where a request was admitted without asking.
        taken: since the last beat.
        lately: the most that a beat took, halved with each beat.
        left: of the whole, as the last answer said.
    """

    used: int = 0
    busy: int = 0
    free: int = 0
    taken: int = 0
    lately: int = 0
    left: int = 0
    period: int = 0


_Parts = tuple[tuple[int, _Pot], ...]
"""The pots of a holding, each with the place of its dimension among all."""

_REQUESTS, _TOKENS, _PLACES = range(3)


@dataclass(slots=True, eq=False)
class Taken:
    """What one request took of a holding. `alone`: the name under which the outage's share admitted it, or None."""

    parts: _Parts
    amounts: Amounts
    alone: str | None = None

    def end(self, tokens: int, nano_usd: int, *, released: bool) -> None:
        """Keep what was used and have the rest for the next request; released: all of it, the request too.

        Money of a period that is over lies in a pot that nobody asks any more.
        """
        for place, pot in self.parts:
            if place == _REQUESTS:
                pot.used -= released
                pot.free += released
            elif place == _TOKENS:
                pot.used -= self.amounts[0] - tokens
                pot.free += self.amounts[0] - tokens
            elif place == _PLACES:
                pot.busy -= 1
                pot.free += 1
            else:
                pot.busy -= self.amounts[1]
                pot.used += nano_usd
                pot.free += self.amounts[1] - nano_usd


class Holding:
    """A worker's part of one common subject.

    Args:
        account: names it in Redis, unlike any other.
    """

    def __init__(self, subject: Subject, account: str) -> None:
        self.account = account
        self.prefix = common_prefix(subject)
        self.calls = 0
        self.metered: Metered
        self._pots: dict[Dimension, _Pot] = {}
        self._parts: _Parts = ()
        self._turns_ms = 0  # when the day or month of the money ends
        self.adapt(subject)

    def adapt(self, subject: Subject) -> None:
        """Limits that were changed hold from here on."""
        self.subject = subject
        self.metered = metered(EVERYONE, (subject,))
        for meter in self.metered.meters:
            self._pots.setdefault(meter.dimension, _Pot())
        self._turns_ms = 0
        self._collect()

    @property
    def idle(self) -> bool:
        """Whether nothing is held, and nothing was taken lately."""
        return not any(pot.busy or pot.free or pot.taken or pot.lately for pot in self._pots.values())

    def fits(self, now_ms: int, amounts: Amounts) -> bool:
        """Whether a request can be admitted from what is in hand."""
        self._turn(now_ms)
        asked = (1, amounts[0], 1, amounts[1], amounts[1])
        for place, pot in self._parts:  # noqa: SIM110  # on every request's way, where a generator costs as much again
            if pot.free < asked[place]:
                return False
        return True

    def take(self, now_ms: int, amounts: Amounts) -> Taken:
        """Take what a request asks for, whether or not it is in hand."""
        self._turn(now_ms)
        asked = (1, amounts[0], 1, amounts[1], amounts[1])
        for place, pot in self._parts:
            amount = asked[place]
            pot.free -= amount
            pot.taken += amount
            if place <= _TOKENS:
                pot.used += amount
            else:
                pot.busy += amount
        return Taken(self._parts, amounts)

    def ask(self, now_ms: int, waiting: Iterable[Amounts]) -> list[Want]:
        """What to report and want so that those who wait can go on; all that is in hand is kept."""
        self._turn(now_ms)
        some = list(waiting)
        wants = []
        for meter in self.metered.meters:
            pot = self._pots[meter.dimension]
            asked = sum(asked_of(meter, *amounts) for amounts in some)
            keep = max(0, pot.free)
            wants.append(Want(pot.used, pot.busy + keep, max(0, asked - keep), max(pot.taken, pot.lately), pot.period))
        return wants

    def beat(self, now_ms: int) -> list[Want]:
        """What to report and want once a second: what no request took lately goes back, and is given up at once."""
        self._turn(now_ms)
        wants = []
        for meter in self.metered.meters:
            pot = self._pots[meter.dimension]
            pot.lately, pot.taken = max(pot.taken, pot.lately // 2), 0
            left = pot.left // MINUTE_MS if meter.dimension.rate else pot.left
            keep = max(0, min(pot.free, pot.lately, left // 2))  # the less is left, the less is kept from others
            pot.free = min(pot.free, keep)
            wants.append(Want(pot.used, pot.busy + keep, 0, pot.lately - keep, pot.period))
        return wants

    def last(self, now_ms: int) -> list[Want]:
        """What to report at the end: only what requests under way hold is kept."""
        self._turn(now_ms)
        pots = [self._pots[meter.dimension] for meter in self.metered.meters]
        for pot in pots:
            pot.free = min(pot.free, 0)
        return [Want(pot.used, pot.busy, 0, 0, pot.period) for pot in pots]

    def heard(self, meters: Sequence[Meter], wants: Sequence[Want], leases: Sequence[Lease]) -> None:
        """Learn what is held now; what was used since the wants were written is used of it."""
        for meter, want, lease in zip(meters, wants, leases, strict=True):
            pot = self._pots[meter.dimension]
            pot.left = lease.left or 0
            if pot.period == want.period == lease.period:
                pot.free = lease.held - pot.busy - (pot.used - want.used)
            elif pot.period == want.period:  # a clock stands a little wrong at midnight
                self._pots[meter.dimension] = _Pot(period=lease.period)
                self._turns_ms = 0
                self._collect()

    def refusal(self, now_ms: int, amounts: Amounts) -> Refused:
        """Of what does not fit, that which opens last."""
        waits = [self._wait_ms(now_ms, meter, asked_of(meter, *amounts)) for meter in self.metered.meters]
        longest = max(waits)
        return Refused(self.metered.meters[waits.index(longest)], None if longest == math.inf else int(longest))

    def _wait_ms(self, now_ms: int, meter: Meter, asked: int) -> float:
        pot = self._pots[meter.dimension]
        if pot.free >= asked:
            return 0
        if asked > meter.limit or (meter.dimension.rate and meter.per_minute == 0):
            return math.inf
        if meter.dimension.rate:
            missing = (asked - pot.free) * MINUTE_MS - pot.left
            return max(1, -(-missing // meter.per_minute))
        if meter.dimension is Dimension.PARALLEL:
            return PARALLEL_RETRY_MS
        return period_end_ms(meter.dimension, now_ms) - now_ms

    def _turn(self, now_ms: int) -> None:
        """Money begins anew with its day or month."""
        if now_ms < self._turns_ms:
            return
        money = [meter.dimension for meter in self.metered.meters if meter.dimension.money]
        for dimension in money:
            period = period_of(dimension, now_ms)
            if self._pots[dimension].period < period:
                self._pots[dimension] = _Pot(period=period)
        self._turns_ms = min((period_end_ms(dimension, now_ms) for dimension in money), default=_NEVER_MS)
        self._collect()

    def _collect(self) -> None:
        places = list(Dimension)
        pots = self._pots
        self._parts = tuple((places.index(meter.dimension), pots[meter.dimension]) for meter in self.metered.meters)
