"""Ending a stack so that nothing of it runs, whatever state it is in."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from cli.process import kill_all
from cli.state import StackState

_ORDERLY_S = 75.0


def end_stack(run_dir: Path, deadline_s: float = _ORDERLY_S) -> bool:
    """Ask the supervisor to end everything in order; then kill what is left, its own remains included.

    Returns: whether anything was running.
    """
    state = StackState.load(run_dir)
    if state is None:
        return False
    was_running = bool(state.processes())
    if state.supervisor.is_alive():
        with suppress(ProcessLookupError):
            os.kill(state.supervisor_pid, signal.SIGTERM)
        end_s = time.monotonic() + deadline_s
        while state.supervisor.is_alive() and time.monotonic() < end_s:
            time.sleep(0.05)
    latest = StackState.load(run_dir) or state  # parts may have been started anew meanwhile
    kill_all(latest.processes)
    StackState.forget(run_dir)
    return was_running
