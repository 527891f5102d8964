"""The official SDKs, each at work in a script of its own (`tests/conformance/clients`) that is told what to do."""

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ROOT

Seen = dict[str, Any]

_ENVIRONMENTS = Path(os.environ.get("STOKER_ENVS_DIR", ROOT / ".stoker" / "envs"))
_CLIENTS = ROOT / "tests" / "conformance" / "clients"


@dataclass(frozen=True)
class Sdk:
    """One SDK at work.

    Attributes:
        name: such as openai-python.
    """

    name: str
    process: "subprocess.Popen[str]"
    lines: "queue.Queue[str]"

    @property
    def is_python(self) -> bool:
        return self.name.endswith("-python")

    def start(self, do: str, **order: Any) -> None:
        """Give an order without waiting for what comes of it; `clients/lines.py` tells the form."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()

    def result(self, limit_s: float = 180.0) -> Seen:
        """What came of the oldest order. Raises: AssertionError: the script has ended, or says nothing."""
        try:
            line = self.lines.get(timeout=limit_s)
        except queue.Empty:
            raise AssertionError(f"{self.name} said nothing for {limit_s:g} s") from None
        assert line, f"{self.name} ended with code {self.process.wait(10)}"
        seen: Seen = json.loads(line)
        return seen

    def ask(self, do: str, **order: Any) -> Seen:
        """Give an order and wait for what comes of it."""
        self.start(do, **order)
        return self.result()


NAMES = ("openai-python", "openai-node", "anthropic-python", "anthropic-node")


@contextmanager
def sdk(name: str) -> Iterator[Sdk]:
    """Start the client script of `openai-python`, `openai-node`, `anthropic-python` or `anthropic-node`."""
    package, _, language = name.partition("-")
    if language == "python":
        command = [str(python_with_sdks()), str(_CLIENTS / f"{package}_client.py")]
    else:
        node, folder = node_with_sdks()
        command = [node, str(_CLIENTS / f"{package}_client.mjs"), str(folder)]
    # Nothing of the caller's surroundings: the SDKs read keys, addresses and proxies from it.
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines))
        reader.start()
        try:
            yield Sdk(name, process, lines)
        finally:
            process.kill()
            reader.join()


def is_possible(name: str) -> bool:
    """Whether this machine has what the SDK needs."""
    return name.endswith("-python") or (shutil.which("node") is not None and shutil.which("npm") is not None)


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


def python_with_sdks() -> Path:
    """The Python that has the SDKs."""
    python = _ENVIRONMENTS / "sdk" / "bin" / "python"
    assert python.exists(), "the SDKs' environment is missing: run ./stoker test once"
    return python


def node_with_sdks() -> tuple[str, Path]:
    """Node, and the folder whose `node_modules` has the SDKs; skips the test where there is no Node."""
    node, folder = shutil.which("node"), _ENVIRONMENTS / "sdk-node"
    if node is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not here: install Node with npm and run ./stoker test again, to test its SDKs too")
    assert (folder / ".stoker-stamp").exists(), "the Node SDKs' environment is missing: run ./stoker test once"
    return node, folder
