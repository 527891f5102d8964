"""Real model servers for tests: started as the command line does, ready when handed out, ended whole."""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.network import free_port

ROOT = Path(__file__).resolve().parents[2]
INFERENCE_PYTHON = ROOT / ".stoker/envs/inference/bin/python"
MODELS_DIR = ROOT / ".stoker/models"
EMBEDDING_QUEUE_TOKENS = 3000  # few, so that tests can overload it
SHORT_QUEUE = ("--max-queue-tokens", str(EMBEDDING_QUEUE_TOKENS), "--max-batch-tokens", "512")
SHARED_ENGINE = "PROMISES_EMBEDDING_ENGINE"  # an `Engine` as JSON: one that runs already


@dataclass(frozen=True, slots=True)
class Engine:
    """A running server.

    Attributes:
        url: without /v1.
        model: the name it serves.
        pid: of its process, which leads its group.
        log: its output.
    """

    url: str
    model: str
    pid: int
    log: Path

    def as_json(self) -> str:
        return json.dumps({"url": self.url, "model": self.model, "pid": self.pid, "log": str(self.log)})


class EngineFailed(AssertionError):
    """It ended, or was not ready in time; the message holds the end of its log."""


def prepare_model(kind: str) -> tuple[str, str]:
    """Returns: a default model's folder and name (`llm` or `embedding`), made where it is missing."""
    command = [str(INFERENCE_PYTHON), "-m", "inference.models", "prepare", "--models-dir", str(MODELS_DIR), kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise EngineFailed(f"model files: {done.stdout[-500:]} {done.stderr[-1500:]}")
    ready = json.loads(done.stdout.splitlines()[-1])["ready"][kind]
    return ready["folder"], ready["name"]


@contextmanager
def start_embeddings(log_dir: Path, *flags: str, ready_s: float = 180) -> Iterator[Engine]:
    """The embedding server with its default model; `flags` are added to its command."""
    folder, name = prepare_model("embedding")
    with _server("inference.embeddings", folder, name, log_dir, flags, _answers_health, ready_s) as engine:
        yield engine


@contextmanager
def start_vllm(
    log_dir: Path, core: int, port: int | None = None, ready_s: float = 240, flags: Sequence[str] = ()
) -> Iterator[Engine]:
    """vLLM's CPU build with its default model in float32, where an answer does not hang on who else is asked.

    Args:
        core: the one that it computes on; two engines that share their cores wait for each other in every step.
        flags: added to its command.
    """
    folder, name = prepare_model("llm")
    with _server(
        "inference.vllm",
        folder,
        name,
        log_dir,
        ("--dtype", "float32", *flags),
        _answers_health,
        ready_s,
        port=port,
        environment={"VLLM_CPU_OMP_THREADS_BIND": str(core)},
    ) as engine:
        yield engine


def kill_engine(engine: Engine) -> None:
    """`kill -9` for the server and every process that computes for it, all in one moment."""
    os.killpg(engine.pid, signal.SIGKILL)


def _below(pid: int) -> Iterator[int]:
    """All processes that come from this one."""
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _below(int(child))


def _core(engine: Engine) -> int:
    found = [pid for pid in _below(engine.pid) if b"EngineCor" in Path(f"/proc/{pid}/comm").read_bytes()]
    assert len(found) == 1, f"processes that compute: {found}"
    return found[0]


@contextmanager
def frozen(engine: Engine) -> Iterator[Callable[[], None]]:
    """Stop what computes; gives what lets it go on, which the block's end does too."""
    core = _core(engine)

    def go_on() -> None:
        os.kill(core, signal.SIGCONT)

    os.kill(core, signal.SIGSTOP)
    try:
        yield go_on
    finally:
        go_on()


@contextmanager
def _server(
    module: str,
    model: str,
    name: str,
    log_dir: Path,
    flags: tuple[str, ...],
    ready: Callable[[str, str], bool],
    ready_s: float,
    end_s: float = 30,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Engine]:
    port = port or free_port()
    log = log_dir / f"{module}.{port}.log"
    command = [str(INFERENCE_PYTHON), "-m", module, "--model", model, "--served-model-name", name]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    engine = Engine(f"http://127.0.0.1:{port}", name, process.pid, log)
    try:
        _await_ready(process, engine, ready, ready_s)
        yield engine
    finally:
        _end(process, end_s)


def _await_ready(
    process: "subprocess.Popen[bytes]", engine: Engine, ready: Callable[[str, str], bool], ready_s: float
) -> None:
    deadline = time.monotonic() + ready_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EngineFailed(f"it ended with {process.returncode}: {engine.log.read_text()[-3000:]}")
        if ready(engine.url, engine.model):
            return
        time.sleep(0.25)
    raise EngineFailed(f"not ready within {ready_s:g} s: {engine.log.read_text()[-3000:]}")


def _end(process: "subprocess.Popen[bytes]", end_s: float) -> None:
    """SIGTERM to the server, then SIGKILL to what is left of its group, engine processes included."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):  # killed below
        process.wait(end_s)
    with contextlib.suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers_health(url: str, _model: str) -> bool:
    return _fetch(urllib.request.Request(f"{url}/health"), 5)


def _fetch(request: urllib.request.Request, timeout_s: float) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            response.read()
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
