"""Prefix affinity where many talk at once: engines of a model that compute prompts and answers side by side.

An engine shares its time among its calls. It takes one unit for a block of a prompt that it does not hold, and a third
of one for a token of an answer; it forgets the prompts that were used longest ago. All randomness is seeded.
"""

import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from core.clock import ManualClock
from core.reach import ANYWHERE
from router.choice import Group, Member
from router.deployment import Deployment, LaneName
from router.health import Flight
from router.strategy import Name, Strategy
from router.trail import Trail, trail_of
from tests.unit.router.test_trail import call

_TURNS = 6
_TOKEN = 1 / 3
_ANSWER = 8  # tokens


@dataclass
class Asked:
    """A call that an engine works at."""

    number: int
    flight: Flight
    began: float
    reads: float
    writes: float = _ANSWER * _TOKEN

    @property
    def next_step(self) -> float:
        return self.reads or self.writes


@dataclass
class Engine:
    """One engine: what it holds, and what it works at."""

    blocks: int
    held: OrderedDict[int, None] = field(default_factory=OrderedDict)
    calls: list[Asked] = field(default_factory=list)

    def cached(self, trail: Trail) -> int:
        """Blocks of a prompt that it holds; afterwards it holds all of them."""
        count = next((at for at, block in enumerate(trail.blocks) if block not in self.held), len(trail.blocks))
        for block in reversed(trail.blocks):
            self.held[block] = None
            self.held.move_to_end(block)
        while len(self.held) > self.blocks:
            self.held.popitem(last=False)
        return count

    def next_step(self) -> float:
        return min(one.next_step for one in self.calls) * len(self.calls)


@dataclass
class Seen:
    """What became of all calls."""

    cached: int = 0
    best: int = 0
    first: list[float] = field(default_factory=list)
    took: float = 0.0
    over: float = 0.0  # calls of an engine beyond twice the mean, at most

    def __str__(self) -> str:
        mean = sum(self.first) / len(self.first)
        return f"{self.cached / self.best:.1%} of what could be cached, first token {mean:.0f}, all {self.took:.0f}"


class Model:
    """A group's engines, and conversations that go on as soon as somebody is free."""

    def __init__(self, strategy: Name, engines: int, conversations: int, shared: str, seed: int) -> None:
        self.of = random.Random(seed)
        deployments = [Deployment(f"d{at}", "g", "m", LaneName.NATIVE, False) for at in range(engines)]
        self.group = Group("g", deployments, ManualClock(), strategy=Strategy(strategy))
        self.said = [[f"{shared}document {number}: {self.of.randbytes(1600).hex()}"] for number in range(conversations)]
        blocks = int(1.25 * conversations / engines * (len(self.said[0][0]) + 400 * _TURNS) / 256)
        self.engines = {name.name: Engine(blocks) for name in deployments}
        self.before: dict[int, int] = {}
        self.seen = Seen()

    def run(self, at_once: int) -> Seen:
        for _ in range(_TURNS):
            waiting = self.of.sample(range(len(self.said)), len(self.said))
            while waiting or any(engine.calls for engine in self.engines.values()):
                while waiting and sum(len(engine.calls) for engine in self.engines.values()) < at_once:
                    self.ask(waiting.pop())
                self.step()
        return self.seen

    def ask(self, number: int) -> None:
        asked = call(*self.said[number])
        trail = trail_of(asked)
        member = self.chosen(trail)
        engine = self.engines[member.deployment.name]
        self.group.strategy.sent(member.deployment.name, trail)
        cached = engine.cached(trail)
        self.seen.cached += cached
        self.seen.best += max(self.before.get(number, 0), cached)
        self.before[number] = len(trail.blocks)
        flight = member.health.begin()
        engine.calls.append(Asked(number, flight, self.seen.took, max(1.0, len(trail.blocks) - cached)))
        calls = [one.health.in_flight for one in self.group.members]
        self.seen.over = max(self.seen.over, member.health.in_flight - 2 * sum(calls) / len(calls))

    def chosen(self, trail: Trail) -> Member:
        for member, permit in self.group.in_turn(reach=ANYWHERE, trail=trail):
            member.breaker.withdraw(permit)
            return member
        raise AssertionError("nobody")

    def step(self) -> None:
        """Until the first call has been read or answered."""
        passed = min(engine.next_step() for engine in self.engines.values() if engine.calls)
        self.seen.took += passed
        for engine in self.engines.values():
            each = passed / len(engine.calls) if engine.calls else 0.0
            for one in list(engine.calls):
                self.advance(engine, one, each)

    def advance(self, engine: Engine, one: Asked, units: float) -> None:
        if one.reads:
            one.reads = one.reads - units if one.reads - units > 1e-9 else 0.0
            if not one.reads:
                one.flight.answered()
                self.seen.first.append(self.seen.took - one.began)
            return
        one.writes -= units
        if one.writes <= 1e-9:
            one.flight.end(ok=True)
            engine.calls.remove(one)
            self.said[one.number] += ["I see.", self.of.randbytes(180).hex()]


@pytest.mark.parametrize(("engines", "at_once", "conversations"), [(2, 4, 12), (2, 16, 24), (8, 64, 96)])
@pytest.mark.parametrize(
    "shared", ["", "the same instructions for all " * 60], ids=["own documents", "a shared prompt"]
)
def test_many_conversations_find_their_caches(
    engines: int, at_once: int, conversations: int, shared: str, figure: Callable[[str], None]
) -> None:
    def played(strategy: Name) -> Seen:
        return Model(strategy, engines, conversations, shared, seed=7).run(at_once)

    least_busy, affine = played("least-busy"), played("prefix-affinity")
    figure(f"least busy: {least_busy}")
    figure(f"prefix affinity: {affine}")
    assert affine.cached >= 0.9 * affine.best
    assert sum(affine.first) < sum(least_busy.first)
    assert affine.over <= 2
