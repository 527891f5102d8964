"""Making the model files ready, by the inference side's own command."""

import json
import os
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cli.console import Steps
from cli.errors import CliError
from cli.settings import ROOT

MODELS_DIR = ROOT / ".stoker" / "models"  # beside the environments: what is made from a package serves every stack


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A default model: its folder, and the name it is served under."""

    folder: str
    name: str


def prepare(python: Path, log: Path, steps: Steps, kinds: Collection[str]) -> dict[str, ModelFiles]:
    """Make default models, each once; says each step as it comes.

    Args:
        python: of the inference environment.
        log: where the libraries' own chatter goes.
        kinds: `llm`, `embedding`.

    Returns: them by kind.
    Raises: CliError: the preparation failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as chatter:
        found, problem = _run(python, chatter, steps, kinds)
    if found is None:
        raise CliError(
            f"the model files could not be made: {problem}", f"{log} may say more; mend that and run the command again"
        )
    return found


def _run(
    python: Path, chatter: BinaryIO, steps: Steps, kinds: Collection[str]
) -> tuple[dict[str, ModelFiles] | None, str]:
    """Returns: the models, or None and the reason."""
    process = subprocess.Popen(
        [python, "-m", "inference.models", "prepare", "--models-dir", str(MODELS_DIR), *kinds],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=chatter,
        text=True,
    )
    assert process.stdout is not None  # asked for above
    problem = "it ended without a result"
    found: dict[str, ModelFiles] | None = None
    try:
        for line in process.stdout:
            try:
                said = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "ready" in said:
                found = {kind: ModelFiles(**about) for kind, about in said["ready"].items()}
            elif "error" in said:
                problem = str(said["error"])
            elif not said.get("done"):
                steps.say(f"models: {said.get('message', '')}")
    except BaseException:  # interrupted: it must not go on alone
        process.kill()
        process.wait()
        raise
    return (found if process.wait() == 0 else None), problem
