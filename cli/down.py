"""Ending a stack so that nothing of it runs, whatever state it is in."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from cli.process import descendants, kill_all
from cli.state import StackState, holder

_ORDERLY_S = 75.0


def end_stack(run_dir: Path, deadline_s: float = _ORDERLY_S) -> bool:
    """Ask the supervisor to end everything in order; then kill what is left, its own remains included.

    Returns: whether anything was running.
    """
    state = StackState.load(run_dir)
    if state is None:
        return _end_preparation(run_dir, deadline_s)
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


def _end_preparation(run_dir: Path, deadline_s: float) -> bool:
    """End an `up` that is still installing or converting. Returns: whether there was one."""
    preparing = holder(run_dir)
    if preparing is None or preparing.pid == os.getpid() or not preparing.is_alive():
        return False
    helpers = descendants(preparing.pid)
    os.kill(preparing.pid, signal.SIGTERM)
    end_s = time.monotonic() + deadline_s
    while preparing.is_alive() and time.monotonic() < end_s:
        time.sleep(0.05)
    kill_all(lambda: [process for process in (preparing, *helpers) if process.is_alive()])
    return True
