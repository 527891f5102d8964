"""The image of the API side, without an engine: each step of Dockerfile.api is run, what comes of it started."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.container import Container, built, needs_namespaces
from tests.deploy.dockerfile import Stage, read, words
from tests.support.network import free_port
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
BASE_MB = 150
"""Of python:3.11-slim; what people measured lies between 120 and 150 (docs/deploy/gpu-host.md names them)."""
MOST_MB = 500
USER = 10001
TMPFS = ("/tmp", "/run/stoker/metrics", "/var/lib/stoker")
"""What is written; a test holds docker-compose.gpu.yml to mounting these and no others."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return read(ROOT / "Dockerfile.api")


@pytest.fixture(scope="module")
def image(stages: list[Stage], tmp_path_factory: pytest.TempPathFactory) -> Container:
    needs_namespaces()
    return built(tmp_path_factory.mktemp("image"), stages, ROOT)


@pytest.fixture(scope="module")
def env(stages: list[Stage]) -> dict[str, str]:
    """What the image sets, and that this machine is spoken to by nobody else."""
    return {**stages[-1].environment(), "STOKER_HOST": "127.0.0.1", "STOKER_METRICS_HOST": "127.0.0.1"}


def test_the_image_weighs_less_than_half_a_gigabyte(image: Container, figure: Callable[[str], None]) -> None:
    files = [path for path in image.layer.rglob("*") if path.is_file() and not path.is_symlink()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    figure(f"layers of Dockerfile.api {megabytes:.0f} MB, with {BASE_MB} MB of base {megabytes + BASE_MB:.0f} MB")
    assert megabytes > 100, "an image without packages is none"
    assert megabytes + BASE_MB < MOST_MB


def test_nothing_that_builds_and_no_secret_is_in_the_image(image: Container) -> None:
    names = {path.name for path in image.layer.rglob("*")}
    assert not names & {"gcc", "make", "uv", "pip", "slim.py", ".env", ".git", "admin.key"}
    assert {path.name for path in image.path("/app").iterdir()} == {
        "api", "core", "monitoring", "retrieval", "router", "storage",
    }  # fmt: skip


def test_nothing_is_missing_and_nothing_is_compiled_again(image: Container, env: dict[str, str]) -> None:
    """Every module is imported by the unprivileged user in a read-only tree; bytecode is there for each."""
    program = (ROOT / "deploy/image/imports.py").read_text().split("if __name__")[0]
    program += (
        "\nlacking = []\nfor name in modules(): importlib.import_module(name)\n"
        "import os\n"
        "for module in list(sys.modules.values()):\n"
        "    cached = getattr(getattr(module, '__spec__', None), 'cached', None)\n"
        "    file = getattr(module, '__file__', None) or ''\n"
        "    if cached and file.startswith(('/app', '/opt')) and not os.path.exists(cached): lacking.append(file)\n"
        "print(len(sys.modules), lacking)\n"
    )
    done = _run(image, ["python", "-c", program], env)
    count, _, lacking = done.stdout.strip().partition(" ")
    assert int(count) > 2000, done.stderr
    assert lacking == "[]"


@pytest.fixture
def server(image: Container, env: dict[str, str], stages: list[Stage], tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The gateway as compose starts it: read-only, no capabilities, user 10001. Gives: its port and process id."""
    port = free_port()
    command = [*words(stages[-1].last("ENTRYPOINT")), *words(stages[-1].last("CMD"))]
    line = f"python -m storage.migrate && exec {' '.join(command)}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            image.script(f"cd /app && {line}", read_only=True, tmpfs=TMPFS, uid=USER),
            env={**env, "STOKER_PORT": str(port), "PROMETHEUS_MULTIPROC_DIR": "/run/stoker/metrics"},
            stdout=log,
            stderr=log,
        )
    try:
        until(
            lambda: process.poll() is not None or _status(f"http://127.0.0.1:{port}/health/live") == 200,
            f"the gateway: {tmp_path / 'log'}",
            120,
        )
        assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def test_the_gateway_serves_from_a_read_only_tree_as_nobody_in_particular(
    server: tuple[int, int], image: Container, env: dict[str, str], stages: list[Stage]
) -> None:
    port, pid = server
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    with pytest.raises(OSError, match="Read-only file system"):
        Path(f"/proc/{pid}/root/app/planted").write_text("x")
    assert _status(f"http://127.0.0.1:{port}/metrics") == 200
    assert _status(f"http://127.0.0.1:{port}/v1/models") == 401  # the schema is there, and asks who it is

    health = words(stages[-1].last("HEALTHCHECK").partition("CMD ")[2])
    well = [word.replace(":8080/", f":{port}/") for word in health]
    assert well != health
    assert _run(image, well, env).returncode == 0
    ill = [word.replace(":8080/", f":{free_port()}/") for word in health]
    assert _run(image, ill, env).returncode == 1


def test_sigterm_ends_it(server: tuple[int, int]) -> None:
    """The entry is no shell: the signal of `docker stop` reaches Python itself."""
    _, pid = server
    assert b"api" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    os.kill(pid, signal.SIGTERM)
    until(lambda: _ended(pid), "the end", 30)


@pytest.mark.parametrize("module", ["retrieval.worker", "api.keeper"])
def test_worker_and_keeper_run_from_the_same_image(
    image: Container, env: dict[str, str], tmp_path: Path, module: str
) -> None:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            image.script(
                f"cd /app && python -m storage.migrate && exec python -m {module}",
                read_only=True,
                tmpfs=TMPFS,
                uid=USER,
            ),
            env={
                **env,
                "STOKER_METRICS_PORT": str(port),
                "STOKER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",  # away, which is no reason not to start
            },
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: process.poll() is not None or _status(f"http://127.0.0.1:{port}/health") == 200, module, 120)
        assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
        process.terminate()
        until(lambda: process.poll() is not None, f"the end of {module}", 30)
    finally:
        process.kill()
        process.wait()


def _run(image: Container, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    line = "cd /app && exec " + " ".join(_quoted(word) for word in command)
    script = image.script(line, read_only=True, tmpfs=TMPFS, uid=USER)
    return subprocess.run(script, env=env, capture_output=True, text=True, timeout=120, check=False)


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        json.loads(error.read())
        return error.code
    except OSError:
        return 0


def _ended(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"
