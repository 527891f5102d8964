"""`./stoker test`: environments, static checks, tests; then a look whether anything was left running."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cli import environments
from cli.console import err, short_time
from cli.errors import CliError
from cli.process import ProcessId, adopt_orphans, command_of, descendants, kill_all, marked
from cli.settings import ROOT, Engine

_MARKER = "STOKER_TEST_RUN"
_GRACE_S = 3.0  # what was told to end may still be ending


class Extent(StrEnum):
    """How much of the suite runs."""

    FAST = "not vllm and not long"
    USUAL = "not long"
    LONG = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the run."""

    name: str
    command: tuple[str, ...]


def run_tests(extent: Extent, arguments: Sequence[str]) -> None:
    """Run everything, stopping at the first step that fails.

    Raises: CliError: a step failed, or processes were left running.
    """
    started_s = time.monotonic()
    for environment in (environments.TEST, environments.SDK, environments.inference(Engine.VLLM_CPU)):
        environment.ensure()
    err.print(f"environments: {short_time(time.monotonic() - started_s)}")
    run_id = secrets.token_hex(8)
    adopt_orphans()
    try:
        for step in _steps(extent, arguments):
            _run(step, run_id)
    except KeyboardInterrupt:
        raise CliError("the run was interrupted", "run it again") from None
    finally:
        left = _left_over(run_id)
    if left:
        raise CliError(
            f"{len(left)} processes were left running (and have been killed): {'; '.join(left)}",
            "the test that starts them must end them",
        )
    err.print(f"[green]all passed, nothing left running[/green] ({short_time(time.monotonic() - started_s)})")


def _steps(extent: Extent, arguments: Sequence[str]) -> list[Step]:
    binaries = environments.TEST.folder / "bin"
    python = str(environments.TEST.python)
    selection = ("-m", extent.value) if extent.value else ()
    return [
        Step("ruff check", (str(binaries / "ruff"), "check", ".")),
        Step("ruff format", (str(binaries / "ruff"), "format", "--check", ".")),
        Step("mypy", (python, "-m", "mypy")),
        Step("import-linter", (str(binaries / "lint-imports"),)),
        Step("pytest", (python, "-m", "pytest", *selection, *arguments)),
    ]


def _run(step: Step, run_id: str) -> None:
    err.print(f"[bold]{step.name}[/bold]")
    started_s = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), _MARKER: run_id}
    # Tests must see only the settings they make themselves.
    environment = {
        name: value for name, value in environment.items() if not name.startswith("STOKER_") or name == _MARKER
    }
    process = subprocess.Popen(step.command, cwd=ROOT, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # the terminal has sent it already; a `kill` has not
        process.wait()
        raise
    seconds = short_time(time.monotonic() - started_s)
    if code != 0:
        err.print(f"[red]{step.name} failed[/red] after {seconds}")
        raise CliError(
            f"{step.name} failed with code {code}", f"mend what it names above; alone: {' '.join(step.command)}"
        )
    err.print(f"[dim]{step.name}: {seconds}[/dim]")


def _left_over(run_id: str) -> list[str]:
    """Kill what the run left behind. Returns: its command lines."""

    def find() -> list[ProcessId]:
        # By the marker, and by descent: orphans become children of this process.
        return list(dict.fromkeys([*marked(_MARKER, run_id), *descendants(os.getpid())]))

    end_s = time.monotonic() + _GRACE_S
    while (left := find()) and time.monotonic() < end_s:
        time.sleep(0.1)
    names = [f"{process.pid} {command_of(process.pid)}" for process in left]
    kill_all(find)
    return names
