"""What `up` says while parts start."""

import pytest

from cli import follow
from cli.console import Steps
from cli.follow import Waiting
from cli.state import PartState, PartStatus, StackState


def test_a_part_that_starts_for_long_says_so_every_15_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`up --detach` was silent for minutes while vLLM loaded its model."""
    vllm, worker = PartStatus("vllm", PartState.STARTING), PartStatus("worker", PartState.WAITING)
    state = StackState("run", "http://x", 1, 1, 0.0, "vllm-cpu", [vllm, worker])
    ages = {"vllm": 0.0, "worker": 0.0}
    monkeypatch.setattr(follow, "_age_s", lambda part: ages[part.name])
    waiting = Waiting(Steps())

    def said(seconds: float) -> list[str]:
        ages.update(vllm=seconds, worker=seconds)
        waiting.say(state)
        return [line.split(" s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]

    assert [line for second in range(0, 15) for line in said(second)] == []
    told = [line for tenth in range(150, 620) for line in said(tenth / 10)]
    assert told == [
        f"vllm: still loading the model ({seconds} s); log: ./stoker logs vllm" for seconds in (15, 30, 45, 60)
    ]
    vllm.state, worker.state = PartState.READY, PartState.STARTING
    assert said(75) == ["worker: still starting (75 s); log: ./stoker logs worker"]
    vllm.state, worker.state = PartState.STARTING, PartState.READY  # it died, and begins again
    assert said(3) == []
    assert said(16) == ["vllm: still loading the model (15 s); log: ./stoker logs vllm"]
