"""The gate lets in as many as there are places, the dearest first, and refuses who would come too late."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from core.clock import ManualClock
from core.priority import Priority
from router.errors import Overloaded
from router.gate import Gate, Place
from tests.simulation.loop import LoopClock, VirtualLoop

INTERACTIVE, NORMAL, BATCH = Priority


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def taking(gate: Gate, clock: ManualClock, seconds: float) -> None:
    """Have the gate learn how long a call takes."""
    place = await gate.enter(NORMAL)
    clock.advance(seconds)
    place.leave()


async def test_dearer_classes_go_first_and_equal_ones_in_their_order() -> None:
    gate, entered = Gate("g", 1, 5, ManualClock()), []

    async def come(name: str, priority: Priority) -> Place:
        place = await gate.enter(priority)
        entered.append(name)
        return place

    holder = await gate.enter(BATCH)
    coming = [("b1", BATCH), ("n1", NORMAL), ("b2", BATCH), ("i1", INTERACTIVE), ("n2", NORMAL), ("i2", INTERACTIVE)]
    tasks = []
    for name, priority in coming:
        tasks.append(asyncio.create_task(come(name, priority)))
        await turns()
    while gate.waiting:
        holder.leave()
        await turns()
        holder = next(task.result() for task in tasks if task.done() and task.result()._gate is not None)
    assert entered == ["i1", "i2", "n1", "n2", "b1", "b2"]
    holder.leave()
    assert gate.running == 0


async def test_who_would_come_too_late_is_refused_at_once_the_cheapest_first() -> None:
    clock = ManualClock()
    gate = Gate("g", 2, 1.0, clock)
    await taking(gate, clock, 0.5)  # two places, half a second each: a wait of a second has room for four
    holders = [await gate.enter(NORMAL) for _ in range(2)]
    waiting = [asyncio.create_task(gate.enter(NORMAL)) for _ in range(4)]
    await turns()
    began_s = time.monotonic()
    for priority in (NORMAL, BATCH):
        with pytest.raises(Overloaded, match=f"{priority} calls have to wait") as refused:
            await gate.enter(priority)
        assert refused.value.retry_after_s >= 1
    assert time.monotonic() - began_s < 0.8, "they waited, and were refused then"
    dear = asyncio.create_task(gate.enter(INTERACTIVE))
    await turns()
    holders[0].leave()
    await turns()
    assert dear.done()
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_waited_in_vain_is_refused_and_leaves_no_hole() -> None:
    gate = Gate("g", 1, 0.05, ManualClock())
    holder = await gate.enter(NORMAL)
    with pytest.raises(Overloaded):
        await gate.enter(INTERACTIVE)
    assert (gate.running, gate.waiting) == (1, 0)
    holder.leave()
    holder.leave()
    assert gate.running == 0
    (await gate.enter(NORMAL)).leave()


async def test_a_place_that_comes_while_its_caller_leaves_is_handed_on() -> None:
    gate = Gate("g", 1, 5, ManualClock())
    holder = await gate.enter(NORMAL)
    first, second = (asyncio.create_task(gate.enter(NORMAL)) for _ in range(2))
    await turns()
    holder.leave()
    first.cancel()
    await turns()
    assert first.cancelled()
    (await second).leave()
    assert (gate.running, gate.waiting) == (0, 0)


async def test_without_a_bound_nobody_waits() -> None:
    gate = Gate("g", None, 0.0, ManualClock())
    places = [await gate.enter(BATCH) for _ in range(500)]
    assert gate.running == 500
    for place in places:
        place.leave()
    assert gate.running == 0


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_there_are_never_more_than_places_and_none_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    gate = Gate("g", 3, 0.02, ManualClock())
    most = 0

    async def one() -> None:
        nonlocal most
        await asyncio.sleep(chance.uniform(0, 0.1))
        place = await gate.enter(chance.choice(list(Priority)))
        try:
            most = max(most, gate.running)
            await asyncio.sleep(chance.uniform(0, 0.005))
        finally:
            place.leave()

    tasks = [asyncio.create_task(one()) for _ in range(200)]
    for task in chance.sample(tasks, 60):
        asyncio.get_running_loop().call_later(chance.uniform(0, 0.15), task.cancel)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in ended} <= {type(None), Overloaded, asyncio.CancelledError}
    assert most == 3
    assert (gate.running, gate.waiting) == (0, 0)


@pytest.mark.parametrize("times", [1.2, 10.0])
def test_beyond_what_can_be_done_hardly_anybody_waits_in_vain(times: float, figure: Callable[[str], None]) -> None:
    loop, chance, ended = VirtualLoop(), random.Random(1), Counter[str]()
    places, takes_s, seconds = 16, 0.5, 40

    async def one(gate: Gate) -> None:
        came_s = loop.time()
        try:
            place = await gate.enter(NORMAL)
        except Overloaded:
            ended["at once" if loop.time() == came_s else "in vain"] += 1
            return
        await asyncio.sleep(takes_s * chance.uniform(0.4, 1.6))
        place.leave()
        ended["served"] += 1

    async def storm() -> None:
        gate = Gate("g", places, 1.0, LoopClock(loop))
        tasks, end_s = [], loop.time() + seconds
        while loop.time() < end_s:
            await asyncio.sleep(chance.expovariate(times * places / takes_s))
            tasks.append(asyncio.create_task(one(gate)))
        await asyncio.gather(*tasks)

    loop.run_until_complete(storm())
    loop.close()
    vain = ended["in vain"] / (ended["in vain"] + ended["at once"])
    served = ended["served"] * takes_s / places / seconds
    figure(f"{times:g} times what can be done: {served:.1%} of it is done, {vain:.2%} of the refused waited in vain")
    assert vain < 0.01, "a refusal at the 99th percentile took a caller's whole patience"
    assert served > 0.95
