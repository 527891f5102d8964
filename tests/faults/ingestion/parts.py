"""The processes that ingestion leans on, each on a port of its own, killed and started again by their tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.engines import INFERENCE_PYTHON, prepare_model
from tests.support.milvus import accepts
from tests.support.network import free_port
from tests.support.process import ROOT, stop
from tests.support.valkey import valkey_command

_READY_S = 90.0


class Part:
    """One process group; `start` begins it, also after `kill`.

    Args:
        ready: asked until it says that the process does its work.
    """

    def __init__(
        self, command: Sequence[str], log: Path, ready: Callable[[], bool], environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._log = log
        self._ready = ready
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin it. Raises: AssertionError: it ends, or is not ready in time; the message holds the end of its log."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        limit_s = time.monotonic() + _READY_S
        while not self._ready():
            said = self._log.read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"{self._command[:4]} ended: {said}"
            assert time.monotonic() < limit_s, f"{self._command[:4]} was not ready within {_READY_S:g} s: {said}"
            time.sleep(0.05)

    def kill(self) -> None:
        """`kill -9` of the process and all that it has started."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @contextmanager
    def killed(self) -> Iterator[None]:
        """`kill -9` while the block runs; then it is started again."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped while the block runs, as on a machine that hangs: it holds its connections and answers nothing."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    @property
    def lives(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """End it politely; one that never began is no error."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)  # one that is frozen hears nothing
            stop(self._process)


def milvus(folder: Path) -> tuple[Part, str]:
    """Returns: the server over a folder of its own, and its URI."""
    port = free_port()
    command = [sys.executable, "-m", "cli.milvuslite", "server", "--data-dir", str(folder / "milvus")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    return Part(command, folder / "milvus.log", lambda: accepts(port)), f"http://127.0.0.1:{port}"


def valkey(folder: Path, environment: Mapping[str, str] | None = None) -> tuple[Part, str]:
    """Returns: a server that forgets everything when it is killed, and its URL."""
    port = free_port()
    command, log = valkey_command(folder, port), folder / "valkey.log"
    return Part(command, log, lambda: accepts(port), environment), f"redis://127.0.0.1:{port}/0"


def embeddings(folder: Path) -> tuple[Part, str]:
    """Returns: the embedding server with its default model, and its address."""
    (model, name), port = prepare_model("embedding"), free_port()
    command = [str(INFERENCE_PYTHON), "-m", "inference.embeddings", "--model", model]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return Part(command, folder / "embeddings.log", healthy), url


def worker(folder: Path, environment: Mapping[str, str]) -> Part:
    """Returns: an ingestion worker; ready when it says so in its log."""
    return _speaking("retrieval.worker", folder / "worker.log", environment)


def keeper(folder: Path, environment: Mapping[str, str]) -> Part:
    """Returns: a keeper; ready when it says so in its log."""
    return _speaking("api.keeper", folder / "keeper.log", environment)


def _speaking(module: str, log: Path, environment: Mapping[str, str]) -> Part:
    log.touch()
    begun = 0

    def ready() -> bool:
        nonlocal begun
        count = log.read_text(errors="replace").count('"ready"')
        if count <= begun:
            return False
        begun = count
        return True

    return Part([sys.executable, "-m", module], log, ready, environment)
