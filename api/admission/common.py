"""Limits that all tenants share, leased to workers, as a pure state machine: what `lease.lua` must do.

The whole of such a limit lies in a keyspace of its own. Each worker has an account there, through which it reports what
it used, keeps what it needs, and asks for more; so a request is admitted from what its worker holds, and the sum of all
that is held never exceeds the limit. The account of a silent worker ends with its lease.

For each dimension an account holds `held`: what requests under way may still use and what the worker has in hand. Used
requests and tokens leave a bucket for good, used money is spent, a place is held until it is free again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from api.admission.errors import Dimension
from api.admission.meters import Meter
from api.admission.model import (
    MINUTE_MS,
    OVERDUE_AT_ONCE,
    SLACK_MS,
    Bucket,
    Counter,
    Late,
    Load,
    Missing,
    Purse,
    period_of,
)


@dataclass(frozen=True, slots=True)
class Want:
    """What a worker reports and wants of one meter, in requests, tokens, places or nano-USD.

    Attributes:
        used: since its account was opened; of money, in `period`. Of tokens it may fall, when some come back.
        floor: what it keeps: all that requests under way may still use, and more if it likes.
        need: what waiting requests lack beyond that.
        spare: what it would like in hand beyond that.
        period: the day or month of the money, as `period_of` has it; 0 for other meters.
    """

    used: int
    floor: int
    need: int = 0
    spare: int = 0
    period: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """What an account holds of one meter now.

    Attributes:
        left: what nobody holds; of a bucket in 1/60000. None: money of which the ledger was not asked.
        period: of the money; where it is not the one in which the worker asked, nothing was counted.
    """

    held: int
    left: int | None
    period: int = 0


@dataclass(frozen=True, slots=True)
class Leased:
    """One lease for each meter."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Old:
    """The account has made a later call, so this one was not heeded."""


Reply = Leased | Late | Old | Missing


@dataclass(slots=True)
class _Account:
    call: int = 0
    lease_end_ms: int = 0
    held: dict[Dimension, int] = field(default_factory=dict)
    used: dict[Dimension, int] = field(default_factory=dict)
    periods: dict[Dimension, int] = field(default_factory=dict)
    told_ms: dict[Dimension, int] = field(default_factory=dict)  # when it last reported money


