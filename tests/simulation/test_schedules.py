"""Router and admission together, on a virtual clock, through thousands of random schedules of calls and faults."""

import asyncio
import gc
import logging
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import structlog

from tests.simulation.house import House
from tests.simulation.loop import Deadlock, LoopClock, VirtualLoop
from tests.simulation.trace import Trace

FOUND = (991, 2036)  # an end that overtook its beginning, after a restart and on the next connection
FEW, SOME, MANY = 60, 150, 4_000
_SHOWN = 60
_NEEDED = [
    *"calls whole failed departures rescues retries flaws full probes ejections crashed wedged stopped slow".split(),
    *"silences cuts restarts adopted".split(),
    *("cut off", "admitted alone", "breaker open", "breaker closed", "ledger outages", "leases ended"),
    *("refused: parallel", "refused: requests", "refused: tokens", "refused: usd_day"),
]


@pytest.fixture(scope="module", autouse=True)
def _in_silence() -> Iterator[None]:
    """Drop the logs, tens of thousands of lines; and spare the collector what was there before."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    structlog.configure(**before)


def run(seed: int) -> Trace:
    """One schedule."""
    loop = VirtualLoop()
    trace = Trace(loop)
    random.seed(seed)

    async def main() -> None:
        await House(seed, loop, trace).run()

    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
    except Deadlock as error:
        trace.hold(False, str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        trace.hold(False, f"{error!r} at {where.filename}:{where.lineno}")
    finally:
        _cancel_all(loop)
        loop.close()
    return trace


def _cancel_all(loop: VirtualLoop) -> None:
    """End what a broken schedule has left."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def shown(seed: int, trace: Trace) -> str:
    lines = "\n".join(trace.lines[-_SHOWN:])
    return f"seed {seed}: {trace.broken[0]}\n(of {len(trace.broken)})\n{lines}"


def test_a_loop_with_nothing_to_wait_for_says_so() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    with pytest.raises(Deadlock, match="deadlock"):
        loop.run_until_complete(wait())
    _cancel_all(loop)
    loop.close()


def test_hours_pass_at_once() -> None:
    async def wait() -> float:
        before_s = LoopClock(loop).time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3_600):
                await asyncio.sleep(7_200)
        return LoopClock(loop).time() - before_s

    loop = VirtualLoop()
    assert loop.run_until_complete(wait()) == pytest.approx(3_600)
    loop.close()


def test_the_same_seed_takes_the_same_steps() -> None:
    for seed in range(6):
        assert run(seed).lines == run(seed).lines


@pytest.mark.parametrize("seed", FOUND)
def test_schedules_that_found_a_defect_find_none_any_more(seed: int) -> None:
    trace = run(seed)
    assert not trace.broken, shown(seed, trace)


@pytest.mark.parametrize(
    "schedules",
    [
        pytest.param(FEW, marks=pytest.mark.light),
        pytest.param(SOME, marks=pytest.mark.heavy),
        pytest.param(MANY, marks=pytest.mark.long),
    ],
)
def test_random_schedules_keep_every_promise(schedules: int, figure: Callable[[str], None]) -> None:
    counts: Counter[str] = Counter()
    for seed in range(schedules):
        trace = run(seed)
        if trace.broken:
            pytest.fail(shown(seed, trace), pytrace=False)
        counts += trace.counts
        counts["schedules"] += 1
    figure(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    assert [name for name in _NEEDED if not counts[name]] == [], "what the schedules are to show has to happen"
