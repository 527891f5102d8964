"""One probe of a resting deployment among all workers, agreed upon in Redis; where that is silent, one in each worker.

A worker's breaker lets one call through when the rest is over (`core/breaker.py`). Before that call is sent, this asks
whether another worker's is out already, or has shown something since: then the worker does as that one did.
"""

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial

from core.breaker import Breaker, BreakerState, Permit
from core.dependency import DependencyError
from router.choice import Member
from storage.redis import RedisClient
from storage.scripts import Script, ScriptLine

_DEADLINE_S = 0.1
_AGAIN_S = 0.2  # until it is asked again what another worker's probe has shown
_TOLD_S = 10.0
_PREFIX = "stoker:probe:"


class Probes:
    """Made for one worker; close it.

    Args:
        redis: None: this worker is the only one.
        clock: the script that says what the time is; tests pass one of theirs.
    """

    def __init__(self, redis: RedisClient | None, clock: str = "clock") -> None:
        self._line = None if redis is None else ScriptLine(redis)
        self._take = Script(clock, "probes/take")
        self._tell = Script(clock, "probes/tell")
        self._name = secrets.token_hex(4)
        self._out: dict[Breaker, str] = {}
        self._count = 0
        self._telling: set[asyncio.Task[None]] = set()

    def listen(self, members: Sequence[Member]) -> None:
        """Tell the other workers what their probes show."""
        if self._line is not None:
            for member in members:
                member.breaker.on_probe_end = partial(self._ended, member)

    async def clear(self, member: Member, permit: Permit) -> Permit | None:
        """Ask whether to make the probe that the permit is for.

        Returns: the permit to call with, which need be no probe any more; None: leave it alone, the permit is used up.
        """
        if self._line is None:
            return permit
        breaker = member.breaker
        self._count += 1
        name = f"{self._name}:{self._count}"
        args = (name, int(breaker.open_for_s * 1000), int(breaker.policy.probe_lease_s * 1000))
        try:
            said = await self._line.run(self._take, _key(member), args, _DEADLINE_S)
        except DependencyError:
            return permit
        except BaseException:
            breaker.withdraw(permit)
            raise
        if said == "go":
            self._out[breaker] = name
            return permit
        if said == "busy":
            breaker.elsewhere(permit, _AGAIN_S)
            return None
        breaker.learn(permit, ok=said == "works")
        return breaker.acquire() if said == "works" else None

    async def told(self) -> None:
        """Wait until the other workers can know of every probe that has ended."""
        await asyncio.gather(*self._telling)

    async def close(self) -> None:
        await self.told()
        if self._line is not None:
            await self._line.close()

    def _ended(self, member: Member, ok: bool | None) -> None:
        name = self._out.pop(member.breaker, None)
        if name is None:
            return
        if ok:  # one that needs several says nothing before the last
            shown = "works" if member.breaker.state is BreakerState.CLOSED else ""
        else:
            shown = "" if ok is None else "fails"
        task = asyncio.ensure_future(self._send(member, name, shown))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _send(self, member: Member, name: str, shown: str) -> None:
        assert self._line is not None
        try:
            await self._line.run(self._tell, _key(member), (name, shown, int(_TOLD_S * 1000)), _DEADLINE_S)
        except DependencyError:
            return  # the lease runs out, and the others find out by themselves


def _key(member: Member) -> str:
    return f"{_PREFIX}{member.deployment.name}@{member.deployment.api_base or ''}"
