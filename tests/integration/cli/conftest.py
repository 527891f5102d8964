"""A supervisor of tiny children, run exactly as `up` runs the real one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.parts import Part, Plan, Probe
from cli.process import ProcessId, kill_all
from cli.settings import ROOT
from cli.state import PartStatus, StackState, take_lock
from tests.support.waiting import until

SERVE = "import time, sys; print('\"ready\"', flush=True); time.sleep(1000)"
# A child with a child of its own, which would outlive it, as vLLM's engine core would.
SERVE_WITH_CHILD = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']); {SERVE}"
)


def python_part(name: str, code: str = SERVE, **rest: object) -> Part:
    return Part(name, [sys.executable, "-c", code], Probe("log", text='"ready"'), **rest)  # type: ignore[arg-type]


class Stack:
    """One supervised stack in its own data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *parts: Part) -> "Stack":
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        plan = Plan(
            f"test-{time.time_ns()}",
            "http://127.0.0.1:1",
            "none",
            str(self.folder),
            str(ROOT),
            environment,
            list(parts),
        )
        lock = take_lock(self.run_dir)
        assert lock is not None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.supervisor"],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            text=True,
            pass_fds=(lock,),
            start_new_session=True,
        )
        os.close(lock)
        assert self.process.stdin is not None
        self.process.stdin.write(plan.to_json())
        self.process.stdin.close()
        until(lambda: StackState.load(self.run_dir))
        return self

    @property
    def state(self) -> StackState:
        state = StackState.load(self.run_dir)
        assert state is not None
        return state

    def part(self, name: str) -> PartStatus:
        return next(part for part in self.state.parts if part.name == name)

    def members(self) -> list[ProcessId]:
        """Every process of the run, the supervisor included."""
        return self.state.processes()

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def close(self) -> None:
        if self.process is None:
            return
        state = StackState.load(self.run_dir)
        self.process.kill()
        self.process.wait()
        if state is not None:
            kill_all(state.processes)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path)
    yield made
    made.close()
