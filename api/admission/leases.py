"""Leases of limits that all tenants share: requests take from what their worker holds, and here more is asked for.

`common.py` is the model of it, `holdings.py` what the worker holds.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from api.admission.common import Lease, Leased, Want
from api.admission.holdings import Amounts, Holding, Taken
from api.admission.meters import Metered
from api.admission.model import Counter, Load, Missing, Refused
from api.admission.scripts import Scripts, lease_args, reply_of
from api.admission.share import Share
from core.dependency import DependencyError, DependencyTimeout
from core.limits import EVERYONE, Subject
from monitoring.logs import logger
from storage.scripts import ScriptLine

BEAT_S = 1.0
"""So often a worker reports what it used and gives back what no request takes."""
_TRIES = 16  # somebody else may take first what an answer said there is
_ROUNDS = 4  # a call may come too late by the server's clock once, and miss money once for each turn of a period

_log = logger(__name__)

Write = Callable[[int], list[Want]]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request for which there was too little in hand."""

    amounts: Amounts
    taken: asyncio.Future[Taken]


@dataclass(slots=True, eq=False)
class _Held:
    """A holding, its calls, which go one after the other, and those who wait for the next one.

    Attributes:
        share: of what the whole had left, for while Redis is silent.
        wanting: how many requests want something that is not in hand.
    """

    holding: Holding
    share: Share
    wanting: int = 0
    calling: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[_Waiter] = field(default_factory=list)


