"""Workers that lease limits which all tenants share, with calls that get lost, workers that die, and time that passes.

What was admitted is reckoned a second time here, and checked against the limits after each step.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from api.admission.common import Lease, Leased, Reply, Want, Whole
from api.admission.errors import Dimension
from api.admission.holdings import Amounts, Holding, Taken
from api.admission.meters import Meter, metered
from api.admission.model import MINUTE_MS, Load, Missing, period_of
from core.limits import EVERYONE, Limits, Subject, SubjectKind

START_MS = 1_790_000_000_123
MIDNIGHT_MS = 1_798_761_600_000  # and a year's end
LEASE_MS = 60_000
STEPS = 400
ALL = Limits(
    requests_per_minute=30,
    burst=20,
    tokens_per_minute=3_000,
    parallel=6,
    nano_usd_per_day=900,
    nano_usd_per_month=1_200,
)
SOME = [
    ALL,
    Limits(requests_per_minute=30, burst=20),
    Limits(tokens_per_minute=3_000),
    Limits(parallel=6),
    Limits(nano_usd_per_day=900, nano_usd_per_month=1_200),
]


def model(limits: Limits) -> Subject:
    return Subject(SubjectKind.MODEL, "m", limits, common=True)


@dataclass
class Sent:
    """A call under way: what was written, and, once the whole has heard of it, what it says.

    `back`: requests and tokens that had come back by then, since the worker began.
    """

    number: int
    meters: Sequence[Meter]
    wants: Sequence[Want]
    known: bool
    not_after_ms: int
    back: tuple[int, int]
    leases: tuple[Lease, ...] | None = None


@dataclass
class Worker:
    """`back`: requests and tokens that came back and were not kept, since it began; `told`: what of it was heard."""

    holding: Holding
    heard_ms: int
    running: list[Taken] = field(default_factory=list)
    sent: Sent | None = None
    back: tuple[int, int] = (0, 0)
    told: tuple[int, int] = (0, 0)


class Refills:
    """A bucket to which unused amounts come back, and which is never more than full: what a limit of requests or
    tokens means. What a worker does not keep for its next request comes back when the whole hears of it.
    """

    def __init__(self, limit: int, per_minute: int) -> None:
        self.limit, self.per_minute, self.units = limit, per_minute, limit * MINUTE_MS

    def wait(self, ms: int) -> None:
        self.units = min(self.limit * MINUTE_MS, self.units + ms * self.per_minute)

    def take(self, amount: int) -> None:
        """Below zero: so much comes back."""
        self.units = min(self.limit * MINUTE_MS, self.units - amount * MINUTE_MS)


class Walk:
    """Workers that lease from one whole, and requests that they admit.

    Steps are of weighted chance: those that hypothesis chooses are too even to come near a limit.

    Args:
        new_whole: makes one that holds nothing.
    """

    def __init__(self, seed: int = 0, new_whole: Callable[[], Whole] = Whole) -> None:
        self.new_whole = new_whole
        self.random = random.Random(seed)
        self.now_ms = self.random.choice([START_MS, MIDNIGHT_MS - 5_000])
        self.whole = new_whole()
        self.workers: list[Worker] = []
        self.opened = 0
        self.straying: list[tuple[Worker, Sent]] = []
        self.died_ms = 0
        self.admitted_ms: dict[Taken, int] = {}
        self.limits = self.random.choice(SOME)
        self.changes = self.random.random() < 0.3
        self.changed: set[str] = set()  # limits that were taken away at times, and so are not kept at all times
        self.requests, self.tokens = Refills(20, 30), Refills(3_000, 3_000)
        self.ledger: dict[tuple[Dimension, int], int] = {}
        self.done: Counter[str] = Counter()
        for _ in range(self.random.randint(1, 3)):
            self.hire()

    def walk(self) -> None:
        """Take many steps, then end everything."""
        steps: list[tuple[Callable[[], None], float]] = [
            (self.ask, 40),
            (self.settle, 14),
            (self.wait, 10),
            (self.send, 12),
            (self.arrive, 14),
            (self.answer, 14),
            (self.lose, 2),
            (self.arrive_late, 2),
            (self.release, 2),
            (self.die, 0.5),
            (self.restart, 0.2),
            (self.change_limits, 4 if self.changes else 0),
        ]
        for step in self.random.choices([step for step, _ in steps], [weight for _, weight in steps], k=STEPS):
            step()
            self.check()
        self.end_all()

    def hire(self) -> None:
        self.opened += 1
        self.workers.append(Worker(Holding(model(self.limits), f"w{self.opened}"), self.now_ms))

    def wait(self) -> None:
        ms = self.random.choice([0, 10, 300, 1_000, 1_000, 1_500, 20_000])
        self.now_ms += ms
        self.requests.wait(ms)
        self.tokens.wait(ms)
        for worker in self.workers:  # a worker that lives is heard before its lease ends
            if self.now_ms - worker.heard_ms > LEASE_MS - 30_000:
                worker.sent = None
                self.exchange(worker, worker.holding.beat(self.now_ms))

    def ask(self) -> None:
        """A request; where it does not fit, the whole is asked, unless a call is under way."""
        worker, amounts = self.random.choice(self.workers), self.amounts()
        holding = worker.holding
        if not holding.fits(self.now_ms, amounts) and worker.sent is None and self.random.random() < 0.7:
            self.exchange(worker, holding.ask(self.now_ms, [amounts]), [amounts])
        if holding.fits(self.now_ms, amounts):
            self.admit(worker, amounts)
        elif worker.sent is None:
            self.check_refusal(worker, amounts)

    def check_refusal(self, worker: Worker, amounts: Amounts) -> None:
        """If nobody else has anything in hand, places and money are really taken, if it is they that don't fit."""
        missing = self.exchange(worker, worker.holding.ask(self.now_ms, [amounts]), [amounts])
        others = self.changed or self.others_have_something(worker)
        if missing or others or worker.holding.fits(self.now_ms, amounts):
            return
        refused = worker.holding.refusal(self.now_ms, amounts)
        self.done[f"{refused.meter.dimension} refused"] += 1
        if refused.meter.dimension is Dimension.PARALLEL:
            assert self.places() == refused.meter.limit
        elif refused.meter.dimension.money:
            assert self.money(refused.meter) + amounts[1] > refused.meter.limit

    def send(self) -> None:
        worker = self.random.choice(self.workers)
        if worker.sent is None:
            waiting = [self.amounts() for _ in range(self.random.choice([0, 0, 1, 5]))]
            wants = worker.holding.ask(self.now_ms, waiting) if waiting else worker.holding.beat(self.now_ms)
            self.write(worker, wants)

    def arrive(self) -> None:
        """The whole hears of a call."""
        worker = self.random.choice(self.workers)
        if worker.sent is not None and worker.sent.leases is None:
            self.deliver(worker, worker.sent)

    def answer(self) -> None:
        """A worker hears what the whole says."""
        self.hear(self.random.choice(self.workers))

    def hear(self, worker: Worker) -> None:
        if worker.sent is not None and worker.sent.leases is not None:
            worker.holding.heard(self.now_ms, worker.sent.meters, worker.sent.wants, worker.sent.leases)
            worker.heard_ms = worker.sent.not_after_ms - 250
            worker.sent = None

    def lose(self) -> None:
        """A call or its answer gets lost, as far as the worker knows; the call may arrive later."""
        worker = self.random.choice(self.workers)
        if worker.sent is not None and worker.sent.leases is None:
            self.straying.append((worker, worker.sent))
        worker.sent = None

    def arrive_late(self) -> None:
        if self.straying:
            reply = self.lease(*self.straying.pop(0))
            self.done[f"late: {type(reply).__name__}"] += 1

    def settle(self) -> None:
        worker = self.random.choice(self.workers)
        if worker.running:
            taken, part = self.random.choice(worker.running), self.random.choice([0, 0.3, 1])
            tokens, nano_usd = (int(amount * part) for amount in taken.amounts)
            self.end(worker, taken, tokens, nano_usd, released=False)

    def release(self) -> None:
        worker = self.random.choice(self.workers)
        if worker.running:
            self.end(worker, self.random.choice(worker.running), 0, 0, released=True)

    def die(self) -> None:
        """A worker dies, another is started; the keeper ships what it used, and has the ledger asked anew."""
        dead = self.workers.pop(self.random.randrange(len(self.workers)))
        self.died_ms = self.now_ms
        for taken in dead.running:
            self.bill(taken, self.random.randint(0, taken.amounts[1]))
        self.whole.forget()
        self.hire()
        self.done["deaths"] += 1

    def restart(self) -> None:
        """Redis loses everything: rates begin anew, places and money must not. A worker that lives is heard at once."""
        self.whole = self.new_whole()
        self.requests, self.tokens = Refills(20, 30), Refills(3_000, 3_000)
        self.straying.clear()
        self.died_ms = 0
        for worker in self.workers:
            worker.sent = None
            self.exchange(worker, worker.holding.last(self.now_ms))
        self.done["restarts"] += 1

    def change_limits(self) -> None:
        """One worker learns that a limit was taken away, or is there again; others may learn of it later, or never."""
        worker = self.random.choice(self.workers)
        name = self.random.choice([name for name, bound in asdict(self.limits).items() if bound and name != "burst"])
        known = worker.holding.subject.limits
        limits = replace(known, **{name: None if getattr(known, name) is not None else getattr(self.limits, name)})
        if limits.any:
            worker.holding.adapt(model(limits))
            self.changed.add(name)
            self.done["changes"] += 1

    def check(self) -> None:
        limits = replace(self.limits, **dict.fromkeys(self.changed))
        if limits.requests_per_minute is not None:
            assert self.requests.units >= 0
        if limits.tokens_per_minute is not None:
            assert self.tokens.units >= 0
        if limits.parallel is not None:
            assert self.places() <= limits.parallel
        for meter in metered(EVERYONE, (model(limits),)).meters:
            if meter.dimension.money:
                assert self.money(meter) <= meter.limit

        for worker in self.workers:
            account = self.whole.accounts.get(worker.holding.account)
            if worker.holding.idle and account is not None:
                self.done["idle"] += 1
                for dimension, held in account.held.items():
                    over = dimension.money and account.periods[dimension] < period_of(dimension, self.now_ms)
                    assert not held or over

    def end_all(self) -> None:
        """All requests and workers end; after a lease nothing is held."""
        for worker in self.workers:
            worker.sent = None
            for taken in list(worker.running):
                self.end(worker, taken, 0, 0, released=False)
            self.exchange(worker, worker.holding.last(self.now_ms))
        if not self.died_ms:
            assert set(self.whole.held.values()) == {0}, "at once, where nobody died"
        self.now_ms += LEASE_MS + 1
        while self.whole.return_overdue(self.now_ms, 16):
            pass
        assert set(self.whole.held.values()) == {0}
        assert all(purse.held == 0 for purse in self.whole.purses.values())

    def amounts(self) -> Amounts:
        return self.random.choice([0, 10, 100, 700]), self.random.choice([0, 1, 10, 30, 80, 300])

    def others_have_something(self, worker: Worker) -> bool:
        """Whether the whole counts anything for others, dead ones too, but what requests under way hold."""
        if self.now_ms - self.died_ms <= LEASE_MS:
            return True
        others = [other for other in self.workers if other is not worker]
        return any(other.sent is not None or self.surplus(other) for other in others)

    def surplus(self, worker: Worker) -> bool:
        account, pots = self.whole.accounts.get(worker.holding.account), worker.holding._pots
        return account is not None and any(
            account.held.get(dimension, 0) - pot.busy - (pot.used - account.used.get(dimension, pot.used))
            for dimension, pot in pots.items()
        )

    def places(self) -> int:
        return sum(len(worker.running) for worker in self.workers)

    def money(self, meter: Meter) -> int:
        """Billed in this period, and held by requests admitted in it."""
        period = period_of(meter.dimension, self.now_ms)
        held = sum(
            taken.amounts[1]
            for worker in self.workers
            for taken in worker.running
            if period_of(meter.dimension, self.admitted_ms[taken]) == period
        )
        return self.ledger.get((meter.dimension, period), 0) + held

    def admit(self, worker: Worker, amounts: Amounts) -> None:
        taken = worker.holding.take(self.now_ms, amounts)
        worker.running.append(taken)
        self.admitted_ms[taken] = self.now_ms
        self.requests.take(1)
        self.tokens.take(amounts[0])
        self.done["admitted"] += 1

    def end(self, worker: Worker, taken: Taken, tokens: int, nano_usd: int, *, released: bool) -> None:
        worker.running.remove(taken)
        self.bill(taken, nano_usd)
        taken.end(tokens, nano_usd, released=released)
        requests, unused = int(released), taken.amounts[0] - tokens
        if taken.call == worker.holding.calls:
            self.requests.take(-requests)
            self.tokens.take(-unused)
        else:
            worker.back = worker.back[0] + requests, worker.back[1] + unused

    def bill(self, taken: Taken, nano_usd: int) -> None:
        for dimension in (Dimension.USD_DAY, Dimension.USD_MONTH):
            key = (dimension, period_of(dimension, self.admitted_ms[taken]))
            self.ledger[key] = self.ledger.get(key, 0) + nano_usd

    def write(self, worker: Worker, wants: Sequence[Want]) -> None:
        worker.holding.calls += 1
        known = worker.holding.heard_ms is not None
        worker.sent = Sent(worker.holding.calls, worker.holding.meters, wants, known, self.now_ms + 250, worker.back)

    def deliver(self, worker: Worker, sent: Sent, loads: Sequence[Load] = ()) -> Missing | None:
        reply = self.lease(worker, sent, loads)
        if isinstance(reply, Leased):
            sent.leases = reply.leases
        else:
            worker.sent = None
        return reply if isinstance(reply, Missing) else None

    def lease(self, worker: Worker, sent: Sent, loads: Sequence[Load] = ()) -> Reply:
        account = worker.holding.account
        knew = account in self.whole.accounts
        reply = self.whole.lease(
            self.now_ms,
            account,
            sent.number,
            sent.meters,
            sent.wants,
            known=sent.known,
            lease_ms=LEASE_MS,
            not_after_ms=sent.not_after_ms,
            loads=loads,
        )
        if isinstance(reply, Leased | Missing):
            if knew:
                self.requests.take(worker.told[0] - sent.back[0])
                self.tokens.take(worker.told[1] - sent.back[1])
            worker.told = sent.back
        return reply

    def exchange(self, worker: Worker, wants: Sequence[Want], waiting: Sequence[Amounts] = ()) -> bool:
        """A call and its answer at once; what is missing is asked of the ledger. Returns: whether it still is."""
        loads: list[Load] = []
        missing: Missing | None = None
        for _ in range(3):
            self.write(worker, wants)
            assert worker.sent is not None
            missing = self.deliver(worker, worker.sent, loads)
            if missing is None:
                break
            self.done["ledger asked"] += 1
            loads = [
                Load(counter.meter, period, counter.late, self.ledger.get((counter.meter.dimension, period), 0))
                for counter in missing.counters
                for period in [period_of(counter.meter.dimension, self.now_ms)]
            ]
            for other in self.workers:  # while the ledger was asked, others went on
                if other is not worker and other.running and other.sent is None and self.random.random() < 0.5:
                    self.end(other, other.running[0], *other.running[0].amounts, released=False)
                    self.exchange(other, other.holding.beat(self.now_ms))
            wants = worker.holding.ask(self.now_ms, waiting)
        self.hear(worker)
        return missing is not None


