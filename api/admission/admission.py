"""Admission: one script checks and takes everything that a request needs, and what was not used goes back."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from api.admission.errors import Dimension, KeyStale
from api.admission.holdings import Taken
from api.admission.leases import Leases
from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE, Metered, common_prefix, metered, name_of, prefix_of
from api.admission.model import Counter, Granted, Late, Load, Missing, Outcome, Refused, Stale, period_name, period_of
from api.admission.reservation import Ask, Rate, Reservation
from api.admission.scripts import WHOLE, Scripts, admit_args, outcome_of
from api.admission.settlements import Adopted, Ended, Settlements
from api.admission.share import Share
from core.clock import Clock
from core.dependency import DependencyError, DependencyTimeout
from core.limits import Subject
from storage.redis import RedisClient
from storage.scripts import Call, NotSent, ScriptLine

__all__ = ["Admission", "Ask", "Rate", "Reservation", "Spent"]

_ROUNDS = 4  # a call may be answered "too late by my clock" once, and "money missing" once for each turn of a period
_SWEEP_AT_ONCE = 100
_AGAIN_S = 0.2
_TOLD_S = 0.5  # so long a refusal waits for Redis to hear what has ended
_LATEST_S = 0.05  # by so much a call may come after its time and still be taken
_KNOWN = 10_000

_Wanted = tuple[Metered, tuple[Subject, ...]]


class Spent(Protocol):
    """Asks the ledger."""

    async def __call__(self, tenant_id: str, subject: Subject, period: str) -> int:
        """Nano-USD of all lines finished before this call, admitted in `period`: `2026-11-21` or `2026-11`, UTC.

        Raises: DependencyError: the ledger cannot be asked.
        """
        ...


class Admission:
    """Admits requests of one worker; an async context manager, inside which settlements and leases are looked after.

    Args:
        lease_s: seconds after which a reservation of a silent worker goes back; live ones are renewed.
        workers: all that admit on this Redis, on all hosts; each gets this part of what is left while Redis is silent.
        deadline_s: seconds for one call of Redis; then the worker's share decides.
        max_unsettled: settlements held while Redis is away.
        scripts: the Lua files; tests pass some with a clock of theirs.
    """

    def __init__(
        self,
        redis: RedisClient,
        spent: Spent,
        clock: Clock,
        *,
        lease_s: float = 60.0,
        workers: int = 1,
        deadline_s: float = 0.25,
        max_unsettled: int = 100_000,
        scripts: Scripts | None = None,
    ) -> None:
        self._line = ScriptLine(redis)
        self._scripts = scripts or Scripts.load()
        self._spent = spent
        self._clock = clock
        self._lease_s = lease_s
        self._deadline_s = deadline_s
        self._share = Share(workers)
        self._live: dict[str, Reservation] = {}
        self._known: dict[int, tuple[tuple[Subject, ...], str, _Wanted]] = {}
        self._loading: dict[tuple[str, Dimension, int, int], asyncio.Future[int]] = {}
        self._name = secrets.token_hex(4)
        self._count = 0
        self._skew_s: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._leases = Leases(
            self._line,
            self._scripts,
            self._load,
            lambda: self._server_ms(self._clock.time()),
            self._heard,
            deadline_s=deadline_s,
            lease_ms=self._lease_ms,
            workers=workers,
        )
        self._settlements = Settlements(
            self._line,
            self._scripts,
            lambda: self._server_ms(self._clock.time() + deadline_s),
            self._heard,
            deadline_s=deadline_s,
            lease_ms=self._lease_ms,
            most=max_unsettled,
        )

    async def __aenter__(self) -> Self:
        every = (self._settlements.run(), self._keep_leases(), self._leases.run())
        self._tasks = [asyncio.create_task(one) for one in every]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is queued; what Redis does not take now is left to the leases."""
        self._settlements.stop()
        settling, *renewing = self._tasks
        for task in renewing:
            task.cancel()
        try:
            await asyncio.gather(*renewing, return_exceptions=True)
            await self._leases.close()
            await settling
        finally:
            await self._line.close()

    async def admit(self, ask: Ask) -> Reservation:
        """Reserve what the request asks for, of all its subjects or of none.

        Raises:
            LimitReached: a limit leaves no room; nothing was taken.
            KeyStale: the key's generation is later than the one in the request.
            DependencyError: neither Redis nor the ledger can say what a budget has left.
            ValueError: a subject's limit is out of range.
        """
        wanted, common = self._metered(ask.tenant_id, ask.subjects)
        if not common:
            return await self._admit(ask, wanted, ())
        taken = await self._leases.take(common, (ask.tokens, ask.nano_usd))
        try:
            return await self._admit(ask, wanted, taken)
        except BaseException:
            self._leases.end(taken, 0, 0, released=True)
            raise

    async def _admit(self, ask: Ask, wanted: Metered, taken: Sequence[Taken]) -> Reservation:
        """Reserve what the request asks for in its own tenant, having taken it of what all tenants share."""
        self._count += 1
        name = f"{ask.request_id}:{self._name}{self._count:x}"
        reservation = Reservation(ask.tenant_id, name, ask.tokens, ask.nano_usd, wanted, taken)
        if not wanted.meters and ask.key_id is None:
            return reservation
        outcome = await self._ask_redis(ask, reservation)
        if isinstance(outcome, Refused) and self._settlements.late and await self._settlements.told(_TOLD_S):
            outcome = await self._ask_redis(ask, reservation)  # what refused it may have ended long ago
        if outcome is None:
            reservation.id += "~"  # the call that failed may have taken the first id, which goes back when it has
            reservation.local = True
            outcome = await self._ask_share(reservation)
        if isinstance(outcome, Stale) and ask.key_id is not None:
            raise KeyStale(ask.key_id)
        if isinstance(outcome, Refused):
            raise outcome.error()
        if isinstance(outcome, Granted):
            reservation.left = outcome.left
        if wanted.meters:
            self._live[reservation.id] = reservation
        return reservation

    def settle(self, reservation: Reservation, tokens: int, nano_usd: int) -> None:
        """Keep what was used, even if it is more than was reserved, and give back the rest; returns at once.

        A second end of the same reservation has no effect.
        """
        self._end(reservation, tokens, nano_usd, released=False)

    def release(self, reservation: Reservation) -> None:
        """Give everything back, the request too: nothing was used. Returns at once."""
        self._end(reservation, 0, 0, released=True)

    async def renew(self) -> None:
        """Prolong the leases of all live reservations; those that Redis lost are put there again.

        Raises: DependencyError: Redis is away.
        """
        tenants: dict[str, list[Reservation]] = defaultdict(list)
        for reservation in self._live.values():
            tenants[reservation.metered.prefix].append(reservation)
        if not tenants:
            return
        not_after_ms = self._server_ms(self._clock.time() + self._deadline_s)
        calls: list[Call] = [
            (self._scripts.renew, prefix, [not_after_ms, self._lease_ms, *(one.id for one in some)])
            for prefix, some in tenants.items()
        ]
        for some, reply in zip(tenants.values(), await self._line.run_all(calls, self._deadline_s), strict=True):
            self._heard(reply[1])
            for at in reply[2:]:
                if some[at].id in self._live:
                    self._adopt(some[at])

    async def sweep(self, tenant_id: str) -> int:
        """Give back what silent workers of a tenant held. Returns: how many reservations; the keeper calls this.

        Raises: DependencyError: Redis is away.
        """
        swept: int = await self._line.run(self._scripts.sweep, prefix_of(tenant_id), [_SWEEP_AT_ONCE], self._deadline_s)
        return swept

    async def forget_spent(self, tenant_id: str, subjects: Iterable[Subject]) -> None:
        """Have the ledger asked anew: after lines that no worker settled, and when a budget is set again.

        Raises: DependencyError: Redis is away.
        """
        names = [name_of(subject) for subject in subjects]
        await self._line.run(self._scripts.forget, prefix_of(tenant_id), names, self._deadline_s)

    async def forget_common(self, subjects: Iterable[Subject]) -> None:
        """As `forget_spent`, of limits that all tenants share.

        Raises: DependencyError: Redis is away.
        """
        calls: list[Call] = [(self._scripts.forget, common_prefix(subject), [WHOLE]) for subject in subjects]
        if calls:
            await self._line.run_all(calls, self._deadline_s)

    async def bump_generation(self, tenant_id: str, key_id: str, generation: int) -> None:
        """Make requests with an earlier generation of the key stale. Raises: DependencyError: Redis is away."""
        await self._line.run(self._scripts.generation, prefix_of(tenant_id), [key_id, generation], self._deadline_s)

    @property
    def unsettled(self) -> int:
        """Ends of reservations that Redis has not been told yet."""
        return len(self._settlements)

    @property
    def _lease_ms(self) -> int:
        return int(self._lease_s * 1000)

    def _server_ms(self, time_s: float) -> int:
        """A moment of the worker's clock by the server's."""
        return int((time_s + (self._skew_s or 0.0)) * 1000)

    def _heard(self, server_ms: int) -> None:
        """Learn the server's clock from an answer. One that took long makes it seem slow: up at once, down slowly."""
        skew_s = server_ms / 1000 - self._clock.time()
        known_s = skew_s if self._skew_s is None else self._skew_s
        self._skew_s = max(skew_s, known_s + 0.1 * (skew_s - known_s))
        if self._share.used:
            self._share.close()

    async def _ask_redis(self, ask: Ask, reservation: Reservation) -> Outcome | None:
        """Returns: what Redis says; None: it is silent, and whatever it may still take goes back."""
        wanted = reservation.metered
        loads: list[Load] = []
        not_after_s = self._clock.time() + self._deadline_s if ask.not_after_s is None else ask.not_after_s
        key = None if ask.key_id is None else (ask.key_id, ask.generation)
        for _ in range(_ROUNDS):
            args = admit_args(
                reservation.id,
                wanted,
                ask.tokens,
                ask.nano_usd,
                lease_ms=self._lease_ms,
                not_after_ms=self._server_ms(not_after_s),
                key=key,
                loads=loads,
            )
            try:
                reply = await self._line.run(self._scripts.admit, wanted.prefix, args, self._deadline_s)
            except NotSent:
                return None
            except DependencyError:
                self._give_up(reservation, not_after_s - self._clock.time() + _LATEST_S)
                return None
            except asyncio.CancelledError:
                self._give_up(reservation, 0.0)
                raise
            outcome = outcome_of(reply, wanted)
            self._heard(reply[1])
            if isinstance(outcome, Missing):
                loads = await self._load(reservation.tenant_id, outcome.counters, reply[1])
            elif not isinstance(outcome, Late):
                if isinstance(outcome, Granted):
                    self._share.tell(reply[1], wanted, outcome.left)
                return outcome
            elif self._clock.time() > not_after_s:
                break
        return None

    async def _ask_share(self, reservation: Reservation) -> Outcome:
        """What the worker may admit alone."""
        now_ms = self._server_ms(self._clock.time())
        ask = (reservation.tenant_id, reservation.id, reservation.metered, reservation.tokens, reservation.nano_usd)
        outcome = self._share.admit(now_ms, *ask)
        if isinstance(outcome, Missing):
            for load in await self._load(reservation.tenant_id, outcome.counters, now_ms):
                self._share.load(now_ms, load.meter, load.nano_usd)
            outcome = self._share.admit(now_ms, *ask)
        if isinstance(outcome, Missing):
            raise DependencyTimeout("redis", "redis is silent, and the day turned while the ledger was asked")
        if isinstance(outcome, Granted) and reservation.metered.meters:
            self._adopt(reservation)
        return outcome

    async def _load(self, tenant_id: str, counters: Sequence[Counter], now_ms: int) -> list[Load]:
        """Ask the ledger; those who ask the same at the same time share one answer."""

        async def ask(counter: Counter) -> Load:
            meter = counter.meter
            period = period_of(meter.dimension, now_ms)
            key = (meter.key, meter.dimension, period, counter.late)
            if key not in self._loading:
                name = period_name(meter.dimension, period)
                task = asyncio.ensure_future(self._spent(tenant_id, meter.subject, name))
                self._loading[key] = task
                task.add_done_callback(lambda done: self._loaded(key, done))
            return Load(meter, period, counter.late, await asyncio.shield(self._loading[key]))

        return await asyncio.gather(*map(ask, counters))

    def _loaded(self, key: tuple[str, Dimension, int, int], done: "asyncio.Future[int]") -> None:
        del self._loading[key]
        if not done.cancelled():
            done.exception()  # whoever waited for it may have gone

    def _metered(self, tenant_id: str, subjects: tuple[Subject, ...]) -> _Wanted:
        """What these subjects come to in their tenant, and those that all tenants share.

        The same tuple is known by itself, which is quicker than by what it holds.
        """
        known = self._known.get(id(subjects))
        if known is not None and known[0] is subjects and known[1] == tenant_id:
            return known[2]
        if len(self._known) >= _KNOWN:
            self._known.clear()
        common = tuple(subject for subject in subjects if subject.common)
        own = tuple(subject for subject in subjects if not subject.common) if common else subjects
        found = metered(tenant_id, own), common
        self._known[id(subjects)] = (subjects, tenant_id, found)
        return found

    def _adopt(self, reservation: Reservation) -> None:
        at_ms = self._server_ms(self._clock.time())
        asked = (reservation.id, reservation.metered, reservation.tokens, reservation.nano_usd)
        self._settlements.put(Adopted(*asked, at_ms))

    def _give_up(self, reservation: Reservation, wait_s: float) -> None:
        """Whether Redis took it is not known; if so, it goes back.

        Args:
            wait_s: until Redis can't take it any more: what was sent on a connection that broke may still be read, and
                after what travels on the next one.
        """
        if reservation.metered.meters:
            ended = Ended(reservation.id, reservation.metered, 0, 0, released=True)
            asyncio.get_running_loop().call_later(max(0.0, wait_s), self._settlements.put, ended)

    def _end(self, reservation: Reservation, tokens: int, nano_usd: int, *, released: bool) -> None:
        if reservation.ended:
            return
        reservation.ended = True
        counted = min(tokens, MAX_PER_MINUTE), min(nano_usd, MAX_NANO_USD)
        if reservation.taken:
            self._leases.end(reservation.taken, *counted, released=released)
        if self._live.pop(reservation.id, None) is None:
            return
        if reservation.local:
            now_ms = self._server_ms(self._clock.time())
            if released:
                self._share.release(now_ms, reservation.id)
            else:
                self._share.settle(now_ms, reservation.id, tokens, nano_usd)
        self._settlements.put(Ended(reservation.id, reservation.metered, *counted, released))

    async def _keep_leases(self) -> None:
        """Renew in time, and at once after the connection was lost: a server that came back empty has to learn."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lease_s / 3):  # wait_for may swallow a cancellation
                    await self._line.lost.wait()
            lost = self._line.lost.is_set()
            self._line.lost.clear()
            if lost:
                self._leases.give_up()
            try:
                await self.renew()
                if lost:
                    await self._leases.beat()
            except DependencyError:
                self._line.lost.set()
                await asyncio.sleep(min(_AGAIN_S, self._lease_s / 3))
