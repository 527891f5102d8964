"""The supervisor with real, small processes: order, restarts, and above all nothing left behind."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from cli.down import end_stack
from cli.parts import Part, Probe
from cli.process import RUN_MARKER, marked
from cli.state import PartState, StackState, take_lock
from tests.integration.cli.conftest import SERVE, SERVE_WITH_CHILD, Stack, python_part
from tests.support.waiting import until

# Says goodbye into its log when it is asked to end.
_POLITE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0))); " + SERVE
)
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVE


def _all_ready(stack: Stack) -> bool:
    return stack.state.is_ready()


def test_a_part_starts_only_when_what_it_needs_is_ready(stack: Stack) -> None:
    slow = f"import time; time.sleep(1); {SERVE}"
    task = Part("task", [sys.executable, "-c", "pass"], Probe("exit"))
    stack.start(python_part("last", needs=["first", "task"]), python_part("first", slow), task)
    until(lambda: stack.part("first").state is PartState.STARTING)
    assert stack.part("last").state is PartState.WAITING
    until(lambda: _all_ready(stack))
    first, last = stack.part("first").process, stack.part("last").process
    assert first is not None
    assert last is not None
    assert last.started > first.started + 50  # clock ticks of 10 ms
    assert stack.part("task").state is PartState.DONE


def test_a_part_that_dies_is_started_again_with_growing_delays_and_this_is_said(stack: Stack) -> None:
    stack.start(python_part("frail", "import sys; print('no luck', flush=True); sys.exit(3)"))
    started_s = time.monotonic()
    until(lambda: stack.part("frail").restarts >= 3)
    assert time.monotonic() - started_s > 0.5 + 1.0  # the third restart is announced after both delays
    assert stack.part("frail").note == "exited with code 3"
    assert stack.part("frail").failures >= 3
    assert stack.log("frail").count("no luck") >= 3


def test_an_optional_part_that_keeps_failing_costs_the_stack_nothing(stack: Stack) -> None:
    frail = dataclasses.replace(python_part("frail", "import sys; sys.exit(3)"), optional=True)
    stack.start(frail, python_part("server", SERVE))
    until(lambda: stack.part("frail").restarts >= 2)
    until(lambda: _all_ready(stack))
    assert stack.part("server").restarts == 0
    assert stack.part("frail").failures >= 2


def test_a_killed_part_comes_back_under_a_new_pid_without_its_orphans(stack: Stack) -> None:
    stack.start(python_part("server", SERVE_WITH_CHILD))
    until(lambda: _all_ready(stack))
    before = stack.part("server").pid
    assert before is not None
    children = [process for process in marked(RUN_MARKER, stack.state.run_id) if process.pid != before]
    assert len(children) == 1
    os.kill(before, signal.SIGKILL)
    until(lambda: (part := stack.part("server")).state is PartState.READY and part.pid != before)
    assert stack.part("server").restarts == 1
    assert not children[0].is_alive()


def test_kill_9_of_the_supervisor_leaves_nothing_running(stack: Stack) -> None:
    stack.start(python_part("server", SERVE_WITH_CHILD), python_part("stubborn", _STUBBORN))
    until(lambda: _all_ready(stack))
    state = stack.state
    assert len(state.processes()) == 4  # supervisor, two parts, one part's child
    os.kill(state.supervisor_pid, signal.SIGKILL)
    assert stack.process is not None
    stack.process.wait()
    until(lambda: not state.processes(), seconds=5)


def test_parts_end_in_reverse_order_and_politely(stack: Stack) -> None:
    stack.start(python_part("base", _POLITE), python_part("top", _POLITE, needs=["base"]))
    until(lambda: _all_ready(stack))
    state = stack.state
    assert end_stack(stack.run_dir)
    assert not state.processes()
    assert stack.log("base").endswith("bye\n")
    assert stack.log("top").endswith("bye\n")
    folder = stack.folder / "logs"
    assert (folder / "top.log").stat().st_mtime_ns < (folder / "base.log").stat().st_mtime_ns
    assert StackState.load(stack.run_dir) is None


@pytest.mark.slow
def test_a_part_that_ignores_the_end_is_killed_after_its_deadline(stack: Stack) -> None:
    stack.start(python_part("stubborn", _STUBBORN, stop_s=0.5))
    until(lambda: _all_ready(stack))
    state, started_s = stack.state, time.monotonic()
    assert end_stack(stack.run_dir)
    assert 0.5 <= time.monotonic() - started_s < 30
    assert not state.processes()


@pytest.mark.slow
def test_down_ends_what_is_left_when_supervisor_and_watchman_were_both_killed(stack: Stack) -> None:
    stack.start(python_part("server", SERVE_WITH_CHILD))
    until(lambda: _all_ready(stack))
    state = stack.state
    assert stack.process is not None
    watchman = subprocess.run(
        ["pgrep", "-P", str(stack.process.pid), "-f", "cli.watchman"], capture_output=True, text=True
    )
    os.kill(int(watchman.stdout), signal.SIGKILL)
    os.kill(stack.process.pid, signal.SIGKILL)
    stack.process.wait()
    until(lambda: len(state.processes()) == 1, seconds=5)  # the part's child: nobody was there to end it
    assert end_stack(stack.run_dir)
    assert not state.processes()


def test_a_second_start_on_the_same_folder_finds_the_lock_taken(stack: Stack) -> None:
    stack.start(python_part("server"))
    assert take_lock(stack.run_dir) is None
    assert end_stack(stack.run_dir)
    lock = take_lock(stack.run_dir)
    assert lock is not None
    os.close(lock)


def test_a_part_that_never_becomes_ready_is_ended_and_counted_as_failed(stack: Stack) -> None:
    stack.start(python_part("mute", "import time; time.sleep(1000)", ready_s=0.5))
    until(lambda: stack.part("mute").failures >= 1)
    assert stack.part("mute").note == "ended by SIGTERM"


@pytest.mark.slow
def test_a_part_that_ends_on_sigint_does_so_although_the_supervisor_was_started_in_the_background(stack: Stack) -> None:
    polite = f"import atexit; atexit.register(lambda: print('closed', flush=True)); {SERVE}"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `command &`
    try:
        stack.start(python_part("server", polite, stop_signal=signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: _all_ready(stack))
    assert end_stack(stack.run_dir)
    assert "closed" in stack.log("server")


def test_a_disk_that_takes_nothing_ends_no_part(stack: Stack) -> None:
    """The supervisor could not write down that a part had died, and ended all the others."""
    stack.start(python_part("one", SERVE), python_part("other", SERVE))
    until(lambda: _all_ready(stack))
    run_id, first, other = stack.state.run_id, stack.part("one").pid, stack.part("other").process
    assert first is not None
    assert other is not None
    kept, file = stack.run_dir / "kept.json", stack.run_dir / "state.json"
    file.rename(kept)
    file.mkdir()  # nothing can be put in its place
    os.kill(first, signal.SIGKILL)

    def begun() -> list[int]:
        return [one.pid for one in marked(RUN_MARKER, run_id) if one.pid not in (first, other.pid)]

    until(begun, "the part is started again, or nothing runs any more")
    second = begun()
    file.rmdir()
    kept.rename(file)
    for pid in second:  # a change that can be written again
        os.kill(pid, signal.SIGKILL)
    until(lambda: _all_ready(stack) and stack.part("one").pid not in (None, first, *second))
    assert stack.part("other").process == other
