"""A real Milvus Lite server, as `./stoker up` starts it."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.network import free_port
from tests.support.process import running


@contextmanager
def milvus_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Start a server on a free port over `folder`. Yields: its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [sys.executable, "-m", "cli.milvuslite", "server"]
    command += ["--data-dir", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder / "milvus.log", lambda: accepts(port)):
        yield f"http://127.0.0.1:{port}"


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
