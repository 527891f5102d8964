"""An edge as a user serves it: a process of its own, in its own environment."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli import environments
from tests.support.gateway import answers
from tests.support.network import free_port
from tests.support.process import ROOT, running

_DTYPE = {"STOKER_EMBEDDINGS_DTYPE": "float32"}


@dataclass(frozen=True)
class Served:
    """A running edge."""

    url: str
    pid: int
    log: Path
    client: httpx.Client

    def query(self, **body: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/query", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    @property
    def health(self) -> dict[str, Any]:
        return dict(self.client.get("/health").json())


def python() -> str:
    """Of the edge's environment, made where it is missing."""
    environments.EDGE.ensure()
    return str(environments.EDGE.python)


@contextmanager
def serve(
    folder: Path, log: Path, *flags: str, env: Mapping[str, str] | None = None, key: str = "", timeout_s: float = 120
) -> Iterator[Served]:
    """Serve a folder until the block ends."""
    port = free_port()
    command = [python(), "-m", "edge", "--folder", str(folder), "--port", str(port), *flags]
    with running(command, log, lambda: answers(port, "/health"), {**_DTYPE, **(env or {})}, timeout_s) as process:
        url = f"http://127.0.0.1:{port}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield Served(url, process.pid, log, client)


def refused(folder: Path, *flags: str) -> str:
    """What an edge says that does not serve this folder."""
    command = [python(), "-m", "edge", "--folder", str(folder), "--port", str(free_port()), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0, "it was served"
    return done.stderr


def export(url: str, key: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`./stoker edge export` against a gateway."""

    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", "edge", "export", *words],
        cwd=ROOT,
        env={**clean, "STOKER_URL": url, "STOKER_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


class Unplugged:
    """A process in a network namespace of its own, where no interface is but the loopback.

    Args:
        pid: of a process in it.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def post(self, port: int, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask within the namespace."""
        return dict(json.loads(self._run(_ASK, str(port), path, json.dumps(body))))

    def interfaces(self) -> list[str]:
        return list(
            json.loads(self._run("import json, socket; print(json.dumps([n for _, n in socket.if_nameindex()]))"))
        )

    def _run(self, code: str, *words: str) -> str:
        command = ["nsenter", "-t", str(self._pid), "-n", sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


_ASK = """
import sys, urllib.request
port, path, body = sys.argv[1:]
request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), {"content-type": "application/json"})
print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=50).read().decode())
"""
