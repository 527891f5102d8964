"""The real engine freezes while its API server lives on: `/health` says 200, and the watch ejects it all the same.

vLLM computes in a process of its own, EngineCore; that one is stopped and let go on.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from core.reach import HOME
from inference import probe
from router.config import RouterConfig
from router.deployment import Deadlines, Deployment, LaneName
from router.health import Health
from router.router import Call, Router, open_router
from tests.support.engines import Engine, frozen
from tests.support.stack import Stack

pytestmark = pytest.mark.vllm

SLOWEST_STEP_S = 1.5  # of decoding on a CPU that others use too; its double is the patience, where it is more than 3 s
EJECTED_S = 3.0 + 2 * SLOWEST_STEP_S
BACK_S = 5.0


@pytest.fixture
def engine(stack: Stack) -> Engine:
    """The real vLLM of the whole stack."""
    process = stack.process("vllm")
    log = stack.data_dir / "logs" / "vllm.log"
    return Engine(f"http://127.0.0.1:{process['port']}", "smollm2-135m", process["pid"], log)


@asynccontextmanager
async def watched(engine: Engine) -> AsyncIterator[tuple[Router, Health]]:
    deployment = Deployment(
        "wedged", "g", engine.model, LaneName.NATIVE, False, api_base=f"{engine.url}/v1",
        deadlines=Deadlines(first_token_s=60, between_tokens_s=60),
    )  # fmt: skip
    async with open_router(RouterConfig([deployment])) as router:
        await asyncio.sleep(3)  # until it was looked at
        yield router, router.members()[0].health


def _story() -> Call:
    messages = [{"role": "user", "content": f"Tell a long story about the number {time.time_ns()}."}]
    body = {"model": "g", "messages": messages, "max_tokens": 2000, "ignore_eos": True, "stream": True}
    return Call("chat.completions", "g", body, True, HOME, "req_wedged", tenant="t")


async def _until(look: Callable[[], object], seconds: float) -> float:
    """Returns: how long it took."""
    began_s = time.monotonic()
    while not look():
        assert time.monotonic() < began_s + seconds, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began_s


async def _health_status(engine: Engine) -> int:
    async with httpx.AsyncClient(timeout=5) as client:
        return (await client.get(f"{engine.url}/health")).status_code


async def test_an_engine_that_freezes_in_a_stream_is_ejected_and_comes_back(
    engine: Engine, figure: Callable[[str], None]
) -> None:
    heard: list[str] = []
    async with watched(engine) as (router, health):
        health.on_eject(heard.append)
        answer = await router.open(_story())
        try:
            await asyncio.sleep(2)
            assert health.ejected is None
            with frozen(engine) as go_on:
                ejected_s = await _until(lambda: health.ejected, EJECTED_S)
                assert (health.ejected, heard) == ("wedged", ["wedged"])
                assert await _health_status(engine) == 200
                await asyncio.sleep(3)
                assert health.ejected == "wedged", "no probe can have been answered"
                go_on()
                back_s = await _until(lambda: health.ejected is None, BACK_S)
        finally:
            await answer.aclose()
    figure(f"ejected {ejected_s:.2f} s after it stopped, back {back_s:.2f} s after it went on")


async def test_an_engine_that_froze_while_it_was_idle_is_ejected_by_the_first_call_and_comes_back(
    engine: Engine, figure: Callable[[str], None]
) -> None:
    async with watched(engine) as (_, health):
        with frozen(engine) as go_on:
            await asyncio.sleep(4)
            assert health.ejected is None, "an idle engine is never wedged"
            flight = health.begin()
            ejected_s = await _until(lambda: health.ejected, EJECTED_S)
            assert health.ejected == "wedged"
            assert await _health_status(engine) == 200
            flight.end()
            go_on()
            back_s = await _until(lambda: health.ejected is None, BACK_S)
    figure(f"ejected {ejected_s:.2f} s after the call, back {back_s:.2f} s after it went on")


async def test_a_clusters_probe_tells_it_from_one_that_works(
    engine: Engine, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Twice with nothing to do, so that the figures stand still; then frozen; then at work again."""
    alive = partial(asyncio.to_thread, probe.alive, engine.url, engine.model)
    assert await asyncio.to_thread(probe.generates, engine.url, engine.model, 60)
    began_s = time.monotonic()
    assert [await alive(60, tmp_path / "seen") for _ in range(3)] == [True] * 3
    taken_s = (time.monotonic() - began_s) / 3
    with frozen(engine):
        assert await _health_status(engine) == 200
        assert [await alive(3, tmp_path / "seen") for _ in range(2)][-1] is False
    assert await asyncio.to_thread(probe.generates, engine.url, engine.model, 60)
    figure(f"a look takes {taken_s * 1000:.0f} ms")
