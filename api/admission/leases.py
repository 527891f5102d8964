"""Leases of limits that all tenants share: requests take from what their worker holds, and here more is asked for.

`common.py` is the model of it, `holdings.py` what the worker holds.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from api.admission.common import Leased, Want
from api.admission.holdings import Amounts, Holding, Taken
from api.admission.model import Counter, Load, Missing, Refused
from api.admission.scripts import Scripts, lease_args, reply_of
from api.admission.share import Share
from core.dependency import DependencyError, DependencyTimeout
from core.limits import EVERYONE, Subject
from storage.scripts import ScriptLine

BEAT_S = 1.0
"""So often a worker reports what it used and gives back what no request takes."""
_ROUNDS = 4  # a call may come too late by the server's clock once, and miss money once for each turn of a period

Write = Callable[[int], list[Want]]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request for which there was too little in hand."""

    amounts: Amounts
    taken: asyncio.Future[Taken]


@dataclass(slots=True, eq=False)
class _Held:
    """A holding, its calls, which go one after the other, and those who wait for the next one."""

    holding: Holding
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
        self._share = Share(workers)
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
            if taken.alone is not None and released:
                self._share.release(self._time_ms(), taken.alone)
            elif taken.alone is not None:
                self._share.settle(self._time_ms(), taken.alone, tokens, nano_usd)

    async def run(self) -> None:
        """Report and give back, again and again; for a part of what is held goes back when it is late."""
        while True:
            await asyncio.sleep(BEAT_S)
            await self.beat()

    async def beat(self) -> None:
        """Report what was used and give back what no request took lately; holdings that nobody uses end."""
        for name, one in list(self._held.items()):
            if one.holding.idle and not one.calling.locked() and not one.waiting:
                del self._held[name]
        await self._call_all(lambda holding: holding.beat)

    async def close(self) -> None:
        """Give everything back."""
        await self._call_all(lambda holding: holding.last)

    def _held_of(self, subject: Subject) -> _Held:
        name = (subject.kind.value, subject.id)
        found = self._held.get(name)
        if found is None:
            self._count += 1
            found = self._held[name] = _Held(Holding(subject, f"{self._name}{self._count:x}"))
        elif found.holding.subject is not subject:
            found.holding.adapt(subject)
        return found

    async def _more(self, one: _Held, amounts: Amounts) -> Taken:
        """Ask for what a request lacks; those who ask in the meantime are asked for together.

        Raises: LimitReached: it was not given; DependencyError.
        """
        never = one.holding.refusal(self._time_ms(), amounts)
        if never.wait_ms is None:
            raise never.error()
        waiter = _Waiter(amounts, asyncio.get_running_loop().create_future())
        one.waiting.append(waiter)
        if len(one.waiting) == 1:
            task = asyncio.create_task(self._ask(one))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        try:
            return await waiter.taken
        except DependencyError:
            return await self._take_alone(one.holding, amounts)
        except asyncio.CancelledError:
            if waiter.taken.done() and not waiter.taken.cancelled() and waiter.taken.exception() is None:
                self.end([waiter.taken.result()], 0, 0, released=True)
            raise

    async def _ask(self, one: _Held) -> None:
        """Ask for all who wait by the time that the call before has ended, and serve them in their order."""
        holding = one.holding
        waiting: list[_Waiter] = []

        def write(now_ms: int) -> list[Want]:
            return holding.ask(now_ms, [waiter.amounts for waiter in waiting])

        async with one.calling:
            waiting, one.waiting = one.waiting, []
            try:
                await self._call(holding, write)
            except Exception as error:
                for waiter in waiting:
                    if not waiter.taken.done():
                        waiter.taken.set_exception(error)
                return
            if self._serve(holding, waiting):
                with suppress(DependencyError):  # what is too little for those who were refused is not kept from others
                    await self._call(holding, holding.last)

    def _serve(self, holding: Holding, waiting: Sequence[_Waiter]) -> bool:
        """Let those go on for whom there is enough. Returns: whether anybody was refused."""
        refused, now_ms = False, self._time_ms()
        for waiter in waiting:
            if waiter.taken.done():
                continue  # it was cancelled
            if holding.fits(now_ms, waiter.amounts):
                waiter.taken.set_result(holding.take(now_ms, waiter.amounts))
            else:
                waiter.taken.set_exception(holding.refusal(now_ms, waiter.amounts).error())
                refused = True
        return refused

    async def _call_all(self, write: Callable[[Holding], Write]) -> None:
        await asyncio.gather(*(self._call_quietly(one, write(one.holding)) for one in self._held.values()))

    async def _call_quietly(self, one: _Held, write: Write) -> None:
        with suppress(DependencyError):  # the next beat reports the same
            async with one.calling:
                await self._call(one.holding, write)

    async def _call(self, holding: Holding, write: Write) -> None:
        """One call, again where the ledger has to be asked first.

        Raises: DependencyError: Redis is silent, or the ledger is where it has to be asked.
        """
        loads: list[Load] = []
        for _ in range(_ROUNDS):
            now_ms, meters = self._time_ms(), holding.metered.meters
            wants = write(now_ms)
            holding.calls += 1
            args = lease_args(
                holding.account,
                holding.calls,
                meters,
                wants,
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
                holding.heard(meters, wants, answer.leases)
                self._tell(holding, reply[1], answer)
                return
        raise DependencyTimeout("redis", "redis found each call late, or the day turned while the ledger was asked")

    def _tell(self, holding: Holding, now_ms: int, answer: Leased) -> None:
        """Redis answers: shares end; what is left now is what they would be of."""
        if self._share.used:
            self._share.close()
        left = [lease.left for lease in answer.leases]
        known = tuple(amount for amount in left if amount is not None)
        if len(known) == len(left):
            self._share.tell(now_ms, holding.metered, known)

    async def _take_alone(self, holding: Holding, amounts: Amounts) -> Taken:
        """What the worker may admit by itself while Redis is silent.

        Raises: LimitReached; DependencyError: the ledger can't be asked.
        """
        self._count += 1
        now_ms, name = self._time_ms(), f"{self._count:x}"
        outcome = self._share.admit(now_ms, EVERYONE, name, holding.metered, *amounts)
        if isinstance(outcome, Missing):
            for load in await self._load(EVERYONE, outcome.counters, now_ms):
                self._share.load(now_ms, load.meter, load.nano_usd)
            outcome = self._share.admit(now_ms, EVERYONE, name, holding.metered, *amounts)
        if isinstance(outcome, Missing):
            raise DependencyTimeout("redis", "redis is silent, and the day turned while the ledger was asked")
        if isinstance(outcome, Refused):
            raise outcome.error()
        taken = holding.take(now_ms, amounts)
        taken.alone = name
        return taken