@dataclass(slots=True)
class Whole:
    """The limits of one subject that all tenants share."""

    held: dict[Dimension, int] = field(default_factory=lambda: dict.fromkeys(Dimension, 0))
    buckets: dict[Dimension, Bucket] = field(default_factory=dict)
    purses: dict[Dimension, Purse] = field(default_factory=dict)
    accounts: dict[str, _Account] = field(default_factory=dict)

    def lease(
        self,
        now_ms: int,
        account_id: str,
        call: int,
        meters: Sequence[Meter],
        wants: Sequence[Want],
        *,
        known: bool,
        lease_ms: int,
        not_after_ms: int,
        loads: Sequence[Load] = (),
    ) -> Reply:
        """Count what was used, take back what is not kept, and give what is needed; then some spare.

        Where a need can't be met nothing is given at all, so that who asks for too much keeps nothing from others; the
        answer says what there is. Of what is left beyond all needs an account gets at most half its even part, so that
        the last of it goes to whoever asks for it.

        Args:
            known: whether the account has been answered before.
        """
        if now_ms > not_after_ms:
            return Late()
        self.return_overdue(now_ms, OVERDUE_AT_ONCE)
        account = self.accounts.get(account_id)
        if account is not None and call <= account.call:
            return Old()
        if account is None:
            account = self._open(now_ms, account_id, meters, wants, known=known)
        for load in loads:
            self._load(now_ms, load)
        told = {(load.meter.dimension, load.period) for load in loads}
        asked = [self._count(now_ms, account, meter, want) for meter, want in zip(meters, wants, strict=True)]
        account.call, account.lease_end_ms = call, now_ms + lease_ms
        missing = [
            Counter(meter, self.purses[meter.dimension].late)
            for meter, want in zip(meters, asked, strict=True)
            if meter.dimension.money and want.need and self._unknown(now_ms, account, meter, want, told)
        ]
        pairs = list(zip(meters, asked, strict=True))
        short = any(want.need > max(0, self._pool(now_ms, account, meter, want)) for meter, want in pairs)
        leases = [self._give(now_ms, account, *pair, nothing=short or bool(missing)) for pair in pairs]
        return Missing(tuple(missing)) if missing else Leased(tuple(leases))

    def return_overdue(self, now_ms: int, most: int) -> int:
        """End overdue accounts, the oldest first. Requests and tokens that they held may have been used, and are gone;
        of money the ledger is asked what they spent.
        """
        ends = sorted((one.lease_end_ms, name) for name, one in self.accounts.items() if one.lease_end_ms <= now_ms)
        for _, name in ends[:most]:
            account = self.accounts.pop(name)
            for dimension, held in account.held.items():
                if not dimension.money:
                    self.held[dimension] -= held
                elif held and (purse := self.purses[dimension]).period == account.periods[dimension]:
                    purse.held -= held
                    purse.forget()
        return len(ends[:most])

    def forget(self) -> None:
        """Drop what was spent, so that it is loaded anew."""
        for purse in self.purses.values():
            purse.forget()

    def left(self, now_ms: int, meter: Meter) -> int:
        """What nobody holds; of a bucket in 1/60000."""
        if meter.dimension.money:
            purse = self._purse(now_ms, meter)
            return meter.limit - (purse.spent or 0) - purse.held
        held = self.held[meter.dimension]
        if meter.dimension is Dimension.PARALLEL:
            return meter.limit - held
        most = (meter.limit - held) * MINUTE_MS
        bucket = self.buckets.get(meter.dimension)
        if bucket is None:
            return most
        return min(most, bucket.units + meter.per_minute * max(0, now_ms - bucket.at_ms))

    def _open(
        self, now_ms: int, account_id: str, meters: Sequence[Meter], wants: Sequence[Want], *, known: bool
    ) -> _Account:
        """A new account, in which all that its worker used counts; or one that was lost, whose reports were heard up to
        a point that nobody knows: of its money the ledger knows, and an answer that is on its way may miss some.
        """
        account = self.accounts[account_id] = _Account()
        for meter, want in zip(meters, wants, strict=True):
            account.used[meter.dimension] = want.used if known else 0
            if meter.dimension.money:
                account.periods[meter.dimension] = want.period
                if known and want.used:
                    purse = self._purse(now_ms, meter)
                    purse.spent = None
                    purse.late += want.used
        return account

    def _load(self, now_ms: int, load: Load) -> None:
        purse = self._purse(now_ms, load.meter)
        if load.period == purse.period and load.late >= purse.forgot and (purse.spent is None or purse.doubt):
            purse.spent = load.nano_usd + max(0, purse.late - load.late)
            purse.loaded_ms = now_ms
            purse.doubt = purse.late > load.late

    def _count(self, now_ms: int, account: _Account, meter: Meter, want: Want) -> Want:
        """Count what was used since the last call. Returns: what is wanted in the current period."""
        dimension = meter.dimension
        if not dimension.money:
            used = want.used - account.used.get(dimension, want.used)
            account.used[dimension] = want.used
            if dimension.rate:  # of what it held it has used so much: taken from the bucket for good
                self._put_bucket(now_ms, meter, self.left(now_ms, meter))
                self._hold(account, meter, account.held.get(dimension, 0) - used)
            return want
        purse = self._purse(now_ms, meter)
        if account.periods.get(dimension, want.period) != purse.period:
            account.held[dimension] = account.used[dimension] = 0
        account.periods[dimension] = purse.period
        if want.period != purse.period:
            purse.forget()  # whatever it has not reported is in the ledger
            account.used[dimension] = 0
            return Want(0, 0, period=purse.period)
        told_ms = account.told_ms.get(dimension, 0)
        account.told_ms[dimension] = now_ms
        used = want.used - account.used.get(dimension, 0)
        account.used[dimension] = want.used
        if used:
            purse.settle(used, doubt=purse.loaded_ms >= told_ms - SLACK_MS)
            self._hold(account, meter, account.held.get(dimension, 0) - used)
        return want

    def _unknown(
        self, now_ms: int, account: _Account, meter: Meter, want: Want, told: set[tuple[Dimension, int]]
    ) -> bool:
        """Whether the ledger has to be asked: it was not, or there is too little by a sum that may be too large."""
        purse = self._purse(now_ms, meter)
        short = self._pool(now_ms, account, meter, want) < want.need
        return purse.spent is None or (purse.doubt and short and (meter.dimension, purse.period) not in told)

    def _pool(self, now_ms: int, account: _Account, meter: Meter, want: Want) -> int:
        """What is there for needs and spare if the account keeps its floor; below zero where that is too much."""
        units = MINUTE_MS if meter.dimension.rate else 1
        back = account.held.get(meter.dimension, 0) - want.floor
        return (self.left(now_ms, meter) + back * units) // units

    def _give(self, now_ms: int, account: _Account, meter: Meter, want: Want, *, nothing: bool) -> Lease:
        dimension = meter.dimension
        pool = max(0, self._pool(now_ms, account, meter, want))
        given = 0 if nothing else want.need
        if not nothing and not (dimension.money and self._purse(now_ms, meter).spent is None):
            given += min(want.spare, (pool - given) // (2 * len(self.accounts)))
        units = self.left(now_ms, meter) + (account.held.get(dimension, 0) - want.floor - given) * MINUTE_MS
        self._hold(account, meter, want.floor + given)
        if dimension.rate:
            self._put_bucket(now_ms, meter, units)
        if not dimension.money:
            return Lease(want.floor + given, self.left(now_ms, meter))
        unknown = self._purse(now_ms, meter).spent is None
        return Lease(want.floor + given, None if unknown else self.left(now_ms, meter), want.period)

    def _hold(self, account: _Account, meter: Meter, held: int) -> None:
        """Have an account hold so much."""
        more = held - account.held.get(meter.dimension, 0)
        account.held[meter.dimension] = held
        if meter.dimension.money:
            self.purses[meter.dimension].held += more
        else:
            self.held[meter.dimension] += more

    def _put_bucket(self, now_ms: int, meter: Meter, units: int) -> None:
        old = self.buckets.get(meter.dimension)
        self.buckets[meter.dimension] = Bucket(units, now_ms if old is None else max(now_ms, old.at_ms))

    def _purse(self, now_ms: int, meter: Meter) -> Purse:
        """The money of this period."""
        period = period_of(meter.dimension, now_ms)
        purse = self.purses.get(meter.dimension)
        if purse is None or purse.period != period:
            purse = self.purses[meter.dimension] = Purse(period)
        return purse
