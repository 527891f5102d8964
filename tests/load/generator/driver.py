"""The two loops: requests at planned moments whatever comes back, or users who wait for their answers."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.load.generator.answer import Sample
from tests.load.generator.plan import Plan
from tests.load.generator.scenarios import Asked, Scenario
from tests.load.generator.wire import Wire


@dataclass
class Driven:
    """What one process of the client saw.

    Attributes:
        cpu_share: of one core, that the process used while it asked.
    """

    samples: list[Sample] = field(default_factory=list)
    cpu_share: float = 0.0


async def drive(plan: Plan, scenario: Scenario, url: str, key: str, zero_s: float, process: int = 0) -> Driven:
    """Carry out one process's part of a plan that begins when `time.monotonic` reads `zero_s`."""
    wire = Wire(url, key, plan.connections, plan.timeout_s, zero_s)
    driven = Driven()
    part = plan.part(process)
    began_s, used_s = wire.now(), _cpu_s()
    try:
        if plan.rate is not None:
            await _open(plan, scenario, wire, part, driven.samples)
        else:
            await asyncio.gather(*(_user(plan, scenario, wire, each, at, driven.samples) for each, at in part))
    finally:
        await wire.close()
    driven.cpu_share = (_cpu_s() - used_s) / max(wire.now() - max(began_s, 0.0), 1e-9)
    return driven


async def _open(
    plan: Plan, scenario: Scenario, wire: Wire, part: Sequence[tuple[int, float]], samples: list[Sample]
) -> None:
    running = set[asyncio.Task[float]]()
    for number, at_s in part:
        asked = scenario.begin(number)
        await _until(at_s, wire)
        task = asyncio.create_task(_session(plan, wire, asked, number, at_s, samples))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def _user(plan: Plan, scenario: Scenario, wire: Wire, user: int, at_s: float, samples: list[Sample]) -> None:
    """Ask, wait, think, and ask again, until the time is over."""
    chance, round_ = random.Random(f"{plan.seed}-user-{user}"), 0
    while at_s < plan.duration_s:
        number = user + round_ * plan.users
        asked = scenario.begin(number)
        await _until(at_s, wire)
        ended_s = await _session(plan, wire, asked, number, at_s, samples)
        at_s, round_ = ended_s + plan.think(chance), round_ + 1


async def _session(plan: Plan, wire: Wire, asked: Asked, number: int, at_s: float, samples: list[Sample]) -> float:
    """A request, or the turns of a conversation. Returns: when it was over."""
    chance = random.Random(f"{plan.seed}-session-{number}")
    while True:
        sample, text = await wire.ask(asked, number, at_s)
        samples.append(sample)
        if asked.then is None or sample.failure is not None:
            return sample.ended_s
        asked, at_s = asked.then(text), sample.ended_s + plan.think(chance)
        if at_s >= plan.duration_s:
            return sample.ended_s
        await _until(at_s, wire)


async def _until(at_s: float, wire: Wire) -> None:
    """Wait for a moment, and let others go on where it is over already."""
    await asyncio.sleep(max(0.0, at_s - wire.now()))


def _cpu_s() -> float:
    return time.process_time()
