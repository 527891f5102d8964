"""The paced upstream in a process of its own, and the truth that it wrote down."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from tests.load.paced import Planned
from tests.support.gateway import answers
from tests.support.network import free_port
from tests.support.process import running
from tests.support.waiting import until


@dataclass(frozen=True)
class PacedServer:
    """A running one."""

    port: int
    pid: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def truth(self, requests: int) -> dict[str, Planned]:
        """What was planned for each answer, once so many have ended."""
        until(lambda: self.log.read_bytes().count(b"\n") >= requests, f"{requests} answers in {self.log}", 30)
        rows = [Planned(**orjson.loads(line)) for line in self.log.read_bytes().splitlines()]
        return {row.name: row for row in rows}


@contextmanager
def paced_server(folder: Path, *flags: str, prefix: Sequence[str] = ()) -> Iterator[PacedServer]:
    """Start it; `flags` are those of `tests/load/paced.py`, and `prefix` comes before its command."""
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "truth.jsonl"
    log.touch()
    command = [*prefix, sys.executable, "-m", "tests.load.paced", "--port", str(port), "--log", str(log), *flags]
    with running(command, folder / "paced.log", lambda: answers(port, "/v1/models")) as process:
        yield PacedServer(port, process.pid, log)
