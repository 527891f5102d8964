"""Ends what a killed supervisor leaves behind: `python -m cli.watchman RUN_DIR`.

The kernel kills the supervisor's children with it, but not the children of those (uvicorn's workers, vLLM's engine
core). The watchman holds the reading end of a pipe whose writing end only the supervisor has: when that closes, the
supervisor is gone, and whatever belongs to its run is killed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.process import kill_all
from cli.state import StackState


@contextmanager
def posted(run_dir: Path) -> Iterator[None]:
    """Keep a watchman beside this process; it ends with the block, or soon after this process, however that ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.watchman", str(run_dir)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a signal to the supervisor's group must not reach it
    )
    try:
        yield
    finally:
        assert process.stdin is not None  # asked for above
        process.stdin.close()
        process.wait()


def main() -> None:
    while os.read(0, 1):
        pass
    state = StackState.load(Path(sys.argv[1]))  # absent after an orderly end
    if state is not None:
        kill_all(state.processes)


if __name__ == "__main__":
    main()
