"""`./stoker test` with steps of our own: what fails is named, and what is left running is found and ended."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.settings import ROOT

pytestmark = pytest.mark.slow
_RUN = """
import sys
from cli import environments, testrun
from cli.errors import CliError
environments.Environment.ensure = environments.NodeEnvironment.ensure = lambda self: None
testrun._GRACE_S = 0.3
testrun._plan = lambda extent, arguments: [
    [testrun.Step(f"step {at}", (sys.executable, "-c", code)) for at, code in enumerate(arguments)]
]
try:
    testrun.run_tests(testrun.Extent.FAST, sys.argv[1:])
except CliError as error:
    sys.exit(f"{error.message} / {error.remedy}")
"""
# A process that hides well: its own session, an empty environment, and a parent that has ended.
_HIDING = (
    "import subprocess; subprocess.Popen(['/bin/sh', '-c', 'sleep 987 & sleep 986'], env={}, start_new_session=True)"
)
# A step that asks whether a process lives whose parent has ended, as servers are asked for that were killed.
_ASKING = """
import os, subprocess, time
pid = int(subprocess.run(["/bin/sh", "-c", "sleep 0.2 >&2 & echo $!"], capture_output=True, text=True).stdout)
os.kill(pid, 0)
by_s = time.monotonic() + 10
while os.path.exists(f"/proc/{pid}"):
    assert time.monotonic() < by_s, "it still looks alive"
    time.sleep(0.05)
"""


def _run(*side_by_side: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _RUN, *side_by_side], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_a_run_that_leaves_nothing_passes() -> None:
    result = _run("import os; assert 'STOKER_TEST_RUN' in os.environ; assert 'STOKER_DATA_DIR' not in os.environ")
    assert result.returncode == 0, result.stderr
    assert "all passed, nothing left running" in result.stderr


@pytest.mark.parametrize(("at", "name"), [(0, "step 0"), (1, "step 1")])
def test_a_failing_step_is_named_with_its_command_and_the_other_runs_to_its_end(at: int, name: str) -> None:
    steps = ["import time; time.sleep(0.3); print('came', 'through')"]
    steps.insert(at, "raise SystemExit(3)")
    result = _run(*steps)
    assert result.returncode == 1
    assert f"{name} failed with code 3" in result.stderr
    assert "raise SystemExit(3)" in result.stderr
    assert "came through" in result.stdout


def test_an_orphan_that_has_ended_is_gone() -> None:
    result = _run(_ASKING, "import time; time.sleep(1); raise SystemExit(0)")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("needle", ["sleep 987", "sleep 986"])
def test_a_process_that_is_left_running_is_told_and_ended(needle: str) -> None:
    result = _run(_HIDING)
    assert result.returncode == 1
    assert "left running" in result.stderr
    assert needle in result.stderr
    assert subprocess.run(["pgrep", "-f", needle], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_ends_its_steps(name: signal.Signals, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    step = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(985)"
    command = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", _RUN, step]  # as a background job
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        try:
            end_s = time.monotonic() + 60
            while not begun.exists():
                assert time.monotonic() < end_s
                time.sleep(0.05)
            run.send_signal(name)
            _, told = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 1
    assert "the run was interrupted / run it again" in told
    assert subprocess.run(["pgrep", "-f", "sleep.985"], capture_output=True, check=False).returncode == 1
