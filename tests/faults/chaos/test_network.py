"""Each fault of a network between each pair of parts, under mixed load: clear answers, then everything as ever.

`CHAOS_SEED` names which faults the usual run takes; the long run takes all, and `CHAOS_PAIRS`, a list with commas,
chooses the pairs of one part of it.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.faults.chaos.audit import Books, audit, places
from tests.faults.chaos.house import LEASE_S, PAIRS, PARALLEL, PRICE, House, opened
from tests.faults.chaos.load import CLEAR, EXACT, GOOD, KINDS, Seen, load
from tests.support.proxy import MILD, Fault

pytestmark = pytest.mark.heavy  # every part is started

SEED = int(os.environ.get("CHAOS_SEED", "1"))
_CHOSEN = tuple(filter(None, os.environ.get("CHAOS_PAIRS", "").split(","))) or PAIRS
_FAULT_S = 2.5
_RECOVERY_S = 60.0
_STARTED_S = 0.5
Figure = Callable[[str], None]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("chaos") / "house") as one:
        yield one


async def recovered(seen: Seen, since_s: float) -> float:
    """Wait until each kind of operation has ended well that began since then. Returns: seconds that took."""
    limit_s = time.monotonic() + _RECOVERY_S
    while True:
        well = {one.kind for one in seen.since(since_s) if one.outcome in GOOD}
        if well >= set(KINDS):
            return time.monotonic() - since_s
        if time.monotonic() > limit_s:
            last = [(one.kind, one.outcome) for one in seen.since(since_s) if one.kind not in well][-12:]
            pytest.fail(f"not right again: {set(KINDS) - well}, {last}", pytrace=False)
        await asyncio.sleep(0.1)


async def meet(house: House, pair: str, faults: list[Fault], seen: Seen) -> list[str]:
    """Have one fault after the other between two parts. Returns: what each met, for a person."""
    told = []
    for fault in faults:
        proxies = house.pairs[pair]
        before = [len(proxy.touches) for proxy in proxies]
        met = sum(proxy.met[fault] for proxy in proxies)
        began_s = time.monotonic()
        held = house.network.faulty(MILD[fault], *proxies)
        await asyncio.to_thread(held.__enter__)
        await asyncio.sleep(_FAULT_S)
        await asyncio.to_thread(held.__exit__, None, None, None)
        took_s = await recovered(seen, time.monotonic())
        touches = sorted(at for proxy, count in zip(proxies, before, strict=True) for at in proxy.touches[count:])
        under_way = seen.met(touches, began_s)
        outcomes = Counter(one.outcome for one in under_way)
        told.append(
            f"{pair} {fault.name.lower()}: {sum(proxy.met[fault] for proxy in proxies) - met} connections, "
            f"{len(under_way)} operations {dict(outcomes)}, right again after {took_s:.1f} s"
        )
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
    broken = Counter(one.outcome for one in seen.operations if one.outcome not in GOOD | CLEAR)
    if any(pair == "client-gateway" for pair, _ in plan):  # there it is the client's own line that breaks
        broken = Counter({what: count for what, count in broken.items() if not what.startswith(("broken", "a silent"))})
    assert not broken, broken
    await asyncio.sleep(LEASE_S + 1)
    books = Books(house.database_url, house.milvus_uri, house.folder, house.tenants, house.engines, PRICE)
    found = await audit(books, seen)
    figure(f"seed {SEED}: {sum(seen.outcomes().values())} operations {dict(seen.outcomes())}; {dict(found.counted)}")
    assert not found.wrong, found.wrong[:5]
    assert min(found.counted[what] for what in ("lines of whole answers", "documents ready")) > 0
    for tenant in house.tenants:
        free = await places(house.gate.port, tenant.key, EXACT, PARALLEL)
        assert free == Counter({200: PARALLEL}), f"places are still held: {free}"
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