def lose_everything_while_money_is_spent(walk: Walk) -> None:
    """Redis loses everything, a worker has the ledger asked, then another one ends a request: its money counts."""
    walk.now_ms = START_MS
    first, second = [Worker(Holding(model(Limits(nano_usd_per_day=900)), f"x{at}"), 0) for at in "12"]
    for worker in (first, second):
        walk.exchange(worker, worker.holding.ask(START_MS, [(0, 300)]), [(0, 300)])
        walk.admit(worker, (0, 300))
    walk.workers = [first]  # the second one does nothing while the ledger is asked
    walk.whole = walk.new_whole()
    walk.exchange(first, first.holding.ask(START_MS, [(0, 400)]), [(0, 400)])  # the ledger says that nothing was spent
    walk.end(second, second.running[0], 0, 300, released=False)
    walk.exchange(second, second.holding.beat(START_MS))
    for worker in (first, second):
        walk.exchange(worker, worker.holding.last(START_MS))
    walk.exchange(first, first.holding.ask(START_MS, [(0, 301)]), [(0, 301)])
    assert not first.holding.fits(START_MS, (0, 301))
    walk.exchange(first, first.holding.ask(START_MS, [(0, 300)]), [(0, 300)])
    assert first.holding.fits(START_MS, (0, 300))
