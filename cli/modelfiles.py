"""Model files, by the inference side's own command: `python -m inference.models` works, this shows what it says."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.console import Steps, err, short_bytes
from cli.errors import CliError
from cli.settings import ROOT

MODELS_DIR = ROOT / ".stoker" / "models"  # beside the environments: what is made from a package serves every stack
_SAY_EVERY_S = 10.0  # where there is no terminal to draw a bar on


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model: its folder, and the name it is served under."""

    folder: str
    name: str


@dataclass(frozen=True, slots=True)
class Worker:
    """The inference side's command.

    Attributes:
        python: what runs it.
        models_dir: the folder of models.
        log: where the libraries' own chatter goes.
    """

    python: Path
    models_dir: Path
    log: Path

    def prepare(self, steps: Steps, kinds: Collection[str]) -> dict[str, ModelFiles]:
        """Make default models (`llm`, `embedding`), each once. Returns: them by kind. Raises: CliError."""
        found = self.run("prepare", *kinds, steps=steps)["ready"]
        return {kind: ModelFiles(**about) for kind, about in found.items()}

    def pull(self, steps: Steps, name: str, *, if_missing: bool) -> ModelFiles:
        """Fetch a model from the hub. Raises: CliError.

        Args:
            if_missing: a model that is there will do, and the hub is not asked.
        """
        found = self.run("pull", name, *(["--if-missing"] if if_missing else []), steps=steps)
        return ModelFiles(**found["ready"]["model"])

    def run(self, command: str, *words: str, steps: Steps) -> dict[str, Any]:
        """Run one command to its end. Returns: its result. Raises: CliError: it failed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] | None = None
        failure = CliError(f"the model files could not be made: {command} ended without a result", f"read {self.log}")
        with self.log.open("ab") as chatter, self._started(command, words, chatter) as process, _shown(steps) as show:
            assert process.stdout is not None  # asked for below
            try:
                for said in _lines(process.stdout):
                    if "error" in said:
                        failure = CliError(f"models: {said['message']}", said["remedy"])
                    elif "step" in said:
                        show(said)
                    else:
                        result = said
            except BaseException:  # interrupted: it must not go on alone
                process.kill()
                raise
        if process.returncode != 0 or result is None:
            raise failure
        return result

    def _started(self, command: str, words: Sequence[str], chatter: BinaryIO) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.python, "-m", "inference.models", command, "--models-dir", str(self.models_dir), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=chatter,
            text=True,
        )


def _lines(stdout: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What of its output is ours: a library may have printed something of its own."""
    for line in stdout:
        try:
            said = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(said, dict):
            yield said


@contextmanager
def _shown(steps: Steps) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What shows a line of progress: a bar on a terminal, else a line now and then."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    last_s = time.monotonic()  # short work is not worth a line
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bars:
        tasks = {}

        def show(said: dict[str, Any]) -> None:
            nonlocal last_s
            message = str(said.get("message", ""))
            if "bytes" not in said:
                if not said.get("done"):
                    steps.say(f"models: {message}")
                return
            if message not in tasks:
                tasks[message] = bars.add_task(message, total=said["total"])
            bars.update(tasks[message], completed=said["bytes"])
            if not err.is_terminal and time.monotonic() - last_s > _SAY_EVERY_S:
                last_s = time.monotonic()
                steps.say(f"models: {message}: {short_bytes(said['bytes'])} of {short_bytes(said['total'])}")

        yield show