class Leases:
    """All holdings of one worker.

    Args:
        load: asks the ledger, as `Admission` does.
        time_ms: what the server's clock shows.
        heard: told the server's clock when it has answered.
        workers: of all hosts together; each gets this part of what is left while Redis is silent.
    """

    def __init__(
        self,
        line: ScriptLine,
        scripts: Scripts,
        load: Callable[[str, Sequence[Counter], int], Awaitable[list[Load]]],
        time_ms: Callable[[], int],
        heard: Callable[[int], None],
        *,
        deadline_s: float,
        lease_ms: int,
        workers: int,
    ) -> None:
        self._line = line
        self._scripts = scripts
        self._load = load
        self._time_ms = time_ms
        self._heard = heard
        self._deadline_s = deadline_s
        self._lease_ms = lease_ms
        self._workers = workers
        self._held: dict[tuple[str, str], _Held] = {}
        self._name = secrets.token_hex(4)
        self._count = 0
        self._asking: set[asyncio.Task[None]] = set()

    async def take(self, subjects: Sequence[Subject], amounts: Amounts) -> list[Taken]:
        """Take what a request asks for of all these subjects, or of none.

        Raises:
            LimitReached: the limit leaves no room.
            DependencyError: neither Redis nor the ledger can say what a budget has left.
        """
        taken: list[Taken] = []
        try:
            for subject in subjects:
                one, now_ms = self._held_of(subject), self._time_ms()
                if one.holding.fits(now_ms, amounts):
                    taken.append(one.holding.take(now_ms, amounts))
                else:
                    taken.append(await self._more(one, amounts))
        except BaseException:
            self.end(taken, 0, 0, released=True)
            raise
        return taken

    def end(self, every: Sequence[Taken], tokens: int, nano_usd: int, *, released: bool) -> None:
        """Keep what a request used, and have the rest for the next; released: all of it, the request too."""
        for taken in every:
            taken.end(tokens, nano_usd, released=released)
            if taken.alone is None:
                continue
            share, name = taken.alone
            if released:
                share.release(self._time_ms(), name)
            else:
                share.settle(self._time_ms(), name, tokens, nano_usd)

    async def run(self) -> None:
        """Report and give back, again and again; for a part of what is held goes back when it is late."""
        while True:
            await asyncio.sleep(BEAT_S)
            await self.beat()

    def give_up(self) -> None:
        """Use nothing of what is in hand: Redis may have lost what it knew of it, and given it to others."""
        for one in self._held.values():
            one.holding.give_up()

    async def beat(self) -> None:
        """Report what was used and give back what no request took lately; holdings that nobody uses end.

        A holding with a call under way is left out: that one reports, too, and may have to wait for the ledger, for
        which no other holding shall wait.
        """
        for name, one in list(self._held.items()):
            if one.holding.idle and not one.wanting and not one.calling.locked():
                del self._held[name]
            elif one.holding.heard_ms is not None and self._time_ms() - one.holding.heard_ms > self._lease_ms:
                one.holding.give_up()  # by now others may have it
        free = [one for one in self._held.values() if not one.calling.locked()]
        await asyncio.gather(*(self._call_quietly(one, one.holding.beat) for one in free))

    async def close(self) -> None:
        """Give everything back."""
        await asyncio.gather(*(self._call_quietly(one, one.holding.last) for one in self._held.values()))

    def _held_of(self, subject: Subject) -> _Held:
        name = (subject.kind.value, subject.id)
        found = self._held.get(name)
        if found is None:
            self._count += 1
            holding = Holding(subject, f"{self._name}{self._count:x}")
            found = self._held[name] = _Held(holding, Share(self._workers))
        elif found.holding.subject.limits != subject.limits:
            found.holding.adapt(subject)
        return found

    async def _more(self, one: _Held, amounts: Amounts) -> Taken:
        """Ask for what a request lacks; those who ask in the meantime are asked for together.

        Raises: LimitReached: it was not given; DependencyError.
        """
        never = one.holding.refusal(self._time_ms(), amounts)
        if never.wait_ms is None:
            raise never.error()
        one.wanting += 1
        try:
            return await self._wait(one, amounts)
        except DependencyError:
            return await self._take_alone(one, amounts)
        finally:
            one.wanting -= 1

    async def _wait(self, one: _Held, amounts: Amounts) -> Taken:
        waiter = _Waiter(amounts, asyncio.get_running_loop().create_future())
        one.waiting.append(waiter)
        if len(one.waiting) == 1:
            task = asyncio.create_task(self._ask(one))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        try:
            return await waiter.taken
        except asyncio.CancelledError:
            if waiter.taken.done() and not waiter.taken.cancelled() and waiter.taken.exception() is None:
                self.end([waiter.taken.result()], 0, 0, released=True)
            raise

    async def _ask(self, one: _Held) -> None:
        """Ask for all who wait by the time that the call before has ended, and serve them in their order.

        What is asked for is given as a whole or not at all, and then the answer says what there is: it is asked for
        those who would fit into that, until all that wait are served or refused.
        """
        holding = one.holding
        async with one.calling:
            waiting, one.waiting = one.waiting, []
            for _ in range(_TRIES):
                waiting = [waiter for waiter in waiting if not waiter.taken.done()]
                if not waiting:
                    return
                known = holding.metered
                try:
                    await self._call(one, partial(_ask_for, holding, waiting))
                except Exception as error:
                    for waiter in waiting:
                        if not waiter.taken.done():
                            waiter.taken.set_exception(error)
                    return
                if holding.metered is known:  # else a limit was added for which nothing was asked
                    waiting = self._serve(holding, waiting)
            self._refuse(holding, waiting)

    def _serve(self, holding: Holding, waiting: Sequence[_Waiter]) -> list[_Waiter]:
        """Let those go on for whom there is enough, and refuse those for whom there can't be. Returns: the others."""
        now_ms = self._time_ms()
        some = [waiter for waiter in waiting if not waiter.taken.done()]
        left = []
        for waiter in some:
            if holding.fits(now_ms, waiter.amounts):
                waiter.taken.set_result(holding.take(now_ms, waiter.amounts))
            else:
                left.append(waiter)
        possible = holding.could_fit(waiter.amounts for waiter in left)
        self._refuse(holding, [waiter for waiter, fits in zip(left, possible, strict=True) if not fits])
        return [waiter for waiter, fits in zip(left, possible, strict=True) if fits]

    def _refuse(self, holding: Holding, waiting: Sequence[_Waiter]) -> None:
        for waiter in waiting:
            if not waiter.taken.done():
                waiter.taken.set_exception(holding.refusal(self._time_ms(), waiter.amounts).error())

    async def _call_quietly(self, one: _Held, write: Write) -> None:
        """The next beat reports the same, and more; a holding does not end before it was heard."""
        try:
            async with one.calling:
                await self._call(one, write)
        except DependencyError:
            return
        except Exception as error:
            _log.error("what was used of a shared limit was not reported", subject=one.holding.prefix, exc_info=error)

    async def _call(self, one: _Held, write: Write) -> None:
        """One call, again where the ledger has to be asked first.

        Raises: DependencyError: Redis is silent, or the ledger is where it has to be asked.
        """
        holding = one.holding
        loads: list[Load] = []
        for _ in range(_ROUNDS):
            now_ms, known = self._time_ms(), holding.metered
            wants = write(now_ms)
            meters = holding.meters
            holding.calls += 1
            args = lease_args(
                holding.account,
                holding.calls,
                meters,
                wants,
                known=holding.heard_ms is not None,
                lease_ms=self._lease_ms,
                not_after_ms=now_ms + int(self._deadline_s * 1000),
                loads=loads,
            )
            reply = await self._line.run(self._scripts.lease, holding.prefix, args, self._deadline_s)
            self._heard(reply[1])
            answer = reply_of(reply, meters)
            if isinstance(answer, Missing):
                loads = await self._load(EVERYONE, answer.counters, reply[1])
            elif isinstance(answer, Leased):
                agreed = holding.heard(self._time_ms(), meters, wants, answer.leases)
                _tell(one.share, known, reply[1], answer.leases[: len(known.meters)])
                if agreed:
                    return
        raise DependencyTimeout("redis", "redis found each call late, or the day turned while the ledger was asked")

    async def _take_alone(self, one: _Held, amounts: Amounts) -> Taken:
        """What the worker may admit by itself while Redis is silent.

        Raises: LimitReached; DependencyError: the ledger can't be asked.
        """
        self._count += 1
        holding, share = one.holding, one.share
        now_ms, name = self._time_ms(), f"{self._count:x}"
        outcome = share.admit(now_ms, EVERYONE, name, holding.metered, *amounts)
        if isinstance(outcome, Missing):
            for load in await self._load(EVERYONE, outcome.counters, now_ms):
                share.load(now_ms, load.meter, load.nano_usd)
            outcome = share.admit(now_ms, EVERYONE, name, holding.metered, *amounts)
        if isinstance(outcome, Missing):
            raise DependencyTimeout("redis", "redis is silent, and the day turned while the ledger was asked")
        if isinstance(outcome, Refused):
            raise outcome.error()
        taken = holding.take(now_ms, amounts)
        taken.alone = share, name
        return taken


def _tell(share: Share, known: Metered, now_ms: int, leases: Sequence[Lease]) -> None:
    """Redis answers: the share ends; what is left now is what the next one would be of."""
    if share.used:
        share.close()
    left = tuple(lease.left for lease in leases if lease.left is not None)
    if len(left) == len(leases):
        share.tell(now_ms, known, left)


def _ask_for(holding: Holding, waiting: Sequence[_Waiter], now_ms: int) -> list[Want]:
    return holding.ask(now_ms, [waiter.amounts for waiter in waiting if not waiter.taken.done()])
