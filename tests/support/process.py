"""Server processes under test: started, waited for, and ended by the one who started them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    env: dict[str, str] | None = None,
    timeout_s: float = 150,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends; `ready` is asked until it says so.

    Raises: RuntimeError: it ended or was not ready in time; the message holds the end of its log.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            list(command), cwd=ROOT, env={**os.environ, **(env or {})}, stdout=file, stderr=file, start_new_session=True
        )
    try:
        limit = time.monotonic() + timeout_s
        while not ready():
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{command[0]} was not ready: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], timeout_s: float = 10) -> None:
    """End a process group by SIGTERM, then by SIGKILL; one that has ended is no error."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
            return
