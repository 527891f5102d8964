"""A simulated Redis below the real script line, and the ledger: what admission's two parts would answer.

It speaks Redis's protocol over a pipe with latency; scripts are answered by the model that the real ones are compared
with in `tests/integration/admission/test_scripts.py`.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

from hiredis import Reader
from redis.exceptions import ConnectionError as RedisConnectionError

from api.admission.errors import Dimension
from api.admission.meters import Metered, metered, name_of, prefix_of
from api.admission.model import Book, Granted, Late, Load, Missing, Outcome, Refused, period_name
from api.admission.scripts import LATE, Scripts
from api.ledger.line import Line
from core.clock import Clock
from core.dependency import Dependency, DependencyUnavailable
from core.limits import Subject, SubjectKind
from core.money import Price
from tests.simulation.loop import WALL_S, VirtualLoop
from tests.simulation.trace import Trace

TENANT = "acme"
T = TypeVar("T")
_OUTAGES = (OSError, RedisConnectionError)
_DIMENSIONS = list(Dimension)
_MOST_SKEW_S = 0.4  # of a server's clock, that a worker need not know before its first answer
_LATEST_S = 0.25 + 1.0  # the deadline of one call, and what the two clocks may be apart
_APART_S = 1e-6  # a loop keeps no order among timers of the same moment


class WatchedBook(Book):
    """The model, which says whose lease ended."""

    def __init__(self, overdue: Callable[[str], None]) -> None:
        super().__init__()
        self._overdue = overdue

    def return_overdue(self, now_ms: int, most: int) -> int:
        before = list(self.holds)
        found = super().return_overdue(now_ms, most)
        if found:
            for name in before:
                if name not in self.holds:
                    self._overdue(name)
        return found


class Store:
    """The server.

    Args:
        subjects: everybody with limits, by name.

    Attributes:
        on_restart: called when it comes back empty; on_overdue: with each reservation whose lease ended.
        away_s: reading of the loop's clock when it was last silent or away.
        settled: how often each reservation was there to be settled.
    """

    def __init__(self, loop: VirtualLoop, random: Random, trace: Trace, subjects: Mapping[str, Subject]) -> None:
        self._loop = loop
        self._random = random
        self._trace = trace
        self._subjects = subjects
        self._skew_s = random.choice((0.0, random.uniform(-0.4, 0.4), random.uniform(-5, 5)))
        self._pipes: dict[Pipe, None] = {}
        self._unread: list[tuple[Pipe, bytes, float]] = []
        self._sent_s = 0.0  # when what is being read was sent
        self._known: set[str] = set()
        self._names = {script.sha: name for name, script in _scripts().items()}
        self._texts = {script.text: script.sha for script in _scripts().values()}
        self.silent = False
        self.refusing = False
        self.slow_s = 0.0
        self.away_s = 0.0
        self.on_restart: Callable[[], None] = lambda: None
        self.on_overdue: Callable[[str], None] = lambda _: None
        self.settled: Counter[str] = Counter()
        self.book = WatchedBook(lambda name: self.on_overdue(name))

    @property
    def up(self) -> bool:
        return not (self.silent or self.refusing or self.slow_s)

    @property
    def now_ms(self) -> int:
        """Its own clock, which differs from the gateways'."""
        return int((WALL_S + self._skew_s + self._loop.time()) * 1000)

    def freeze(self) -> None:
        """Answer nobody; what arrives is read later."""
        self._trace.say("store is silent", "silences")
        self.silent, self.away_s = True, self._loop.time()

    def thaw(self) -> None:
        """Read what has arrived meanwhile: in order on each connection, and in any order across them."""
        self._trace.say(f"store is back, with {len(self._unread)} batches to read")
        self.silent, self.away_s = False, self._loop.time()
        unread, self._unread = self._unread, []
        while unread:
            pipe = self._random.choice(unread)[0]
            at = next(at for at, (own, _, _) in enumerate(unread) if own is pipe)
            self._read(*unread.pop(at))

    def drop(self) -> None:
        """Cut every connection."""
        self._trace.say(f"store cuts {len(self._pipes)} connections", "cuts")
        self.away_s = self._loop.time()
        for pipe in list(self._pipes):
            pipe.lose()
        self._pipes.clear()

    def stop(self) -> None:
        """End: connections are cut, new ones refused, and everything forgotten."""
        self.drop()
        self._trace.say("store is away", "restarts")
        self.refusing, self._unread = True, []
        self._known.clear()
        self.book = WatchedBook(lambda name: self.on_overdue(name))
        self.on_restart()

    def come(self) -> None:
        """Come back, empty."""
        self._trace.say("store has come back empty")
        self.refusing, self.away_s = False, self._loop.time()

    async def open(self) -> "Pipe":
        """Connect. Raises: RedisConnectionError: it refuses."""
        await asyncio.sleep(self.latency_s())
        if self.refusing:
            raise RedisConnectionError("connection refused")
        while self.silent:  # noqa: ASYNC110 - its time is no one's
            await asyncio.sleep(0.05)
        pipe = Pipe(self, self._loop)
        self._pipes[pipe] = None
        return pipe

    def gone(self, pipe: "Pipe") -> None:
        self._pipes.pop(pipe, None)

    def latency_s(self) -> float:
        """One way."""
        return self._random.uniform(0.0001, 0.002) + self.slow_s

    def arrived(self, pipe: "Pipe", data: bytes, sent_s: float) -> None:
        """Commands, after their way here."""
        if self.silent:
            self._unread.append((pipe, data, sent_s))
        elif not self.refusing:
            self._read(pipe, data, sent_s)

    def _read(self, pipe: "Pipe", data: bytes, sent_s: float) -> None:
        self._sent_s = sent_s
        reader = Reader(encoding="utf-8")
        reader.feed(data)
        replies = []
        while (words := reader.gets()) is not False:
            replies.append(self._answer(words))
        pipe.reply(b"".join(replies))

    def _answer(self, words: Any) -> bytes:
        if words[0] == "SCRIPT":
            sha = self._texts[words[2]]
            self._known.add(sha)
            return _packed(sha)
        if words[1] not in self._known:
            return b"-NOSCRIPT No matching script.\r\n"
        return _packed(self.run(self._names[words[1]], words[4:]))

    def run(self, name: str, args: Sequence[str]) -> Any:
        """Run a script."""
        now_ms = self.now_ms
        book = self.book
        match name:
            case "admit":
                return self._admit(now_ms, args)
            case "settle":
                if now_ms > int(args[0]):
                    return [LATE, now_ms]
                gone = 0
                for at in range(1, len(args), 5):
                    reservation_id, verb, tokens, nano_usd, record = args[at : at + 5]
                    if verb == "r":
                        book.release(now_ms, reservation_id)
                    elif book.settle(now_ms, reservation_id, self._metered(record), int(tokens), int(nano_usd)):
                        self.settled[reservation_id] += 1
                        self._trace.hold(self.settled[reservation_id] == 1, f"{call_of(reservation_id)} settled twice")
                    else:
                        gone += 1
                self._check()
                return [0, now_ms, gone]
            case "renew":
                if now_ms > int(args[0]):
                    return [LATE, now_ms]
                there = [book.renew(now_ms, each, int(args[1])) for each in args[2:]]
                return [0, now_ms, *(at for at, found in enumerate(there) if not found)]
            case "sweep":
                return book.return_overdue(now_ms, int(args[0]))
            case "forget":
                book.forget([prefix_of(TENANT) + each for each in args])
                return len(args)
        raise ValueError(f"the simulation knows no script {name}")

    def _admit(self, now_ms: int, args: Sequence[str]) -> list[int]:
        reservation_id, record, loads = args[0], args[7], int(args[8])
        tokens, nano_usd, not_after_ms, lease_ms = map(int, args[1:5])
        wanted = self._metered(record)
        if loads < 0:
            if now_ms > not_after_ms:
                return [LATE, now_ms]
            self._trace.say(f"store adopts {call_of(reservation_id)}", "adopted")
            amounts = (tokens, nano_usd)
            self.book.adopt(now_ms, reservation_id, wanted, *amounts, admitted_ms=int(args[6]), lease_ms=lease_ms)
            self._check()
            return [0, now_ms]
        told = []
        for at in range(9, 9 + 5 * loads, 5):
            name, letter, period, late, spent = args[at : at + 5]
            dimension = Dimension.USD_DAY if letter == "d" else Dimension.USD_MONTH
            meter = next(
                each for each in wanted.meters if each.dimension is dimension and name_of(each.subject) == name
            )
            told.append(Load(meter, int(period), int(late), int(spent)))
        outcome = self.book.admit(
            now_ms, reservation_id, wanted, tokens, nano_usd,
            lease_ms=lease_ms, not_after_ms=not_after_ms, loads=told,
        )  # fmt: skip
        if isinstance(outcome, Granted):
            in_time = self._loop.time() - self._sent_s < _LATEST_S or abs(self._skew_s) > _MOST_SKEW_S
            self._trace.hold(in_time, f"{call_of(reservation_id)} was granted long after it was asked for")
            self._trace.hold(min(outcome.left, default=0) >= 0, f"{call_of(reservation_id)} was granted beyond a limit")
        self._check()
        return _reply(outcome, now_ms, wanted)

    def _metered(self, record: str) -> Metered:
        return metered(TENANT, tuple(self._subjects[name] for name in record.split()[::2]))

    def _check(self) -> None:
        """What is held is what reservations hold, at every step."""
        places: Counter[str] = Counter()
        money: Counter[tuple[str, Dimension]] = Counter()
        for hold in self.book.holds.values():
            for meter in hold.metered.meters:
                if meter.dimension is Dimension.PARALLEL:
                    places[meter.key] += 1
                elif meter.dimension.money:
                    money[meter.key, meter.dimension] += hold.nano_usd
        for key, taken in self.book.parallel.items():
            self._trace.hold(taken == places[key], f"{key}: {taken} places are held, by {places[key]} reservations")
        for (key, dimension), purse in self.book.purses.items():
            own = money[key, dimension]
            self._trace.hold(purse.held == own, f"{key}: {purse.held} nano-USD are held, by reservations of {own}")


