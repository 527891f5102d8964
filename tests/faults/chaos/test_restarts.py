"""Stores that are killed under mixed load and come back, Valkey with nothing in it."""

import asyncio
import time
from collections import Counter
from contextlib import AbstractContextManager

import pytest

from tests.faults.chaos.house import House
from tests.faults.chaos.load import load, recovered
from tests.faults.chaos.trial import Figure, examine

pytestmark = pytest.mark.heavy  # every part is started

_AWAY_S = 3.0


@pytest.mark.parametrize(
    "name",
    [
        "valkey",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("sql", "milvus", "embeddings", "worker", "keeper")),
    ],
)
async def test_what_was_killed_comes_back(house: House, name: str, figure: Figure) -> None:
    killed: AbstractContextManager[None] = house.postgres.killed() if name == "sql" else house.parts[name].killed()
    async with load(lambda: house.gate.url, house.tenants) as seen:
        await recovered(seen, time.monotonic())
        since_s = time.monotonic()
        await asyncio.to_thread(killed.__enter__)
        try:
            await asyncio.sleep(_AWAY_S)
        finally:
            await asyncio.to_thread(killed.__exit__, None, None, None)
        back_s = time.monotonic()
        took_s = await recovered(seen, back_s)
        met = Counter(one.outcome for one in seen.operations if one.ended_s >= since_s and one.began_s <= back_s)
    figure(f"{name} killed for {back_s - since_s:.1f} s: {dict(met)}, right again after {took_s:.1f} s")
    await examine(house.books(), seen, house.gate.port, name, figure)
