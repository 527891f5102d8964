"""Which deployment comes next: a group's deployments with their breakers, in turn."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from core.breaker import Breaker, BreakerState, Permit
from core.clock import Clock
from core.reach import Reach
from router.call import Call
from router.deployment import Deployment, Kind, LaneName
from router.gate import Gate
from router.health import Health, rest_outliers
from router.salt import salt_of
from router.strategy import Name as StrategyName
from router.strategy import Strategy
from router.trail import Trail, trail_of

_OUTLIERS_EVERY_S = 1.0


@dataclass(slots=True, eq=False)
class Member:
    """A deployment and what is known of its health in this process."""

    deployment: Deployment
    breaker: Breaker
    health: Health


class Group:
    """The deployments of one name.

    Args:
        share: processes that call them; each takes this part of the calls that they can take at once.
        patience_s: how long a call may wait for a place.
    """

    def __init__(
        self,
        name: str,
        deployments: Sequence[Deployment],
        clock: Clock,
        share: int = 1,
        patience_s: float = 20.0,
        strategy: Strategy | None = None,
    ) -> None:
        self.name = name
        self.strategy = strategy or Strategy(share=share)
        self.gate = Gate(name, _places(deployments, share), patience_s, clock, self._elsewhere)
        self._left: list[Health] = []
        self.members = [_member(deployment, clock) for deployment in deployments]
        self._share = share
        self._clock = clock
        self._looked_s = clock.monotonic()

    def follow(self, deployments: Sequence[Deployment], strategy: StrategyName) -> None:
        """Have other deployments from now on. What is known of those that stay is kept; calls under way go on."""
        before = {member.deployment.name: member for member in self.members}
        were = [member.health for member in self.members]
        if strategy != self.strategy.name:
            self.strategy = Strategy(strategy, self._share)
        self.members = [self._successor(deployment, before.pop(deployment.name, None)) for deployment in deployments]
        for name in before:
            self.strategy.leave(name)
        known = {member.health for member in self.members}
        self._left = [health for health in (*self._left, *were) if health not in known and health.in_flight]
        self.gate.resize(_places(deployments, self._share))

    def _elsewhere(self) -> int:
        """Calls at those that are draining or have left: they have no places, and are still inside."""
        leaving = sum(health.in_flight for health in self._left)
        return leaving + sum(member.health.in_flight for member in self.members if member.deployment.draining)

    def _is_current(self, member: Member) -> bool:
        """Whether it still takes calls: it may have been drained or removed while others were asked."""
        return any(
            now is member or (now.health is member.health and not now.deployment.draining) for now in self.members
        )

    def _successor(self, deployment: Deployment, before: Member | None) -> Member:
        if before is None:
            return _member(deployment, self._clock)
        if not deployment.same_engine(before.deployment):
            self.strategy.forget(deployment.name)
            return _member(deployment, self._clock)
        kept = deployment.breaker == before.deployment.breaker
        return Member(deployment, before.breaker if kept else Breaker(deployment.breaker, self._clock), before.health)

    def in_turn(
        self, *, reach: Reach, native_only: bool = False, trail: Trail | None = None
    ) -> Iterator[tuple[Member, Permit]]:
        """Deployments to try, each at most once; report to its breaker or withdraw from it.

        One whose rest is over comes first, as its single probe: a group in which it only came after the healthy ones
        would never have it back. Then the healthy ones, in the order of the group's strategy. Ejected ones come last,
        where nobody else could answer: one that is wedged by our judgement may be back already, or still be better than
        none. Only those that sleep are left out.

        Args:
            trail: of the prompt, where the strategy looks at it.
        """
        self._rest_outliers()
        members = self.eligible(reach=reach, native_only=native_only)
        for member in members:
            if member.health.gone_since_s is not None:
                self.strategy.forget(member.deployment.name)
        offered: set[str] = set()
        awake = [member for member in members if member.health.stopped != "asleep"]
        upright = [member for member in awake if not member.health.ejected]
        self.strategy.turn(upright)
        for wanted in (upright, awake):
            for member in sorted(self.strategy.order(wanted, trail), key=_is_closed):
                taken = member.deployment.name in offered or not self._is_current(member)
                permit = None if taken else member.breaker.acquire()
                if permit is not None:
                    offered.add(member.deployment.name)
                    yield member, permit

    def trail(self, call: Call) -> Trail | None:
        """The trail of a call's prompt, where its group looks at it; else None."""
        looks = self.strategy.wants_trail and call.needs == "chat" and len(self.members) > 1
        if not looks:
            return None
        salted = any(member.deployment.salted for member in self.members)
        return trail_of(call, salt_of(call.tenant) if salted else "")

    def eligible(self, *, reach: Reach, native_only: bool = False) -> list[Member]:
        """Those that such a call may go to, whatever their health."""
        return [
            member
            for member in self.members
            if not member.deployment.draining
            and _may_reach(reach, member.deployment)
            and (not native_only or member.deployment.lane is LaneName.NATIVE)
        ]

    def _rest_outliers(self) -> None:
        """Look for them, but not with every call."""
        now_s = self._clock.monotonic()
        if len(self.members) > 1 and now_s >= self._looked_s + _OUTLIERS_EVERY_S:
            self._looked_s = now_s
            rest_outliers([member.health for member in self.members])

    def may_have(self, reach: Reach) -> bool:
        """Whether text may go to any of them, whatever their health."""
        return any(_may_reach(reach, member.deployment) for member in self.members)

    def has_upright(self, *, reach: Reach, native_only: bool = False) -> bool:
        """Whether one that might be tried is not ejected."""
        return any(not member.health.ejected for member in self.eligible(reach=reach, native_only=native_only))

    def could_answer(self, asked: Collection[str], *, reach: Reach, native_only: bool = False) -> bool:
        """Whether nothing is known against one that might be tried, besides those that were `asked`."""
        return any(
            member.deployment.name not in asked
            and not member.health.ejected
            and member.breaker.state is BreakerState.CLOSED
            for member in self.eligible(reach=reach, native_only=native_only)
        )

    @property
    def kind(self) -> Kind:
        """What they are all for; the configuration allows no mixture."""
        return self.members[0].deployment.kind

    def retry_after_s(self, *, reach: Reach) -> float:
        """Seconds until one of them may be tried."""
        waits = [member.breaker.retry_after_s() for member in self.members if _may_reach(reach, member.deployment)]
        return min(waits, default=60.0)


def _may_reach(reach: Reach, deployment: Deployment) -> bool:
    return not deployment.hosted or reach.allows(deployment.provider, deployment.region)


def _member(deployment: Deployment, clock: Clock) -> Member:
    return Member(deployment, Breaker(deployment.breaker, clock), Health(deployment.name, clock))


def _is_closed(member: Member) -> bool:
    return member.breaker.state is BreakerState.CLOSED


def _places(deployments: Sequence[Deployment], share: int) -> int | None:
    """This process's part of the calls that they take at once, and one at least; None: as many as come."""
    bounds = [deployment.max_parallel for deployment in deployments if not deployment.draining]
    return None if None in bounds else max(1, sum(bound or 0 for bound in bounds) // share)


class RetryBudget:
    """Keeps retries within a share of all calls, so that they can't multiply the load on a group that is failing.

    Args:
        share: retries for each call.
        reserve: retries that may be saved up, and are there at the start.
    """

    def __init__(self, share: float = 0.2, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._saved = reserve

    def earn(self) -> None:
        """Count one call."""
        self._saved = min(self._reserve, self._saved + self._share)

    def spend(self) -> bool:
        """Take one retry; False when none is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