class Pipe:
    """One connection; what `asyncio.Transport` offers, as far as the script line asks for it."""

    def __init__(self, store: Store, loop: VirtualLoop) -> None:
        self._store = store
        self._loop = loop
        self._protocol: Any = None
        self._closed = False
        self._sent_s = self._told_s = 0.0

    @property
    def transport(self) -> "Pipe":
        """It is its own writer, too."""
        return self

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closed

    def write(self, data: bytes) -> None:
        """Send; what is under way arrives even if the connection is closed meanwhile."""
        if not self._closed:
            self._sent_s = max(self._sent_s + _APART_S, self._loop.time() + self._store.latency_s())
            self._loop.call_at(self._sent_s, self._store.arrived, self, data, self._loop.time())

    def reply(self, data: bytes) -> None:
        """The server answers."""
        self._told_s = max(self._told_s + _APART_S, self._loop.time() + self._store.latency_s())
        self._loop.call_at(self._told_s, self._deliver, data)

    def abort(self) -> None:
        """The client closes it."""
        if not self._closed:
            self._closed = True
            self._store.gone(self)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def lose(self) -> None:
        """The server closes it."""
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._protocol.connection_lost, ConnectionResetError("reset"))

    def _deliver(self, data: bytes) -> None:
        if not self._closed:
            self._protocol.data_received(data)


