"""Two real engines, and conversations about documents that fill more than one engine's cache: who finds what there.

The engine's own counters say how many of the prompts' tokens were cached. The best that could be is what a cache
without an end would hold: all whole blocks of a conversation's turn before.
"""

import asyncio
import random
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.reach import HOME
from router.config import RouterConfig
from router.deployment import Deployment, LaneName
from router.router import Call, Router, open_router
from router.strategy import Name
from tests.support.engines import Engine, start_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.long]  # two engines are started, and compute for minutes

Figure = Callable[[str], None]

_BLOCK = 32  # tokens; the CPU engine takes multiples of it
_BLOCKS = 160  # of each engine: 5,120 tokens, where all conversations have some 8,500
_CONVERSATIONS, _TURNS, _AT_ONCE = 12, 6, 4
_WORDS = "harbour lighthouse keeper winter ledger engine valve pressure signal cargo rope tide pilot chart".split()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    flags = ("--extra-args", f'["--num-gpu-blocks-override", "{_BLOCKS}", "--block-size", "{_BLOCK}"]')
    with ExitStack() as stack:
        yield [
            stack.enter_context(start_vllm(tmp_path_factory.mktemp(f"replica-{core}"), core, ready_s=600, flags=flags))
            for core in range(2)
        ]


@dataclass
class Found:
    """What one strategy came to."""

    first_s: list[float] = field(default_factory=list)
    best: int = 0
    cached: float = 0.0
    asked: float = 0.0

    def __str__(self) -> str:
        first_ms = statistics.mean(self.first_s) * 1e3
        return (
            f"{self.cached:.0f} of {self.best} tokens that could be ({self.cached / max(self.best, 1):.1%}), "
            f"of {self.asked:.0f} in all; first token after {first_ms:.0f} ms on average"
        )


def _counters(engines: Sequence[Engine]) -> tuple[float, float]:
    """Tokens that were found in the caches, and that were looked for."""
    sums = {"vllm:prefix_cache_hits": 0.0, "vllm:prefix_cache_queries": 0.0}
    for engine in engines:
        with urllib.request.urlopen(f"{engine.url}/metrics", timeout=20) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                if family.name in sums:
                    sums[family.name] += sum(one.value for one in family.samples if one.name.endswith("_total"))
    return sums["vllm:prefix_cache_hits"], sums["vllm:prefix_cache_queries"]


async def _turn(
    router: Router,
    free: asyncio.Semaphore,
    model: str,
    said: list[str],
    found: Found,
    before: dict[int, int],
    number: int,
) -> None:
    """Ask the next question of one conversation, and the answer to it."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
    body = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0, "stream": True}
    call = Call("chat.completions", "g", body, stream=True, reach=HOME, request_id=f"{number}", tenant="t")
    async with free:
        began_s = time.monotonic()
        answer = await router.open(call)
        assert answer.frames is not None
        async for _ in answer.frames:
            pass
        await answer.aclose()
    assert answer.usage is not None
    assert answer.first_token_s is not None
    found.first_s.append(answer.first_token_s - began_s)
    found.best += before.get(number, 0) // _BLOCK * _BLOCK
    before[number] = answer.usage.prompt_tokens
    said += ["I see.", f"And what of {' '.join(random.Random(len(said)).choices(_WORDS, k=20))}?"]


async def _replay(engines: Sequence[Engine], strategy: Name, seed: int, *, turns: int = _TURNS) -> Found:
    """Conversations with documents of their own, some of them at once, in an order that changes."""
    of = random.Random(seed)
    deployments = [
        Deployment(f"replica-{at}", "g", engine.model, LaneName.NATIVE, False, api_base=f"{engine.url}/v1", on_cpu=True)
        for at, engine in enumerate(engines)
    ]
    said = [
        [f"Answer from this document, {seed} {number}: {' '.join(of.choices(_WORDS, k=500))}. What is it about?"]
        for number in range(_CONVERSATIONS)
    ]
    found, before = Found(), dict[int, int]()
    hits, queries = _counters(engines)
    async with open_router(replace(RouterConfig(deployments), strategy=strategy)) as router:
        for _ in range(turns):
            free = asyncio.Semaphore(_AT_ONCE)
            order = of.sample(range(_CONVERSATIONS), _CONVERSATIONS)
            await asyncio.gather(
                *(_turn(router, free, engines[0].model, said[number], found, before, number) for number in order)
            )
        assert {member.health.holds.kv_tokens for member in router.members()} == {_BLOCKS * _BLOCK}
    found.cached, found.asked = (now - then for now, then in zip(_counters(engines), (hits, queries), strict=True))
    return found


async def test_affinity_finds_nine_tenths_of_what_could_be_cached(engines: list[Engine], figure: Figure) -> None:
    in_turn = await _replay(engines, "simple-shuffle", 1)
    least_busy = await _replay(engines, "least-busy", 2)
    affine = await _replay(engines, "prefix-affinity", 3)
    figure(f"in turn: {in_turn}")
    figure(f"least busy: {least_busy}")
    figure(f"prefix affinity: {affine}")
    assert affine.cached >= 0.9 * affine.best
    assert affine.cached > in_turn.cached


async def test_affinity_costs_nothing_where_nothing_is_shared(engines: list[Engine], figure: Figure) -> None:
    """Conversations of one turn, each about a document of its own; which strategy comes first changes."""
    least_busy, affine = Found(), Found()
    for seed in range(4, 12, 2):
        pair: list[tuple[Name, Found]] = [("least-busy", least_busy), ("prefix-affinity", affine)]
        for at, (strategy, found) in enumerate(pair if seed % 4 else pair[::-1]):
            replayed = await _replay(engines, strategy, seed + at, turns=1)
            found.first_s += replayed.first_s
            found.asked += replayed.asked
    figure(f"nothing shared, least busy: {least_busy}")
    figure(f"nothing shared, prefix affinity: {affine}")
    figure(f"affinity takes {statistics.mean(affine.first_s) / statistics.mean(least_busy.first_s):.3f} times as long")
    assert len(affine.first_s) == len(least_busy.first_s) == 4 * _CONVERSATIONS
