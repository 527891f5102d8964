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
from api.admission.share import Share
from core.limits import EVERYONE, Subject

Amounts = tuple[int, int]
"""Tokens and nano-USD of a request."""

_NEVER_MS = 1 << 62
_CLOCKS_APART_MS = 50


@dataclass(slots=True)
class _Pot:
    """One meter's part.

    Attributes:
        used: since the account was opened; of money, in the period. Reported, and never reset.
        busy: what requests under way may still use: their places, and their money.
        free: what the next request may take; below zero where a request was admitted without asking.
        taken: since the last beat.
        lately: the most that a beat took, halved with each beat.
        drawn: of requests and tokens, what was taken since the last report was written.
        left: of the whole, as the last answer said; `units`: of a bucket in 1/60000.
        told: of `used`, what the last answer had heard of.
    """

    used: int = 0
    busy: int = 0
    free: int = 0
    taken: int = 0
    lately: int = 0
    drawn: int = 0
    told: int = 0
    left: int = 0
    units: int = 0
    period: int = 0


_Parts = tuple[tuple[int, _Pot], ...]
"""The pots of a holding, each with the place of its dimension among all."""

_REQUESTS, _TOKENS, _PLACES = range(3)


@dataclass(slots=True, eq=False)
class Taken:
    """What one request took of a holding.

    Attributes:
        call: the last report that was written before.
        alone: the outage's share that admitted it, and under which name; or None.
    """

    holding: "Holding"
    parts: _Parts
    amounts: Amounts
    call: int
    alone: tuple[Share, str] | None = None

    def end(self, tokens: int, nano_usd: int, *, released: bool) -> None:
        """Keep what was used and have the rest for the next request; released: all of it, the request too.

        Requests and tokens that Redis was told of come back by the next report alone: their bucket has been refilling
        since, and they would be spent beside a full one.
        Money of a period that is over lies in a pot that nobody asks any more; money that was not limited when the
        request began, and is now, is reported all the same.
        """
        self.holding.running -= 1
        if self.parts is not self.holding.parts and not released:
            self.holding.report_late(self.parts, nano_usd)
        told = self.call != self.holding.calls
        for place, pot in self.parts:
            if place <= _TOKENS:
                back = self.amounts[0] - tokens if place == _TOKENS else int(released)
                pot.used -= back
                if not told:
                    pot.drawn -= back
                    pot.free += back
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
        self._heard_calls = 0  # the last call that was answered
        self.running = 0
        self.heard_ms: int | None = None  # when the last answer came; None: none has
        self.metered: Metered = metered(EVERYONE, ())
        self.parts: _Parts = ()
        self._pots: dict[Dimension, _Pot] = {}
        self._gone: dict[Dimension, Meter] = {}  # limits that were taken away, while something is held of them
        self._turns_ms = 0  # when the day or month of the money ends
        self.adapt(subject)

    def adapt(self, subject: Subject) -> None:
        """Limits that were changed hold from here on."""
        self._gone.update((meter.dimension, meter) for meter in self.metered.meters)
        self.subject = subject
        self.metered = metered(EVERYONE, (subject,))
        for meter in self.metered.meters:
            self._gone.pop(meter.dimension, None)
            self._pots.setdefault(meter.dimension, _Pot())
        self._turns_ms = 0
        self._collect()

    @property
    def idle(self) -> bool:
        """Whether nothing is held, nothing was taken lately, and Redis knows it."""
        pots = [self._pots[meter.dimension] for meter in self.meters]
        unheard = self._heard_calls != self.calls  # who knows what it was given
        return not (self.running or unheard) and not any(
            pot.busy or pot.free or pot.taken or pot.lately or pot.used != pot.told for pot in pots
        )

    def fits(self, now_ms: int, amounts: Amounts) -> bool:
        """Whether a request can be admitted from what is in hand."""
        self._turn(now_ms)
        asked = (1, amounts[0], 1, amounts[1], amounts[1])
        for place, pot in self.parts:  # noqa: SIM110  # on every request's way, where a generator costs as much again
            if pot.free < asked[place]:
                return False
        return True

    def take(self, now_ms: int, amounts: Amounts) -> Taken:
        """Take what a request asks for, whether or not it is in hand."""
        self._turn(now_ms)
        asked = (1, amounts[0], 1, amounts[1], amounts[1])
        self.running += 1
        for place, pot in self.parts:
            amount = asked[place]
            pot.free -= amount
            pot.taken += amount
            if place <= _TOKENS:
                pot.used += amount
                pot.drawn += amount
            else:
                pot.busy += amount
        return Taken(self, self.parts, amounts, self.calls)

    def report_late(self, parts: _Parts, nano_usd: int) -> None:
        """Money of a request that began before money was limited; `parts` is what it took."""
        counted = {place for place, _ in parts}
        for place, pot in self.parts:
            if place > _PLACES and place not in counted:
                pot.used += nano_usd

    @property
    def meters(self) -> tuple[Meter, ...]:
        """What calls report: the meters, then those that were taken away and of which something is still held."""
        return (*self.metered.meters, *self._gone.values())

    def could_fit(self, waiting: Iterable[Amounts]) -> list[bool]:
        """Who of those that wait would fit into what is in hand and what is left of the whole, the first ones first."""
        room = {place: pot.free + max(0, pot.left) for place, pot in self.parts}
        found = []
        for tokens, nano_usd in waiting:
            asked = (1, tokens, 1, nano_usd, nano_usd)
            fits = all(asked[place] <= rest for place, rest in room.items())
            found.append(fits)
            if fits:
                room = {place: rest - asked[place] for place, rest in room.items()}
        return found

    def ask(self, now_ms: int, waiting: Iterable[Amounts]) -> list[Want]:
        """What to report and want so that those who wait can go on; all that is in hand is kept."""
        self._turn(now_ms)
        some = list(waiting)
        wants = []
        for meter in self.metered.meters:
            pot = self._pots[meter.dimension]
            asked = sum(asked_of(meter, *amounts) for amounts in some)
            keep = max(0, pot.free)
            pot.drawn = 0
            wants.append(Want(pot.used, pot.busy + keep, max(0, asked - keep), max(pot.taken, pot.lately), pot.period))
        return wants + self._report_gone()

    def beat(self, now_ms: int) -> list[Want]:
        """What to report and want once a second: what no request took lately goes back, and is given up at once."""
        self._turn(now_ms)
        wants = []
        for meter in self.metered.meters:
            pot = self._pots[meter.dimension]
            pot.lately, pot.taken = max(pot.taken, pot.lately // 2), 0
            keep = max(0, min(pot.free, pot.lately, pot.left // 2))  # the less is left, the less is kept from others
            pot.free, pot.drawn = min(pot.free, keep), 0
            wants.append(Want(pot.used, pot.busy + keep, 0, pot.lately - keep, pot.period))
        return wants + self._report_gone()

    def last(self, now_ms: int) -> list[Want]:
        """What to report at the end: only what requests under way hold is kept."""
        self._turn(now_ms)
        self.give_up()
        pots = [self._pots[meter.dimension] for meter in self.metered.meters]
        for pot in pots:
            pot.drawn = 0
        return [Want(pot.used, pot.busy, 0, 0, pot.period) for pot in pots] + self._report_gone()

    def give_up(self) -> None:
        """Use nothing of what is in hand any more."""
        for pot in self._pots.values():
            pot.free = min(pot.free, 0)

    def heard(self, now_ms: int, meters: Sequence[Meter], wants: Sequence[Want], leases: Sequence[Lease]) -> bool:
        """Learn what is held now; what was used since the wants were written is used of it.

        Returns: whether day and month are the ones in which money was wanted; else a clock stands a little wrong at
            midnight, and the call is to be made again.
        """
        self.heard_ms, agreed = now_ms, True
        for meter, want, lease in zip(meters, wants, leases, strict=True):
            pot = self._pots[meter.dimension]
            left = lease.left or 0
            pot.left = left // MINUTE_MS if meter.dimension.rate else left
            pot.units = left
            if pot.period == want.period == lease.period:
                since = pot.drawn if meter.dimension.rate else pot.used - want.used
                pot.free, pot.told = lease.held - pot.busy - since, want.used
                if meter.dimension in self._gone and pot.busy == pot.free == lease.held == 0:
                    del self._gone[meter.dimension]
            elif pot.period == want.period:
                self._pots[meter.dimension] = _Pot(period=lease.period)
                agreed = False
        if not agreed:
            self._turns_ms = now_ms + _CLOCKS_APART_MS
            self._collect()
        else:
            self._heard_calls = self.calls
        return agreed

    def refusal(self, now_ms: int, amounts: Amounts) -> Refused:
        """Of what does not fit, that which opens last."""
        waits = [self._wait_ms(now_ms, meter, asked_of(meter, *amounts)) for meter in self.metered.meters]
        longest = max(1, *waits)  # at once, where somebody else took it first
        return Refused(self.metered.meters[waits.index(max(waits))], None if longest == math.inf else int(longest))

    def _wait_ms(self, now_ms: int, meter: Meter, asked: int) -> float:
        pot = self._pots[meter.dimension]
        if pot.free + max(0, pot.left) >= asked:
            return 0
        if asked > meter.limit or (meter.dimension.rate and meter.per_minute == 0):
            return math.inf
        if meter.dimension.rate:
            missing = (asked - pot.free) * MINUTE_MS - pot.units
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
            period, pot = period_of(dimension, now_ms), self._pots[dimension]
            if pot.period == 0:  # the limit is new, and what was used before this is of this period
                pot.period = period
            elif pot.period < period:
                self._pots[dimension] = _Pot(period=period)
        self._turns_ms = min((period_end_ms(dimension, now_ms) for dimension in money), default=_NEVER_MS)
        self._collect()

    def _collect(self) -> None:
        places = list(Dimension)
        pots = self._pots
        self.parts = tuple((places.index(meter.dimension), pots[meter.dimension]) for meter in self.metered.meters)

    def _report_gone(self) -> list[Want]:
        """Of limits that were taken away, only what requests under way hold is kept."""
        pots = [self._pots[dimension] for dimension in self._gone]
        for pot in pots:
            pot.free, pot.taken, pot.lately, pot.drawn = min(pot.free, 0), 0, 0, 0
        return [Want(pot.used, pot.busy, 0, 0, pot.period) for pot in pots]
