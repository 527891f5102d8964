"""Counts of the hot path: held for a moment, and none lost."""

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.tally import PERIOD_S, Tally


def _series() -> tuple[CollectorRegistry, Counter, Gauge]:
    registry = CollectorRegistry()
    return registry, Counter("seen", "Seen.", registry=registry), Gauge("running", "Running.", registry=registry)


async def test_what_is_held_reaches_its_series_by_itself() -> None:
    registry, seen, running = _series()
    tally = Tally()
    for _ in range(3):
        tally.add(seen)
        tally.add(running)
    tally.add(running, -1)
    assert registry.get_sample_value("seen_total") == 0, "passed on at once: nothing is saved"
    for _ in range(100):
        await asyncio.sleep(PERIOD_S / 2)
        if registry.get_sample_value("seen_total"):
            break
    assert registry.get_sample_value("seen_total") == 3
    assert registry.get_sample_value("running") == 2
    tally.add(seen, 4)
    tally.flush()
    assert registry.get_sample_value("seen_total") == 7


async def test_observations_are_held_and_passed_on_with_counts() -> None:
    registry, seen, _ = _series()
    taken = Histogram("taken", "Taken.", registry=registry, buckets=(1, 2))
    tally = Tally()
    for value in (0.5, 1.5, 1.5, 3.0):
        tally.observe(taken, value)
        tally.add(seen)
    assert registry.get_sample_value("taken_count") == 0
    tally.flush()
    assert registry.get_sample_value("taken_sum") == 6.5
    counts = {le: registry.get_sample_value("taken_bucket", {"le": le}) for le in ("1.0", "2.0", "+Inf")}
    assert counts == {"1.0": 1, "2.0": 3, "+Inf": 4}
    assert registry.get_sample_value("seen_total") == 4
    tally.flush()
    assert registry.get_sample_value("taken_count") == 4


def test_without_an_event_loop_every_count_is_passed_on() -> None:
    registry, seen, _ = _series()
    Tally().add(seen, 2)
    assert registry.get_sample_value("seen_total") == 2


def test_a_loop_that_ended_early_does_not_stop_the_next() -> None:
    registry, seen, _ = _series()
    tally = Tally()

    async def count() -> None:
        tally.add(seen)

    async def count_and_stay() -> None:
        tally.add(seen)
        for _ in range(100):
            await asyncio.sleep(PERIOD_S / 2)
            if registry.get_sample_value("seen_total"):
                break

    asyncio.run(count())
    assert registry.get_sample_value("seen_total") == 0
    asyncio.run(count_and_stay())
    assert registry.get_sample_value("seen_total") == 2
