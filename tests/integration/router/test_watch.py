"""The watch over real sockets: who stands still is ejected, who works again comes back, who is slow or idle stays."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from aiohttp import web

from router.config import RouterConfig
from router.deployment import Deployment, LaneName
from router.errors import UpstreamTimeout
from router.health import Health, HealthPolicy
from router.router import Router, open_router
from tests.integration.router.calls import DEADLINES, chat
from tests.support.network import free_port

STANDSTILL_S = 0.2
POLICY = HealthPolicy(
    poll_s=0.03,
    idle_poll_s=0.05,
    standstill_s=STANDSTILL_S,
    deadline_s=1.0,
    away_s=0.2,
    probe_every_s=0.05,
    probe_s=0.2,
)


@dataclass(slots=True)
class FakeEngine:
    """An API server and its engine, each of which can be stopped.

    Attributes:
        figures: what its metrics say; `step` moves them.
        computes: cleared, the engine stands still: requests get no answer, the metrics are served on.
        answers: cleared, the API server stands still: nothing gets an answer.
        names: its metrics can be asked for by name, as vLLM's can where one process serves them.
        serves_metrics: else it is a foreign server.
        moves: an answer moves the figures, as in any real engine.
        begins_streams: the head of an answer comes at once, as vLLM's does.
        can_be_woken: it has the route for it. `woken`: how often it was asked to.
        asked: looks, each with its path. `bodies`: requests for tokens. `cancelled`: those whose client left.
    """

    port: int
    figures: dict[str, float] = field(
        default_factory=lambda: {
            "vllm:num_requests_running": 0,
            "vllm:num_requests_waiting": 0,
            "vllm:kv_cache_usage_perc": 0,
            "vllm:generation_tokens_total": 7,
            "vllm:prompt_tokens_total": 7,
        }
    )
    awake: bool = True
    names: bool = True
    serves_metrics: bool = True
    moves: bool = True
    begins_streams: bool = False
    can_be_woken: bool = True
    woken: int = 0
    computes: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.computes.set()
        self.answers.set()

    def deployment(self, name: str = "a", **more: Any) -> Deployment:
        base = f"http://127.0.0.1:{self.port}/v1"
        return Deployment(name, "g", "m", LaneName.NATIVE, False, api_base=base, deadlines=DEADLINES, **more)

    def step(self, name: str = "vllm:generation_tokens_total", by: float = 1) -> None:
        self.figures[name] += by

    async def metrics(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        await self.answers.wait()
        by_name = request.path == "/metrics/"
        if not self.serves_metrics or (by_name and not self.names):
            raise web.HTTPNotFound
        lines = [f'{name}{{engine="0",model_name="m"}} {value}' for name, value in self.figures.items()]
        lines.append(f'vllm:engine_sleep_state{{engine="0",model_name="m",sleep_state="awake"}} {int(self.awake)}.0')
        return web.Response(text="\n".join(["# HELP vllm:num_requests_running of requests", *lines, ""]))

    async def completions(self, request: web.Request) -> web.Response:
        self.bodies.append(orjson.loads(await request.read()))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        try:
            await self.answers.wait()
            if self.begins_streams:
                await response.prepare(request)
            await self.computes.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.moves:
            self.step()
        return web.json_response({"choices": [{"index": 0, "text": "b", "finish_reason": "length"}]})

    async def wake_up(self, request: web.Request) -> web.Response:
        self.woken += 1
        if not self.can_be_woken:
            raise web.HTTPNotFound
        await asyncio.sleep(0.5)
        self.awake = True
        return web.json_response({"status": "awake", "tags": None})


@asynccontextmanager
async def running(engine: FakeEngine) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/metrics", engine.metrics)
    app.router.add_get("/metrics/", engine.metrics)
    app.router.add_post("/wake_up", engine.wake_up)
    for route in ("completions", "chat/completions", "embeddings"):
        app.router.add_post(f"/v1/{route}", engine.completions)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", engine.port).start()
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(free_port())
    async with running(engine):
        yield engine


@asynccontextmanager
async def watched(*deployments: Deployment, policy: HealthPolicy = POLICY) -> AsyncIterator[tuple[Router, Health]]:
    """A router and the health of its first deployment."""
    async with open_router(RouterConfig(deployments, health=policy)) as router:
        yield router, router.members()[0].health


async def until(look: Callable[[], object], seconds: float = 5) -> None:
    limit_s = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < limit_s, f"not within {seconds} s"
        await asyncio.sleep(0.01)


async def never(look: Callable[[], object], seconds: float = 1.5 * STANDSTILL_S) -> None:
    limit_s = time.monotonic() + seconds
    while time.monotonic() < limit_s:
        assert not look()
        await asyncio.sleep(0.01)


async def stays(health: Health, seconds: float = 2 * STANDSTILL_S) -> None:
    """It is not ejected, not even for a moment."""
    reasons: list[str] = []
    remove = health.on_eject(reasons.append)
    assert health.ejected is None
    await asyncio.sleep(seconds)
    remove()
    assert reasons == []


async def seen(engine: FakeEngine) -> None:
    """Wait until it has been looked at."""
    looks = len(engine.asked)
    await until(lambda: len(engine.asked) >= looks + 2)


async def test_an_engine_that_stands_still_with_work_is_ejected_and_comes_back(engine: FakeEngine) -> None:
    heard: list[str] = []
    async with watched(engine.deployment()) as (router, health):
        health.on_eject(heard.append)
        await seen(engine)
        engine.step("vllm:num_requests_running")
        engine.computes.clear()
        await until(lambda: health.ejected)
        assert (health.ejected, router.status()[0].ejected, heard) == ("wedged", "wedged", ["wedged"])
        await until(lambda: engine.cancelled)  # it holds no probe for ever
        await never(lambda: not health.ejected, 0.1)
        engine.computes.set()
        await until(lambda: health.ejected is None)
        engine.figures["vllm:num_requests_running"] = 0
    assert engine.bodies[-1] == {"model": "m", "prompt": "a", "max_tokens": 1, "temperature": 0}
    assert heard == ["wedged"]


async def test_a_long_prefill_in_which_only_kv_usage_moves_is_left_alone(engine: FakeEngine) -> None:
    async with watched(engine.deployment()) as (_, health):
        await seen(engine)
        engine.computes.clear()
        engine.step("vllm:num_requests_running")
        for _ in range(4):
            engine.step("vllm:kv_cache_usage_perc", 0.01)
            await stays(health, STANDSTILL_S / 2)


async def test_an_engine_that_stopped_while_it_was_idle_is_found_by_a_call_that_gets_no_answer(
    engine: FakeEngine,
) -> None:
    async with watched(engine.deployment()) as (_, health):
        await seen(engine)
        engine.computes.clear()
        await stays(health)
        flight = health.begin()
        await until(lambda: health.ejected == "wedged")
        flight.end()


@pytest.mark.parametrize("answered", [False, True])
async def test_a_call_that_takes_long_at_an_engine_without_work_is_no_reason(
    engine: FakeEngine, answered: bool
) -> None:
    """It may still be on its way to the engine, or the engine is done and its client is slow."""
    async with watched(engine.deployment()) as (_, health):
        await seen(engine)
        flight = health.begin()
        if answered:
            flight.answered()
            engine.computes.clear()
        await stays(health)
        assert bool(engine.bodies) is not answered
        flight.end()


@pytest.mark.parametrize("moves", [True, False])
async def test_figures_that_are_old_are_no_reason_where_a_probe_is_answered(engine: FakeEngine, moves: bool) -> None:
    engine.moves = moves
    engine.step("vllm:num_requests_running")
    async with watched(engine.deployment()) as (_, health):
        await stays(health)
        assert 1 <= len(engine.bodies) <= 6


async def test_a_server_that_answers_nothing_is_away_until_it_answers(engine: FakeEngine) -> None:
    async with watched(engine.deployment(), policy=replace(POLICY, deadline_s=0.15)) as (_, health):
        await seen(engine)
        engine.answers.clear()
        await until(lambda: health.ejected == "away")
        await never(lambda: not health.ejected, 0.1)
        assert not engine.bodies, "it is not probed while its metrics are silent"
        engine.answers.set()
        await until(lambda: health.ejected is None)


async def test_a_server_that_ended_is_away_until_it_is_started_again() -> None:
    engine = FakeEngine(free_port())
    async with watched(engine.deployment()) as (_, health):
        await stays(health, 0.2)
        async with running(engine):
            await until(lambda: len(engine.asked) >= 2)
        await until(lambda: health.ejected == "away")
        async with running(engine):
            await until(lambda: health.ejected is None)


async def test_a_sleeping_engine_gets_no_calls_and_no_probes(engine: FakeEngine) -> None:
    async with watched(engine.deployment()) as (_, health):
        engine.awake = False
        await until(lambda: health.ejected == "asleep")
        await never(lambda: engine.bodies, 0.2)
        engine.awake = True
        await until(lambda: health.ejected is None)


async def test_a_server_without_metrics_is_left_to_its_breaker(engine: FakeEngine) -> None:
    engine.serves_metrics = False
    async with watched(engine.deployment()) as (_, health):
        health.begin()
        engine.computes.clear()
        await stays(health)
        assert (len(engine.asked), engine.bodies) == (2, [])


async def test_an_ejected_server_that_serves_no_metrics_any_more_is_left_to_its_breaker(engine: FakeEngine) -> None:
    async with watched(engine.deployment()) as (_, health):
        await seen(engine)
        engine.computes.clear()  # so that no probe helps
        engine.awake = False
        await until(lambda: health.ejected)
        engine.serves_metrics = False
        await until(lambda: health.ejected is None)


@pytest.mark.parametrize("names", [True, False])
async def test_only_the_figures_needed_are_asked_for_where_the_server_can(engine: FakeEngine, names: bool) -> None:
    engine.names = names
    async with watched(engine.deployment()) as (_, health):
        await until(lambda: len(engine.asked) >= 3)
        engine.step("vllm:num_requests_running")
        engine.computes.clear()
        await until(lambda: health.ejected)
    assert engine.asked[0].startswith("/metrics/?name")
    assert (set(engine.asked[2:]) == {"/metrics"}) is not names


async def test_our_own_event_loops_standing_still_is_not_the_engines(engine: FakeEngine) -> None:
    async with watched(engine.deployment()) as (_, health):
        await seen(engine)
        engine.step("vllm:num_requests_running")
        engine.computes.clear()
        for _ in range(2):
            time.sleep(1.5 * STANDSTILL_S)  # noqa: ASYNC251 - which is the point
            await asyncio.sleep(0.02)
            assert health.ejected is None
        await until(lambda: health.ejected)


async def test_an_engine_that_makes_progress_but_has_a_queue_comes_back_without_a_probe(engine: FakeEngine) -> None:
    engine.figures["vllm:num_requests_waiting"] = 9
    async with watched(engine.deployment()) as (_, health):
        engine.computes.clear()
        await until(lambda: health.ejected)
        for _ in range(100):
            engine.step()
            await asyncio.sleep(0.02)
            if health.ejected is None:
                break
        assert health.ejected is None
        assert engine.computes.is_set() is False


async def test_an_idle_engine_is_looked_at_less_often_until_a_call_wakes_the_watch(engine: FakeEngine) -> None:
    async with watched(engine.deployment(), policy=replace(POLICY, idle_poll_s=60)) as (_, health):
        await until(lambda: engine.asked)
        await never(lambda: len(engine.asked) > 1, 0.2)
        engine.computes.clear()
        flight = health.begin()
        await until(lambda: len(engine.asked) > 5)
        await until(lambda: health.ejected == "wedged")
        flight.end()


async def test_calls_go_to_its_sibling_while_it_is_ejected(engine: FakeEngine) -> None:
    other = FakeEngine(free_port())
    async with running(other), watched(engine.deployment(), other.deployment("b")) as (router, health):
        await seen(engine)
        engine.step("vllm:num_requests_running")
        engine.computes.clear()
        await until(lambda: health.ejected)
        answers = [await router.open(chat()) for _ in range(4)]
        assert [answer.deployment.name for answer in answers] == ["b"] * 4
        assert all(body.get("max_tokens") == 1 for body in engine.bodies), "only probes"
        assert [status.ejected for status in router.status()] == ["wedged", None]


async def test_an_embedding_server_with_metrics_is_probed_on_its_own_route(engine: FakeEngine) -> None:
    async with watched(engine.deployment(kind="embedding")) as (_, health):
        await seen(engine)
        engine.step("vllm:num_requests_waiting")
        engine.computes.clear()
        await until(lambda: health.ejected)
        engine.computes.set()
        await until(lambda: health.ejected is None)
    assert engine.bodies[-1] == {"model": "m", "input": "a"}


async def test_nothing_is_watched_where_that_is_off_and_nothing_is_after_the_end(engine: FakeEngine) -> None:
    async with watched(engine.deployment(), policy=HealthPolicy(enabled=False)):
        await never(lambda: engine.asked, 0.2)
    async with watched(engine.deployment()):
        await seen(engine)
    looks = len(engine.asked)
    await never(lambda: len(engine.asked) > looks, 0.2)


@pytest.mark.parametrize("headers", [True, False])
async def test_the_first_tokens_clock_stands_still_while_the_engine_moves(engine: FakeEngine, headers: bool) -> None:
    """As in a long prompt, or in a queue: who left it would have to begin again elsewhere."""
    engine.begins_streams = headers
    deployment = replace(engine.deployment(), deadlines=replace(DEADLINES, first_token_s=0.4))
    async with watched(deployment) as (router, _):
        await seen(engine)
        engine.computes.clear()
        opening = asyncio.create_task(router.open(chat(stream=True)))
        for _ in range(20):
            await asyncio.sleep(0.06)
            engine.step("vllm:kv_cache_usage_perc", 0.01)
        assert not opening.done(), opening
        began_s = time.monotonic()
        (ended,) = await asyncio.gather(opening, return_exceptions=True)
        assert isinstance(ended, UpstreamTimeout), ended
        assert 0.2 < time.monotonic() - began_s < 20
