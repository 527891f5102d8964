"""What fits into this machine, worked out by the inference side's own command, which any Python runs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from cli.errors import CliError
from cli.settings import ROOT


@dataclass(frozen=True, slots=True)
class Sized:
    """A model on this machine.

    Attributes:
        unknown: why nothing can be said; empty where all else is.
        fits: whether it can be served at all, be it with a shorter window than wanted.
        verdict: the same in words.
        window: tokens that can be served; `wanted_window`: that would be.
        sequences: of that window, at once.
        weights: bytes.
        remedy: what to do; empty where it fits as wanted.
        arithmetic: how it came about.
        settings: what the launcher is to be told, by the names of its settings.
    """

    name: str
    unknown: str = ""
    fits: bool = False
    verdict: str = ""
    window: int = 0
    wanted_window: int = 0
    sequences: float = 0.0
    weights: int = 0
    remedy: str = ""
    arithmetic: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    tensor_parallel: int = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """The model that was asked for, and the one chosen when nobody names one."""

    model: Sized | None
    default: Sized | None


def sizes(memory_bytes: int, gpus: int, model: str | None) -> Sizes:
    """Ask for a model and for the default.

    Args:
        memory_bytes: of the smallest GPU, or available where there is none.
        gpus: how many; 0: a CPU.

    Raises: CliError: the command failed.
    """
    command = [sys.executable, "-m", "inference.fit", "--memory", str(memory_bytes), "--gpus", str(gpus)]
    asked = subprocess.run(
        [*command, *(["--model", model] if model else [])],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if asked.returncode != 0:
        raise CliError(f"sizes of models could not be worked out: {asked.stderr[-500:]}", "name a model by --model")
    said = json.loads(asked.stdout)
    return Sizes(_sized(said["model"]), _sized(said["default"]))


def _sized(said: dict[str, Any] | None) -> Sized | None:
    return None if said is None else Sized(**said)