class _Connection:
    """What redis-py's pool makes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writer: Pipe | None = None
        self._reader = None
        self.socket_timeout: float | None = None

    async def connect(self) -> None:
        self._writer = await self._store.open()


class StoreClient:
    """What `storage.redis.RedisClient` offers to a script line; one for each worker."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self.dependency = Dependency("redis", 1.0, _OUTAGES, clock=clock)

    async def call(self, work: Callable[[Any], Awaitable[T]], deadline_s: float | None = None) -> T:
        return await self.dependency.call(lambda: work(self), deadline_s)

    @property
    def connection_pool(self) -> "StoreClient":
        return self

    def make_connection(self) -> _Connection:
        return _Connection(self._store)


class Entry:
    """A line that has begun; what `api.ledger.ledger.Entry` offers."""

    def __init__(self, lines: "Lines") -> None:
        self._lines = lines

    def count(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> None:
        pass

    def finish(self, line: Line) -> None:
        self._lines.add(line)


class Lines:
    """The ledger of all workers.

    Attributes:
        written: finished lines.
        away: it cannot be asked.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._spent: Counter[tuple[SubjectKind, str, str]] = Counter()
        self.written: list[Line] = []
        self.away = False

    def begin(self, line: Line, price: Price) -> Entry:
        return Entry(self)

    def add(self, line: Line) -> None:
        self.written.append(line)
        day = period_name(Dimension.USD_DAY, int(line.at // 86_400))
        for kind, name in ((SubjectKind.KEY, line.key_id), (SubjectKind.TEAM, line.team_id)):
            if name is not None:
                self._spent[kind, name, day] += line.nano_usd

    async def spent(self, tenant_id: str, subject: Subject, period: str) -> int:
        """As `api.admission.admission.Spent` says."""
        early = self._random.random() < 0.5
        found = self.of(subject, period)
        await asyncio.sleep(self._random.uniform(0.001, 0.03))
        if self.away:
            raise DependencyUnavailable("sql", "sql is away")
        return found if early else self.of(subject, period)

    def of(self, subject: Subject, period: str) -> int:
        """Nano-USD in a period."""
        return self._spent[subject.kind, subject.id, period]


def call_of(reservation_id: str) -> str:
    """Whose it is, without what a worker draws of the system's own randomness."""
    return reservation_id.partition(":")[0]


@lru_cache(maxsize=1)
def scripts() -> Scripts:
    """The real scripts' texts, read once."""
    return Scripts.load()


@lru_cache(maxsize=1)
def _scripts() -> dict[str, Any]:
    loaded = scripts()
    return {name: getattr(loaded, name) for name in ("admit", "settle", "renew", "sweep", "forget", "generation")}


def _reply(outcome: Outcome, now_ms: int, wanted: Metered) -> list[int]:
    """As `admit.lua` says it."""
    if isinstance(outcome, Granted):
        return [0, now_ms, *outcome.left]
    if isinstance(outcome, Refused):
        where = (wanted.subjects.index(outcome.meter.subject), _DIMENSIONS.index(outcome.meter.dimension))
        return [1, now_ms, *where, -1 if outcome.wait_ms is None else outcome.wait_ms]
    if isinstance(outcome, Late):
        return [LATE, now_ms]
    if isinstance(outcome, Missing):
        triples = (
            (wanted.subjects.index(each.meter.subject), _DIMENSIONS.index(each.meter.dimension), each.late)
            for each in outcome.counters
        )
        return [4, now_ms, *(number for triple in triples for number in triple)]
    return [3, now_ms]


def _packed(value: Any) -> bytes:
    """A reply as it travels."""
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_packed, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    return b"$%d\r\n%b\r\n" % (len(value), value.encode())
