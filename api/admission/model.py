"""Admission as a pure state machine: what the Lua scripts must do, and what a worker does alone while Redis is silent.

Time is an argument, in whole milliseconds since 1970. Amounts are whole. A reservation takes from every meter of its
subjects at once or from none; it ends by being settled, released, or overdue.
"""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from api.admission.errors import BudgetReached, Dimension, LimitReached
from api.admission.meters import Meter, Metered

MINUTE_MS = 60_000
WINDOW_S = 61
"""A sliding minute has one slot for each second: sixty whole ones and the one under way."""
PARALLEL_RETRY_MS = 1_000
DONE_MS = 600_000
SLACK_MS = 1_000
"""By so much a worker may misjudge the server's clock."""
OVERDUE_AT_ONCE = 16

_DAY_MS = 86_400_000
_EPOCH = datetime.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Granted:
    """Admitted. `left` holds for each meter what is left of it; of a bucket in 1/60000."""

    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Not admitted: `meter` is the one that opens last, after `wait_ms`, or never (None)."""

    meter: Meter
    wait_ms: int | None

    def error(self) -> LimitReached:
        """What the caller is told."""
        kind = BudgetReached if self.meter.dimension.money else LimitReached
        wait_s = None if self.wait_ms is None else self.wait_ms / 1000
        return kind(self.meter.subject, self.meter.dimension, self.meter.limit, wait_s)


@dataclass(frozen=True, slots=True)
class Late:
    """The call came after its `not_after`."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The key has a later generation."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Money whose sum is not known. `late`: what was settled since it is not, in nano-USD."""

    meter: Meter
    late: int


@dataclass(frozen=True, slots=True)
class Missing:
    """Money has to be loaded first."""

    counters: tuple[Counter, ...]


Outcome = Granted | Refused | Late | Stale | Missing


@dataclass(frozen=True, slots=True)
class Load:
    """What the ledger says was spent in a period, asked for after `Missing` had said `late`."""

    meter: Meter
    period: int
    late: int
    nano_usd: int


@dataclass(slots=True)
class Bucket:
    """What is left, in 1/60000, at a time."""

    units: int
    at_ms: int

    def units_at(self, now_ms: int, meter: Meter) -> int:
        grown = self.units + meter.per_minute * max(0, now_ms - self.at_ms)
        return min(meter.limit * MINUTE_MS, grown)


@dataclass(slots=True)
class Purse:
    """Money of one period: held by reservations, spent (None: ask the ledger), and settled since the period began.

    Attributes:
        loaded_ms: when the ledger was asked last.
        forgot: an answer of the ledger counts if it was asked for when at least so much had been settled.
        doubt: some may be counted twice: the ledger is asked before this refuses anybody.
    """

    period: int
    held: int = 0
    spent: int | None = None
    late: int = 0
    loaded_ms: int = 0
    doubt: bool = False
    forgot: int = 0

    def forget(self) -> None:
        """Have the ledger asked anew; an answer that is on its way does not count."""
        self.spent = None
        self.late += 1
        self.forgot = self.late

    def settle(self, nano_usd: int, *, doubt: bool) -> None:
        """Count what was used."""
        self.late += nano_usd
        if self.spent is not None:
            self.spent += nano_usd
            self.doubt |= doubt


@dataclass(slots=True)
class _Hold:
    metered: Metered
    second: int
    tokens: int
    nano_usd: int
    lease_end_ms: int
    periods: dict[Dimension, int]
    adopted_ms: int | None


@dataclass(slots=True)
class Book:
    """All counters and reservations of tenants."""

    buckets: dict[tuple[str, Dimension], Bucket] = field(default_factory=dict)
    windows: dict[tuple[str, Dimension], dict[int, int]] = field(default_factory=dict)
    parallel: dict[str, int] = field(default_factory=dict)
    purses: dict[tuple[str, Dimension], Purse] = field(default_factory=dict)
    holds: dict[str, _Hold] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def admit(
        self,
        now_ms: int,
        reservation_id: str,
        metered: Metered,
        tokens: int,
        nano_usd: int,
        *,
        lease_ms: int,
        not_after_ms: int | None = None,
        key: tuple[str, int] | None = None,
        loads: Sequence[Load] = (),
    ) -> Outcome:
        """Check everything, then take everything. A reservation that is already there is granted as it is."""
        if not_after_ms is not None and now_ms > not_after_ms:
            return Late()
        if key is not None and self.generations.get(key[0], key[1]) > key[1]:
            return Stale()
        if not metered.meters:
            return Granted(())
        self.return_overdue(now_ms, OVERDUE_AT_ONCE)
        for load in loads:
            self._load(now_ms, load)
        known = reservation_id in self.holds
        if not known:
            asked = [asked_of(meter, tokens, nano_usd) for meter in metered.meters]
            if missing := self._missing(now_ms, metered, nano_usd, loads):
                return Missing(missing)
            waits = [self._wait(now_ms, meter, ask) for meter, ask in zip(metered.meters, asked, strict=True)]
            longest = max(waits)
            if longest > 0:
                meter = metered.meters[waits.index(longest)]
                return Refused(meter, None if longest == math.inf else int(longest))
            self._take(now_ms, reservation_id, metered, tokens, nano_usd, lease_ms, adopted_ms=None)
        return Granted(tuple(self._left(now_ms, meter) for meter in metered.meters))

    def adopt(
        self,
        now_ms: int,
        reservation_id: str,
        metered: Metered,
        tokens: int,
        nano_usd: int,
        *,
        admitted_ms: int,
        lease_ms: int,
    ) -> None:
        """Take without asking what was admitted elsewhere; nothing happens when it is there or has ended."""
        if not metered.meters:
            return
        self.return_overdue(now_ms, OVERDUE_AT_ONCE)
        if reservation_id not in self.holds and self.done.get(reservation_id, 0) <= now_ms:
            self._take(now_ms, reservation_id, metered, tokens, nano_usd, lease_ms, adopted_ms=admitted_ms)

    def settle(self, now_ms: int, reservation_id: str, metered: Metered, tokens: int, nano_usd: int) -> bool:
        """Keep what was used and give back the rest. Returns: whether the reservation was there.

        Of an adopted one the money may stand in the ledger since before that was asked, and of one that was not there
        nobody knows whether it was counted: what was spent is in doubt then.
        """
        hold = self._take_out(now_ms, reservation_id)
        if hold is None:
            for meter in metered.meters:
                if meter.dimension.money:
                    self._purse(now_ms, meter).settle(nano_usd, doubt=True)
            return False
        self._give_back_shared(hold)
        for meter in hold.metered.meters:
            if meter.dimension is Dimension.TOKENS:
                self._give_back_rate(now_ms, meter, hold.second, hold.tokens - tokens)
            elif meter.dimension.money and (purse := self._purse_of(hold, meter)):
                adopted_ms = hold.adopted_ms
                doubt = adopted_ms is not None and purse.loaded_ms >= adopted_ms - SLACK_MS
                purse.settle(nano_usd, doubt=doubt)
        return True

    def release(self, now_ms: int, reservation_id: str) -> None:
        """Give everything back, the request too."""
        hold = self._take_out(now_ms, reservation_id)
        if hold is not None:
            self._give_back_shared(hold)
            for meter in hold.metered.meters:
                if meter.dimension.rate:
                    self._give_back_rate(now_ms, meter, hold.second, asked_of(meter, hold.tokens, 0))

    def renew(self, now_ms: int, reservation_id: str, lease_ms: int) -> bool:
        """Prolong a lease. Returns: whether the reservation was there."""
        hold = self.holds.get(reservation_id)
        if hold is not None:
            hold.lease_end_ms = now_ms + lease_ms
        return hold is not None

    def return_overdue(self, now_ms: int, most: int) -> int:
        """End overdue reservations, the oldest first. Their request and tokens may have been used, and are kept."""
        overdue = sorted((hold.lease_end_ms, name) for name, hold in self.holds.items() if hold.lease_end_ms <= now_ms)
        for _, name in overdue[:most]:
            self._give_back_shared(self.holds.pop(name))
        return len(overdue[:most])

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what subjects have spent, so that it is loaded anew."""
        for (key, _), purse in self.purses.items():
            if key in keys:
                purse.forget()

    def bump(self, key_id: str, generation: int) -> None:
        """Raise a key's generation; it never falls."""
        self.generations[key_id] = max(generation, self.generations.get(key_id, generation))

    def _load(self, now_ms: int, load: Load) -> None:
        if load.period == period_of(load.meter.dimension, now_ms):
            purse = self._purse(now_ms, load.meter)
            if load.late >= purse.forgot and (purse.spent is None or purse.doubt):
                purse.spent = load.nano_usd + max(0, purse.late - load.late)
                purse.loaded_ms = now_ms
                purse.doubt = purse.late > load.late

    def _missing(self, now_ms: int, metered: Metered, nano_usd: int, loads: Sequence[Load]) -> tuple[Counter, ...]:
        """What has to be asked of the ledger; what a call brought is not asked again, even if it is in doubt."""
        told = {(load.meter.key, load.meter.dimension, load.period) for load in loads}
        found = []
        for meter in metered.meters:
            if meter.dimension.money:
                purse = self._current(now_ms, meter)
                asked = (meter.key, meter.dimension, period_of(meter.dimension, now_ms)) in told
                short = self._left(now_ms, meter) < nano_usd
                if purse.spent is None or (purse.doubt and short and not asked):
                    found.append(Counter(meter, purse.late))
        return tuple(found)

    def _left(self, now_ms: int, meter: Meter) -> int:
        """What the meter has left, as `Granted` has it."""
        if meter.dimension.money:
            purse = self._current(now_ms, meter)
            return meter.limit - (purse.spent or 0) - purse.held
        if meter.dimension is Dimension.PARALLEL:
            return meter.limit - self.parallel.get(meter.key, 0)
        if meter.window:
            return meter.limit - sum(self._slots(now_ms, meter).values())
        bucket = self.buckets.get((meter.key, meter.dimension))
        return meter.limit * MINUTE_MS if bucket is None else bucket.units_at(now_ms, meter)

    def _wait(self, now_ms: int, meter: Meter, asked: int) -> float:
        """Milliseconds until the meter has room, if nobody else asks; infinite: never; 0: it has."""
        left = self._left(now_ms, meter)
        bucket = meter.dimension.rate and not meter.window
        need = asked * MINUTE_MS if bucket else asked
        if left >= need:
            return 0
        if asked > meter.limit or (bucket and meter.per_minute == 0):
            return math.inf
        if bucket:
            return -(-(need - left) // meter.per_minute)
        if meter.dimension is Dimension.PARALLEL:
            return PARALLEL_RETRY_MS
        if meter.dimension.money:
            return period_end_ms(meter.dimension, now_ms) - now_ms
        over = need - left
        for second, count in sorted(self._slots(now_ms, meter).items()):
            over -= count
            if over <= 0:
                return (second + WINDOW_S) * 1000 - now_ms
        return 0

    def _take(
        self,
        now_ms: int,
        reservation_id: str,
        metered: Metered,
        tokens: int,
        nano_usd: int,
        lease_ms: int,
        *,
        adopted_ms: int | None,
    ) -> None:
        for meter in metered.meters:
            asked = asked_of(meter, tokens, nano_usd)
            if meter.dimension.money:
                self._purse(now_ms, meter).held += asked
            elif meter.dimension is Dimension.PARALLEL:
                self.parallel[meter.key] = self.parallel.get(meter.key, 0) + 1
            elif meter.window:
                slots = self._slots(now_ms, meter)
                slots[now_ms // 1000] = slots.get(now_ms // 1000, 0) + asked
                self.windows[meter.key, meter.dimension] = slots
            else:
                old = self.buckets.get((meter.key, meter.dimension))
                since_ms = now_ms if old is None else max(now_ms, old.at_ms)
                units = self._left(now_ms, meter) - asked * MINUTE_MS
                self.buckets[meter.key, meter.dimension] = Bucket(units, since_ms)
        periods = {dimension: period_of(dimension, now_ms) for dimension in Dimension if dimension.money}
        self.holds[reservation_id] = _Hold(
            metered,
            now_ms // 1000,
            tokens,
            nano_usd,
            now_ms + lease_ms,
            {**dict.fromkeys(Dimension, 0), **periods},
            adopted_ms,
        )

    def _take_out(self, now_ms: int, reservation_id: str) -> _Hold | None:
        hold = self.holds.pop(reservation_id, None)
        if hold is not None and hold.adopted_ms is not None:
            self.done[reservation_id] = now_ms + DONE_MS
        return hold

    def _give_back_shared(self, hold: _Hold) -> None:
        """The place and the money, which go back however a reservation ends."""
        for meter in hold.metered.meters:
            if meter.dimension is Dimension.PARALLEL:
                self.parallel[meter.key] -= 1
            elif meter.dimension.money and (purse := self._purse_of(hold, meter)):
                purse.held -= hold.nano_usd

    def _give_back_rate(self, now_ms: int, meter: Meter, second: int, unused: int) -> None:
        if not meter.window:
            self.buckets[meter.key, meter.dimension].units += unused * MINUTE_MS
        elif second in self._slots(now_ms, meter):
            self.windows[meter.key, meter.dimension][second] -= unused

    def _slots(self, now_ms: int, meter: Meter) -> dict[int, int]:
        slots = self.windows.get((meter.key, meter.dimension), {})
        return {second: count for second, count in slots.items() if second > now_ms // 1000 - WINDOW_S}

    def _purse_of(self, hold: _Hold, meter: Meter) -> Purse | None:
        """The money of the period in which the reservation was made; None: that period is over, and nobody asks."""
        purse = self.purses[meter.key, meter.dimension]
        return purse if purse.period == hold.periods[meter.dimension] else None

    def _current(self, now_ms: int, meter: Meter) -> Purse:
        """The money of this period, for reading."""
        purse = self.purses.get((meter.key, meter.dimension))
        period = period_of(meter.dimension, now_ms)
        return purse if purse is not None and purse.period == period else Purse(period)

    def _purse(self, now_ms: int, meter: Meter) -> Purse:
        """The money of this period, kept from here on."""
        purse = self._current(now_ms, meter)
        self.purses[meter.key, meter.dimension] = purse
        return purse


def period_of(dimension: Dimension, now_ms: int) -> int:
    """The number of a day since 1970, or of a month since year 0, in UTC."""
    day = now_ms // _DAY_MS
    if dimension is Dimension.USD_DAY:
        return day
    date = datetime.date.fromordinal(_EPOCH + day)
    return date.year * 12 + date.month - 1


def period_name(dimension: Dimension, period: int) -> str:
    """`2026-11-21` or `2026-11`."""
    if dimension is Dimension.USD_DAY:
        return datetime.date.fromordinal(_EPOCH + period).isoformat()
    return f"{period // 12:04}-{period % 12 + 1:02}"


def period_end_ms(dimension: Dimension, now_ms: int) -> int:
    """When the day or month ends in which `now_ms` lies."""
    if dimension is Dimension.USD_DAY:
        return (now_ms // _DAY_MS + 1) * _DAY_MS
    following = period_of(dimension, now_ms) + 1
    return (datetime.date(following // 12, following % 12 + 1, 1).toordinal() - _EPOCH) * _DAY_MS


def asked_of(meter: Meter, tokens: int, nano_usd: int) -> int:
    """What a request of so many tokens and so much money takes of a meter."""
    if meter.dimension.money:
        return nano_usd
    return tokens if meter.dimension is Dimension.TOKENS else 1
