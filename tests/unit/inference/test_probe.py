"""What says whether an engine works: by one token, or by figures that move."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference import probe
from tests.integration.router.test_watch import FakeEngine
from tests.integration.router.test_watch import running as engine_running
from tests.support.network import free_port


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(free_port(), moves=False)
    async with engine_running(engine):
        yield engine


async def alive(engine: FakeEngine, folder: Path, deadline_s: float = 5) -> bool:
    return await asyncio.to_thread(probe.alive, f"http://127.0.0.1:{engine.port}", "m", deadline_s, folder / "seen")


async def generates(engine: FakeEngine, deadline_s: float = 5) -> bool:
    return await asyncio.to_thread(probe.generates, f"http://127.0.0.1:{engine.port}", "m", deadline_s)


async def test_it_has_started_when_it_answers_a_token(engine: FakeEngine) -> None:
    assert await generates(engine)
    assert engine.bodies == [{"model": "m", "prompt": "Hello", "max_tokens": 1}]
    engine.computes.clear()
    assert not await generates(engine, deadline_s=0.3)


async def test_nobody_there_is_not_started(engine: FakeEngine) -> None:
    engine.port = free_port()
    assert not await generates(engine)


async def test_one_whose_figures_move_is_not_asked_for_more(engine: FakeEngine, tmp_path: Path) -> None:
    engine.computes.clear()  # it would not answer in time
    assert await alive(engine, tmp_path, 0.3), "nothing was seen before"
    for figure in ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:kv_cache_usage_perc"):
        engine.step(figure, 0.5)
        assert await alive(engine, tmp_path, 0.3), figure
    assert engine.bodies == []


async def test_one_that_stands_still_must_answer_a_token(engine: FakeEngine, tmp_path: Path) -> None:
    assert await alive(engine, tmp_path)
    assert await alive(engine, tmp_path)
    assert len(engine.bodies) == 1
    engine.computes.clear()  # wedged: its metrics are served on
    assert not await alive(engine, tmp_path, 0.3)


async def test_one_that_sleeps_as_it_was_told_is_alive(engine: FakeEngine, tmp_path: Path) -> None:
    engine.awake = False
    engine.computes.clear()
    assert await alive(engine, tmp_path, 0.3)
    assert await alive(engine, tmp_path, 0.3)
    assert engine.bodies == []


async def test_one_without_figures_is_not_alive(engine: FakeEngine, tmp_path: Path) -> None:
    engine.answers.clear()
    assert not await alive(engine, tmp_path, 0.3)


@pytest.mark.parametrize("what", ["started", "alive"])
async def test_the_command_reads_the_launchers_settings(
    engine: FakeEngine, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(probe.alive, "__defaults__", (tmp_path / "seen",))
    monkeypatch.setenv("STOKER_VLLM_MODEL", "somewhere")
    monkeypatch.setenv("STOKER_VLLM_SERVED_MODEL_NAME", "m")
    monkeypatch.setenv("STOKER_VLLM_PORT", str(engine.port))
    assert await asyncio.to_thread(probe.main, [what]) == 0
    monkeypatch.setenv("STOKER_VLLM_PORT", str(free_port()))
    assert await asyncio.to_thread(probe.main, [what]) == 1
