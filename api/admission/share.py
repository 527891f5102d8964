"""What a worker may admit by itself while Redis is silent: its share of what the last answers said was left.

Rates and places are divided by the number of workers and rounded up to whole ones, so that a small limit does not shut
a caller out; money is rounded down, so that the shares of all workers never exceed what was left. Of a subject that no
answer told of, rates and places start full; the ledger tells of money that no answer of the last ten seconds told of.
"""

from dataclasses import replace

from api.admission.errors import Dimension
from api.admission.meters import Meter, Metered, metered
from api.admission.model import Book, Bucket, Counter, Missing, Outcome, Purse, Refused, period_of
from core.limits import Subject

_FRESH_MS = 10_000
_MOST_ANSWERS = 20_000
_NO_LEASE_MS = 10**12


class Share:
    """The shares of one worker.

    Args:
        workers: of all hosts together, at least 1.
    """

    def __init__(self, workers: int) -> None:
        self._workers = max(1, workers)
        self._answers: dict[Metered, tuple[int, tuple[int, ...]]] = {}
        self._told: dict[tuple[str, Dimension], tuple[int, int]] = {}
        self._book = Book()
        self._open: set[tuple[str, Dimension]] = set()

    @property
    def used(self) -> bool:
        """Whether anything was asked of it since it was last closed."""
        return bool(self._open)

    def tell(self, now_ms: int, wanted: Metered, left: tuple[int, ...]) -> None:
        """Keep what an answer of Redis said is left."""
        if len(self._answers) > _MOST_ANSWERS:
            self._answers.clear()
        self._answers[wanted] = (now_ms, left)  # on every request's way: what it says of whom is found out when needed

    def admit(
        self, now_ms: int, tenant_id: str, reservation_id: str, wanted: Metered, tokens: int, nano_usd: int
    ) -> Outcome:
        """Admit from the shares. `Missing` money is to be given with `load`."""
        if self._answers:
            self._read_answers()
        own = metered(tenant_id, tuple(self._divided(subject) for subject in wanted.subjects))
        for meter in own.meters:
            if (meter.key, meter.dimension) not in self._open:
                self._start(now_ms, meter)
        outcome = self._book.admit(now_ms, reservation_id, own, tokens, nano_usd, lease_ms=_NO_LEASE_MS)
        theirs = dict(zip(own.meters, wanted.meters, strict=True))
        if isinstance(outcome, Refused):
            return Refused(theirs[outcome.meter], outcome.wait_ms)
        if isinstance(outcome, Missing):
            return Missing(tuple(Counter(theirs[counter.meter], 0) for counter in outcome.counters))
        return outcome

    def load(self, now_ms: int, meter: Meter, spent_nano_usd: int) -> None:
        """Share what a budget has left by the ledger."""
        self._give_money(now_ms, meter, meter.limit - spent_nano_usd)

    def settle(self, now_ms: int, reservation_id: str, tokens: int, nano_usd: int) -> None:
        """End what was admitted here; nothing happens when the shares were closed meanwhile."""
        hold = self._book.holds.get(reservation_id)
        if hold is not None:
            self._book.settle(now_ms, reservation_id, hold.metered, tokens, nano_usd)

    def release(self, now_ms: int, reservation_id: str) -> None:
        """Give back what was admitted here; nothing happens when the shares were closed meanwhile."""
        self._book.release(now_ms, reservation_id)

    def close(self) -> None:
        """Redis answers again: the shares end, and what was used of them is charged there."""
        self._book = Book()
        self._told.clear()
        self._answers.clear()  # what they said is left has been given out
        self._open.clear()

    def _read_answers(self) -> None:
        """Of each meter, keep what the latest answer said."""
        for wanted, (told_ms, left) in self._answers.items():
            for meter, amount in zip(wanted.meters, left, strict=True):
                known = self._told.get((meter.key, meter.dimension))
                if known is None or known[0] <= told_ms:
                    self._told[meter.key, meter.dimension] = (told_ms, amount)
        self._answers.clear()

    def _divided(self, subject: Subject) -> Subject:
        """Rates are divided here; places and money, which do not refill, where they are started."""
        limits = subject.limits
        return replace(
            subject,
            limits=replace(
                limits,
                requests_per_minute=self._up(limits.requests_per_minute),
                burst=self._up(limits.burst),
                tokens_per_minute=self._up(limits.tokens_per_minute),
            ),
        )

    def _start(self, now_ms: int, meter: Meter) -> None:
        """Start a meter from what the last answer said; from a full one where there was none, but for money."""
        self._open.add((meter.key, meter.dimension))
        told_ms, left = self._told.get((meter.key, meter.dimension), (None, 0))
        if meter.dimension is Dimension.PARALLEL:
            places = meter.limit if told_ms is None else left
            self._book.parallel[meter.key] = meter.limit - -(-places // self._workers)
        elif told_ms is None:
            return
        elif meter.dimension.money:
            same_period = period_of(meter.dimension, told_ms) == period_of(meter.dimension, now_ms)
            if same_period and now_ms - told_ms <= _FRESH_MS:
                self._give_money(now_ms, meter, left)
        elif meter.window:
            used = meter.limit - left // self._workers
            self._book.windows[meter.key, meter.dimension] = {told_ms // 1000: used}
        else:
            self._book.buckets[meter.key, meter.dimension] = Bucket(left // self._workers, told_ms)

    def _give_money(self, now_ms: int, meter: Meter, left_nano_usd: int) -> None:
        share = max(0, left_nano_usd) // self._workers
        period = period_of(meter.dimension, now_ms)
        self._book.purses[meter.key, meter.dimension] = Purse(period, spent=meter.limit - share)

    def _up(self, bound: int | None) -> int | None:
        return None if bound is None else -(-bound // self._workers)
