"""Many streams, each cut somewhere, some of them twice: all end whole, and no word is lost or said twice."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from router.call import Call
from router.deployment import Deadlines
from router.router import Router, open_router
from tests.faults.router.calls import PATIENT, TOOLS, chat, completion, deployment
from tests.integration.router.calls import config
from tests.support.exact.check import Got, expected, take
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.server import ExactServer, exact_server

_AT_ONCE = 16
_TWICE = 0.2  # of the streams


@dataclass
class Counts:
    """How the streams ended."""

    whole: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, call: Call, got: Got) -> None:
        self.ways.update(rescue["how"] for rescue in got.rescued)
        self.wrong += [f"{call.request_id}: {complaint}" for complaint in got.wrong]
        self.whole += not got.wrong


def _call(rng: random.Random, group: str) -> Call:
    limit = rng.choice([12, 24, 48])
    match rng.randrange(10):
        case 0:
            return chat(group=group, tools=TOOLS, max_tokens=400)
        case 1:
            return chat(group=group, response_format={"type": "json_object"}, max_tokens=400)
        case 2:
            # A prompt of one word: the model ends none of its first dozen tokens.
            return completion(group=group, max_tokens=limit, prompt=f" sea {rng.randrange(10)}")
    return chat(group=group, max_tokens=limit)


def _cuts(rng: random.Random, tokens: int) -> deque[Failure]:
    """Where a stream of so many tokens is cut; the second cut counts from where it goes on."""
    first = rng.randrange(1, tokens)
    cuts = deque([Failure(Fault.CUT, at=first)])
    if rng.random() < _TWICE and tokens - first > 2:
        cuts.append(Failure(Fault.CUT, at=rng.randrange(1, tokens - first)))
    return cuts


async def _run(router: Router, servers: list[ExactServer], count: int, seed: int) -> Counts:
    rng = random.Random(seed)
    counts, places = Counts(), asyncio.Semaphore(_AT_ONCE)

    async def one(call: Call) -> None:
        async with places:
            counts.add(call, await take(servers[0].model, call, await router.open(call)))

    calls = [_call(rng, rng.choice(["ids", "ids", "texts"])) for _ in range(count)]
    for call in calls:
        servers[0].cuts[call.request_id] = _cuts(rng, len(expected(servers[0].model, call).tokens))
    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(one(call))
    return counts


@pytest.mark.parametrize(
    "count", [pytest.param(100, marks=pytest.mark.light), pytest.param(1000, marks=pytest.mark.heavy)]
)
async def test_cuts(count: int, figure: Callable[[str], None]) -> None:
    """Three servers that tell their token ids, and three that don't, so that all ways are gone."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(exact_server()) for _ in range(6)]
        for server in servers:
            server.pause_s, server.cuts = 0.002, servers[0].cuts
        for server in servers[3:]:
            server.gives_ids = False
        deployments = [
            deployment(server, f"d{at}", group="ids" if at < 3 else "texts", breaker=PATIENT, deadlines=Deadlines())
            for at, server in enumerate(servers)
        ]
        router = await stack.enter_async_context(open_router(config(*deployments)))
        counts = await _run(router, servers, count, seed=count)
        cut = [served for server in servers for served in server.log if served.failed is Fault.CUT and not served.ended]
    running = sum(served.sent > 0 for served in cut)
    figure(
        f"{counts.whole} of {count} streams whole and right; {len(cut)} cuts, {running} of them after the first token; "
        f"gone on by {', '.join(f'{how} {times}' for how, times in counts.ways.most_common())}"
    )
    assert counts.wrong == []
    assert running >= count * 0.95
    assert set(counts.ways) == {"token_ids", "prefill", "replay"}
