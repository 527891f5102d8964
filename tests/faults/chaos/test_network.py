"""Each fault of a network between each pair of parts, under mixed load: clear answers, then everything as ever.

`CHAOS_SEED` names which faults the usual run takes; the long run takes all, and `CHAOS_PAIRS`, a list with commas,
chooses the pairs of one part of it.
"""

import asyncio
import os
import random
import time
from collections import Counter

import pytest

from tests.faults.chaos.house import PAIRS, House
from tests.faults.chaos.load import Seen, load, recovered
from tests.faults.chaos.trial import Figure, examine
from tests.support.proxy import MILD, Fault

pytestmark = pytest.mark.heavy  # every part is started

SEED = int(os.environ.get("CHAOS_SEED", "1"))
_CHOSEN = tuple(filter(None, os.environ.get("CHAOS_PAIRS", "").split(","))) or PAIRS
_FAULT_S = 2.5
_STARTED_S = 0.5


async def meet(house: House, pair: str, faults: list[Fault], seen: Seen) -> list[str]:
    """Have one fault after the other between two parts. Returns: what each met, for a person."""
    told = []
    for fault in faults:
        proxies = house.pairs[pair]
        before = [len(proxy.touches) for proxy in proxies]
        met = sum(proxy.met[fault] for proxy in proxies)
        began_s = time.monotonic()
        print(f"{pair} {fault.name.lower()} begins")
        held = house.network.faulty(MILD[fault], *proxies)
        await asyncio.to_thread(held.__enter__)
        await asyncio.sleep(_FAULT_S)
        await asyncio.to_thread(held.__exit__, None, None, None)
        ended_s = time.monotonic()
        took_s = await recovered(seen, time.monotonic())
        touches = sorted(at for proxy, count in zip(proxies, before, strict=True) for at in proxy.touches[count:])
        if fault is Fault.DOWN:  # who is refused by the kernel is not seen by the proxy
            touches = [began_s + 0.05 * step for step in range(int((ended_s - began_s) / 0.05))]
        under_way = seen.met(touches, began_s)
        outcomes = Counter(one.outcome for one in under_way)
        told.append(
            f"{pair} {fault.name.lower()}: {sum(proxy.met[fault] for proxy in proxies) - met} connections, "
            f"{len(under_way)} operations {dict(outcomes)}, right again after {took_s:.1f} s"
        )
        print(told[-1])
    return told


async def trial(house: House, plan: list[tuple[str, list[Fault]]], figure: Figure) -> None:
    """Meet all of the plan under one load, then look at everything."""
    before = house.processes()
    led = [house.gate.url]
    told: list[str] = []
    async with load(lambda: led[0], house.tenants) as seen:
        await recovered(seen, time.monotonic() - _STARTED_S)
        for pair, faults in plan:
            led[0] = house.url if pair == "client-gateway" else house.gate.url
            told += await meet(house, pair, faults, seen)
            led[0] = house.gate.url
    for line in told:
        figure(line)
    theirs = ("broken", "a silent", "never") if any(pair == "client-gateway" for pair, _ in plan) else ()
    await examine(house.books(), seen, house.gate.port, f"seed {SEED}", figure, theirs)
    assert house.processes() == before


async def test_some_faults_between_some_parts(house: House, figure: Figure) -> None:
    chance = random.Random(SEED)
    pairs = chance.sample(PAIRS, len(Fault))
    faults = chance.sample(list(Fault), len(Fault))
    await trial(house, [(pair, [fault]) for pair, fault in zip(pairs, faults, strict=True)], figure)


@pytest.mark.long
@pytest.mark.parametrize("pair", _CHOSEN)
async def test_every_fault_between_two_parts(house: House, pair: str, figure: Figure) -> None:
    await trial(house, [(pair, list(Fault))], figure)


def test_the_pairs_are_all_that_talk(house: House) -> None:
    assert set(house.pairs) == set(PAIRS)
