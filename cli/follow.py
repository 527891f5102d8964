"""Watching a stack come up: a live table on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Collection
from pathlib import Path

from rich.live import Live
from rich.table import Table

from cli.console import Steps, err
from cli.errors import CliError
from cli.logfiles import last_lines
from cli.settings import CliSettings
from cli.state import PartState, PartStatus, StackState

_EVERY_S = 0.2
_SAY_EVERY_S = 15.0
_TOO_OFTEN = 3
_COLOURS = {PartState.READY: "green", PartState.DONE: "green", PartState.RESTARTING: "red", PartState.WAITING: "dim"}
_SETTLED = (PartState.READY, PartState.DONE)


def until_ready(
    settings: CliSettings,
    run_id: str,
    names: Collection[str] | None,
    steps: Steps,
    shown: dict[str, PartState],
) -> None:
    """Return when the named parts (none: all) are ready; optional ones are not waited for.

    Args:
        shown: what has been said already, kept by the caller.

    Raises: CliError: the supervisor ended, or a part that is not optional failed three times in a row before it was
        ready.
    """
    waiting = Waiting(steps)
    with Live(console=err, auto_refresh=False, transient=True) as live:
        while True:
            state = current(settings, run_id)
            if err.is_terminal:
                live.update(_table(state, steps), refresh=True)
            else:
                say_changes(state, shown, steps)
                waiting.say(state)
            _refuse_hopeless(state, settings)
            if all(part.is_settled for part in state.parts if names is None or part.name in names):
                break
            time.sleep(_EVERY_S)
    if err.is_terminal and names is None:
        err.print(_table(current(settings, run_id), steps))


def current(settings: CliSettings, run_id: str) -> StackState:
    """The state of this run. Raises: CliError: its supervisor has ended."""
    state = StackState.load(settings.run_dir)
    if state is None or state.run_id != run_id or not state.supervisor.is_alive():
        raise _with_log("the supervisor has ended", settings.logs_dir / "supervisor.log", "./stoker up starts it again")
    return state


def say_changes(state: StackState, shown: dict[str, PartState], steps: Steps) -> None:
    """One line for each part whose state is not the one `shown` remembers."""
    for part in state.parts:
        if shown.get(part.name) is not part.state:
            shown[part.name] = part.state
            if part.state is not PartState.WAITING:
                steps.say(_line(part))


class Waiting:
    """Says every 15 s which parts are still starting: a large model loads for minutes."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._said: dict[str, int] = {}

    def say(self, state: StackState) -> None:
        for part in state.parts:
            seconds = int(_age_s(part) // _SAY_EVERY_S * _SAY_EVERY_S) if part.state is PartState.STARTING else 0
            if seconds > self._said.get(part.name, 0):
                doing = "loading the model" if part.name == "vllm" else "starting"
                self._steps.say(f"{part.name}: still {doing} ({seconds} s); log: ./stoker logs {part.name}")
            self._said[part.name] = seconds


def _age_s(part: PartStatus) -> float:
    """Seconds since its process began; 0: there is none."""
    process = part.process
    return 0.0 if process is None else process.uptime_s()


def _line(part: PartStatus) -> str:
    where = f" on port {part.port}" if part.port and part.state is PartState.READY else ""
    took = f" after {part.ready_after_s:.1f} s" if part.ready_after_s is not None and part.state in _SETTLED else ""
    why = f": {part.note}" if part.note and part.state is PartState.RESTARTING else ""
    return f"{part.name}: {part.state.value}{where}{took}{why}"


def _table(state: StackState, steps: Steps) -> Table:
    table = Table(
        "part", "state", "port", "seconds", "", box=None, title=f"{steps.elapsed_s:.0f} s", title_justify="left"
    )
    for part in state.parts:
        colour = _COLOURS.get(part.state, "yellow")
        seconds = "" if part.ready_after_s is None else f"{part.ready_after_s:.1f}"
        note = part.note if part.state is PartState.RESTARTING else ""
        table.add_row(part.name, f"[{colour}]{part.state.value}[/]", str(part.port or ""), seconds, note)
    return table


def _refuse_hopeless(state: StackState, settings: CliSettings) -> None:
    for part in state.parts:
        if part.failures >= _TOO_OFTEN and part.ready_after_s is None and not part.optional:
            remedy = "mend what the log names and run ./stoker up again"
            if part.name == "vllm":
                remedy += "; --engine none starts without a model server"
            log = settings.logs_dir / f"{part.name}.log"
            raise _with_log(f"{part.name} {part.note} {part.failures} times before it was ready", log, remedy)


def _with_log(message: str, log: Path, remedy: str) -> CliError:
    lines = "\n".join(f"    {line[:400]}" for line in last_lines(log, 12))
    return CliError(f"{message}; the last lines of {log}:\n{lines}", remedy)
