"""An edge as a user serves it: a process of its own, in its own environment."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from cli import environments
from edge.manifest import NAME, Manifest, sums
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
    folder: Path, log: Path, *flags: str, env: Mapping[str, str] | None = None, key: str = "", timeout_s: float = 300
) -> Iterator[Served]:
    """Serve a folder until the block ends."""
    port = free_port()
    command = [python(), "-m", "edge", "--folder", str(folder), "--port", str(port), *flags]
    with running(command, log, lambda: answers(port, "/health"), {**_DTYPE, **(env or {})}, timeout_s) as process:
        url = f"http://127.0.0.1:{port}"
        headers = {"authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
            yield Served(url, process.pid, log, client)


def refused(folder: Path, *flags: str) -> str:
    """What an edge says that does not serve this folder."""
    command = [python(), "-m", "edge", "--folder", str(folder), "--port", str(free_port()), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0, "it was served"
    return done.stderr


def resign(folder: Path, **changes: Any) -> None:
    """Write the manifest anew, of the files as they are, with changes: what only somebody can who may write there."""
    files = {name: one for name, one in sums(folder).items() if name != NAME}
    replace(Manifest.read(folder), files=files, **changes).write(folder)


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


@dataclass(frozen=True)
class Unplugged:
    """An edge that reaches nothing but itself.

    Attributes:
        how: `namespace`: of its own, with no interface but the loopback, and the folder mounted to be read only;
            `refused`: where the machine allows no namespace, every connection to elsewhere is refused in its process.
    """

    how: str
    port: int
    pid: int

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask from within."""
        return dict(json.loads(self.run(_ASK, str(self.port), path, "" if body is None else json.dumps(body))))

    def run(self, code: str, *words: str) -> str:
        """Run Python within. Raises: CalledProcessError."""
        enter = ["nsenter", "-t", str(self.pid), "-n", "-m"] if self.how == "namespace" else []
        command = [*enter, sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


_ASK = """
import sys, urllib.request
port, path, body = sys.argv[1:]
request = urllib.request.Request(
    f"http://127.0.0.1:{port}{path}", body.encode() or None, {"content-type": "application/json"}
)
print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=50).read().decode())
"""
_WITHIN = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
ip link set lo up
shift
exec "$@"
"""
_REFUSING = """
import errno, ipaddress, socket

_connect = socket.socket.connect

def connect(self, address):
    if self.family != socket.AF_UNIX and not ipaddress.ip_address(address[0]).is_loopback:
        raise OSError(errno.ENETUNREACH, "no network")
    return _connect(self, address)

socket.socket.connect = connect
"""


@contextmanager
def unplugged(folder: Path, log: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Unplugged]:
    """Serve a folder without a network until the block ends."""
    tried = subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, check=False)
    port = free_port()
    command = [python(), "-m", "edge", "--folder", str(folder), "--port", str(port), *flags]
    more = {**_DTYPE, **(env or {})}
    if tried.returncode == 0:
        how, command = "namespace", ["unshare", "-n", "-m", "sh", "-c", _WITHIN, "sh", str(folder), *command]
    else:
        how = "refused"
        patch = log.parent / "refusing"
        patch.mkdir()
        (patch / "sitecustomize.py").write_text(_REFUSING)
        more["PYTHONPATH"] = f"{patch}:{ROOT}"
    with running(command, log, lambda: "Uvicorn running" in log.read_text(), more, 120) as process:
        yield Unplugged(how, port, process.pid)
