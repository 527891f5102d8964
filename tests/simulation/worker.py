"""One gateway process of the simulation: the real router, watch, admission and metering."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from api.admission.admission import Admission, Ask
from api.ledger.ledger import Ledger
from api.metering import Metered, Size
from core.limits import Subject, SubjectKind
from core.principal import Principal, Role
from core.priority import Priority
from router.call import Call
from router.config import RouterConfig
from router.errors import Overloaded
from router.gate import Gate, Place
from router.http1 import Client
from router.native_lane import NativeLane
from router.router import Router
from router.watch import EngineWatch
from storage.redis import RedisClient
from tests.simulation.engines import Engine, EngineClient
from tests.simulation.loop import LoopClock, VirtualLoop
from tests.simulation.monitor import Monitor
from tests.simulation.store import TENANT, Lines, Store, StoreClient, scripts
from tests.simulation.trace import Trace

LEASE_S = 6.0
DEADLINE_S = 0.25
WORKERS = 2


class Worker:
    """Its parts, and what is seen of them.

    Attributes:
        no_retry_s: reading of the loop's clock when a retry was last refused for want of budget; full_s: when the gate
            of each group last refused somebody.
        shares: how often its share has been closed, so far.
    """

    def __init__(
        self,
        name: str,
        config: RouterConfig,
        engines: Mapping[str, Engine],
        store: Store,
        lines: Lines,
        loop: VirtualLoop,
        trace: Trace,
        patience_s: float,
        skew_s: float,
    ) -> None:
        self.name = name
        self.client = EngineClient(dict(engines))
        self.no_retry_s = 0.0
        self.full_s: dict[str, float] = {}
        self.shares = 0
        self.clock = LoopClock(loop, skew_s)
        self._lines = lines
        lane = NativeLane()
        lane._client = cast(Client, self.client)
        self.router = Router(config, lane, self.clock, WORKERS, patience_s)
        self.monitors = [Monitor(name, member, loop, trace) for member in self.router.members()]
        self._watches = [
            EngineWatch(member, config.health, cast(Client, self.client), self.clock)
            for member in self.router.members()
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self.admission = Admission(
            cast(RedisClient, StoreClient(store, self.clock)),
            lines.spent,
            self.clock,
            lease_s=LEASE_S,
            workers=WORKERS,
            deadline_s=DEADLINE_S,
            scripts=scripts(),
        )
        self._listen(loop, trace)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(watch.run()) for watch in self._watches]

    async def stop(self) -> None:
        """Raises: whatever ended a watch."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError) and result is not None:
                raise result

    async def admit(self, call: Call, subjects: tuple[Subject, ...], size: Size) -> Metered:
        """As `api.metering.Metering.admit`. Raises: LimitReached, DependencyError."""
        price = self.router.bound(call.group).price
        named = {subject.kind: subject.id for subject in subjects}
        ask = Ask(TENANT, call.request_id, subjects, size.tokens, size.nano_usd(price))
        reservation = await self.admission.admit(ask)
        principal = Principal(TENANT, named.get(SubjectKind.KEY), Role.MEMBER, team_id=named.get(SubjectKind.TEAM))
        ledger = cast(Ledger, self._lines)
        return Metered(
            self.admission, ledger, reservation, principal, call.kind, call.group, call.request_id, self.clock
        )

    def _listen(self, loop: VirtualLoop, trace: Trace) -> None:
        budget, share = self.router._budget, self.admission._share
        spend, close = budget.spend, share.close

        def spent() -> bool:
            if spend():
                trace.counts["retries"] += 1
                return True
            self.no_retry_s = loop.time()
            return False

        def closed() -> None:
            self.shares += 1
            close()

        for name, group in self.router._groups.items():
            group.gate.enter = self._entering(name, group.gate, loop)  # type: ignore[method-assign, assignment]
        budget.spend = spent  # type: ignore[method-assign]
        share.close = closed  # type: ignore[method-assign]

    def _entering(self, name: str, gate: Gate, loop: VirtualLoop) -> Callable[[Priority], Coroutine[Any, Any, Place]]:
        enter = gate.enter

        async def entered(priority: Priority) -> Place:
            try:
                return await enter(priority)
            except Overloaded:
                self.full_s[name] = loop.time()
                raise

        return entered
