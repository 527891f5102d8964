"""What engines and GPUs say of now, read from real servers that answer, hang, lie and lead elsewhere."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from api.engines.looking import Engine, Engines
from core.clock import ManualClock

ENGINE = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="a",engine="0"} 2.0
vllm:num_requests_running{model_name="a",engine="1"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="a",engine="0"} 4.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="a",engine="0"} 0.25
vllm:kv_cache_usage_perc{model_name="a",engine="1"} 0.5
"""
FIGURES = """# TYPE stoker_gpu_share_ratio gauge
stoker_gpu_share_ratio{host="h",gpu="0",UUID="GPU-1",deployment="one",model="a"} 0.75
stoker_gpu_share_ratio{host="h",gpu="0",UUID="GPU-1",deployment="two",model="b"} 0.25
stoker_gpu_share_ratio{host="h",gpu="1",UUID="GPU-2",deployment="",model=""} 1.0
# TYPE stoker_gpu_power_watts gauge
stoker_gpu_power_watts{host="h",gpu="0",UUID="GPU-1",deployment="one",model="a"} 300.0
stoker_gpu_power_watts{host="h",gpu="0",UUID="GPU-1",deployment="two",model="b"} 100.0
# TYPE stoker_gpu_active_ratio gauge
stoker_gpu_active_ratio{host="h",gpu="0",UUID="GPU-1",deployment="one",model="a"} 0.9
"""


class Servers:
    """One server with a path for each way to answer; `asked` counts them, `headers` are of the last one."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        match request.path:
            case "/engine/metrics":
                return web.Response(text=ENGINE)
            case "/figures":
                return web.Response(text=FIGURES)
            case "/garbage/metrics":
                return web.Response(text="<html>{{{")
            case "/leads/metrics":
                raise web.HTTPFound("/engine/metrics")
            case "/hangs/metrics":
                await asyncio.sleep(60)
        return web.Response(status=500)


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    found = Servers()
    app = web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_an_engine_tells_what_it_does_and_one_that_does_not_answer_says_nothing(servers: Servers) -> None:
    named = {name: f"{servers.url}/{name}/metrics" for name in ("engine", "garbage", "leads", "hangs", "fails")}
    async with aiohttp.ClientSession() as session:
        seen = await Engines(session, None, ManualClock()).look({**named, "away": "http://127.0.0.1:9/metrics"})
    first, *others = seen.engines
    assert first == Engine("engine", answers=True, running=3, waiting=4, kv_cache_usage=0.5)
    assert others == [Engine(name, answers=False) for name in ("garbage", "leads", "hangs", "fails", "away")]
    assert servers.asked.count("/engine/metrics") == 1  # nobody was led there
    assert "authorization" not in servers.headers
    assert "cookie" not in servers.headers
    assert seen.gpus == ()


async def test_gpus_are_told_with_the_models_that_run_on_them(servers: Servers) -> None:
    async with aiohttp.ClientSession() as session:
        seen = await Engines(session, f"{servers.url}/figures", ManualClock()).look({})
    first, second = seen.gpus
    assert (first.uuid, first.deployments, first.models) == ("GPU-1", ["one", "two"], ["a", "b"])
    assert (first.power_watts, first.active_ratio, first.memory_used_bytes) == (400.0, 0.9, None)
    assert (second.uuid, second.models, second.power_watts) == ("GPU-2", [], None)


async def test_who_looks_at_the_same_moment_sees_the_same(servers: Servers) -> None:
    clock = ManualClock()
    async with aiohttp.ClientSession() as session:
        engines = Engines(session, None, clock)
        named = {"engine": f"{servers.url}/engine/metrics"}
        await asyncio.gather(*(engines.look(named) for _ in range(5)))
        assert len(servers.asked) == 1
        clock.advance(1.5)
        await engines.look(named)
        assert len(servers.asked) == 2
