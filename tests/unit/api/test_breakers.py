"""Who is out of turn is told to the metrics, and who is back, too."""

import asyncio
from types import SimpleNamespace

from prometheus_client import Gauge

from api.breakers import Breakers
from core.breaker import BreakerPolicy
from core.clock import ManualClock
from core.dependency import Dependency
from monitoring.metrics import DEPLOYMENT_EJECTED, DEPLOYMENT_OPEN, PART_OPEN


def _values(metric: Gauge) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for family in metric.collect() for sample in family.samples}


def _status(name: str, state: str = "closed", ejected: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(name=name, state=state, ejected=ejected)


def test_a_part_whose_breaker_is_not_closed_is_told_of_until_it_is_back() -> None:
    clock = ManualClock()
    part = Dependency("part-of-this-test", 1.0, policy=BreakerPolicy(1, 1.0, 1), clock=clock)
    breakers = Breakers((part,), SimpleNamespace(status=lambda: []))  # type: ignore[arg-type]
    asyncio.run(breakers.look())
    assert _values(PART_OPEN)["part-of-this-test",] == 0
    part.report(part.acquire(), ok=False)
    asyncio.run(breakers.look())
    assert _values(PART_OPEN)["part-of-this-test",] == 1
    clock.advance(2.0)
    permit = part.acquire()  # the probe: half open is not closed
    asyncio.run(breakers.look())
    assert _values(PART_OPEN)["part-of-this-test",] == 1
    part.report(permit, ok=True)
    asyncio.run(breakers.look())
    assert _values(PART_OPEN)["part-of-this-test",] == 0


def test_a_deployment_that_is_back_or_has_left_is_not_out_of_turn_any_more() -> None:
    found = [_status("first-here", "open"), _status("second-here", ejected="wedged")]
    breakers = Breakers((), SimpleNamespace(status=lambda: found))  # type: ignore[arg-type]
    asyncio.run(breakers.look())
    assert _values(DEPLOYMENT_OPEN)["first-here",] == 1
    assert _values(DEPLOYMENT_OPEN)["second-here",] == 0
    assert _values(DEPLOYMENT_EJECTED)["second-here", "wedged"] == 1
    found[:] = [_status("second-here", ejected="away")]
    asyncio.run(breakers.look())
    assert _values(DEPLOYMENT_OPEN)["first-here",] == 0
    assert _values(DEPLOYMENT_EJECTED)["second-here", "wedged"] == 0
    assert _values(DEPLOYMENT_EJECTED)["second-here", "away"] == 1
    found.clear()
    asyncio.run(breakers.look())
    assert _values(DEPLOYMENT_EJECTED)["second-here", "away"] == 0
