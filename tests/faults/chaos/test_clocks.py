"""The wall clock of Stoker's own processes, or Valkey's, is set by an hour under mixed load, forwards and back."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.chaos.load import load, recovered
from tests.faults.chaos.plain import plain
from tests.faults.chaos.trial import Figure, examine
from tests.support.faketime import Clock

pytestmark = pytest.mark.heavy  # every part is started

_HOUR_S = 3600.0
_STAYS_S = 5.0


def test_a_process_follows_the_clock_and_its_monotonic_clock_does_not(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    told = "import time; print(time.time(), time.monotonic())"
    clock.jump(_HOUR_S)
    done = subprocess.run(
        [sys.executable, "-c", told], env=clock.environment, capture_output=True, text=True, check=True
    )
    wall, monotonic = map(float, done.stdout.split())
    assert abs(wall - time.time() - _HOUR_S) < 60
    assert abs(monotonic - time.monotonic()) < 60


@pytest.mark.parametrize("whose", [pytest.param(whose, marks=pytest.mark.long) for whose in ("ours", "valkeys")])
async def test_a_clock_that_is_set(tmp_path: Path, whose: str, figure: Figure) -> None:
    clock = Clock(tmp_path / "clock")
    with plain(tmp_path / "house", **{whose: clock.environment}) as house:
        before = house.processes()
        async with load(lambda: house.gate.url, house.tenants) as seen:
            await recovered(seen, time.monotonic())
            for offset in (_HOUR_S, 0.0, -_HOUR_S, 0.0):
                since_s = time.monotonic()
                clock.jump(offset)
                await asyncio.sleep(_STAYS_S)
                took_s = await recovered(seen, since_s + 1.5)
                met = Counter(one.outcome for one in seen.operations if one.began_s >= since_s)
                figure(f"{whose} {offset:+g} s: {met.total()} operations {dict(met)}, right after {took_s:.1f} s")
        await examine(house.books(), seen, house.gate.port, f"clock, {whose}", figure)
        assert house.processes() == before
